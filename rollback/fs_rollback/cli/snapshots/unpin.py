# SPDX-License-Identifier: GPL-2.0-or-later
"""`unpin`: end what `pin` began."""

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
    """`unpin`: let retention delete snapshots again."""
    return set_pinned(args, pinned=False)


COMMAND = command.Command("allow pinned snapshots to be deleted again", arguments, run)
