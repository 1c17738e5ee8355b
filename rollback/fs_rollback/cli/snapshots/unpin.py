# SPDX-License-Identifier: GPL-2.0-or-later
"""`unpin`: the way back from `pin`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command
from .pin import set_pinned

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `unpin` takes."""
    command.json(parser)
    command.snapshot(parser, "+")


def run(args: Namespace) -> int:
    """`unpin`: leave a snapshot to retention again."""
    return set_pinned(args, pinned=False)


COMMAND = command.Command("leave snapshots to retention again", arguments, run)
