# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the command line that the wing has: `fs-rollback convert ACTION`."""

from __future__ import annotations

from argparse import SUPPRESS
from importlib import import_module
from typing import TYPE_CHECKING

from ...cli.arguments import add

if TYPE_CHECKING:
    from argparse import ArgumentParser
    from collections.abc import Mapping

    from ...cli.command import Command

# Each is a file beside this one, in the order of the help.
ACTIONS = ("check", "prepare", "run", "finish", "abort")
_CONVERTED = "the device of the root (or UUID=..., LABEL=...); it must not be mounted"
_WITH_DEVICE = ("check", "run")


def load() -> dict[str, Command]:
    """Return the actions by name. Raises ImportError where one of them is missing."""
    return {name: import_module(f"{__package__}.{name}").COMMAND for name in ACTIONS}


def arguments(parser: ArgumentParser, loaded: Mapping[str, Command]) -> None:
    """Add the actions that were loaded to the parser of `convert`."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    for name, command in loaded.items():
        # Whoever gives the others a device is told that they work on what runs.
        add(actions, name, command, _CONVERTED if name in _WITH_DEVICE else SUPPRESS)


def have_backup(parser: ArgumentParser) -> None:
    """Add --have-backup."""
    parser.add_argument(
        "--have-backup",
        action="store_true",
        help="confirm that you have a backup on another disk, and have read something back from it",
    )
