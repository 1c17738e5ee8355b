# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: which commands there are, what all of them take, and the help for all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import UsageError
from .terminal import columns

if TYPE_CHECKING:
    from .command import Command

    # What add_subparsers() returns; argparse has no public name for it.
    Commands = Any

# Each command and its file, in the order of the help.
COMMANDS = {
    "status": "reading.status",
    "check": "reading.check",
    "list": "reading.list",
    "show": "reading.show",
    "diff": "reading.diff",
    "log": "reading.log",
    "create": "snapshots.create",
    "pin": "snapshots.pin",
    "unpin": "snapshots.unpin",
    "delete": "snapshots.delete",
    "prune": "snapshots.prune",
    "restore": "access.restore",
    "mount": "access.mount",
    "umount": "access.umount",
    "shell": "access.shell",
    "rollback": "rollback.rollback",
    "try": "rollback.try_once",
    "undo": "rollback.undo",
    "settle": "rollback.settle",
    "guard": "guard.guard",
}
# The wing, by name: it may not be installed.
CONVERT = "convert"
_WING = "fs_rollback.convert"
_WING_PACKAGE = "fs-rollback-convert"
_WING_TEXT = "from an ext4 root to a btrfs one, and back"

_EPILOG = """\
SNAPSHOT is an ID, a name, the beginning of a name that fits only one, or 'latest'.

after a bad upgrade:
  fs-rollback list              see what there is to go back to
  fs-rollback rollback          go back to before the last transaction (asks first)
  reboot
  fs-rollback undo              if it was no help: come back, with another reboot

exit codes: 0 done; 1 failed, machine as before (status, check: something needs
attention); 2 usage or configuration; 3 refused, nothing touched (check: would
not boot); 4 needs hands: do what is printed, then 'fs-rollback settle';
130 interrupted and undone.
"""
_ON_DEVICE = (
    "work on the system that is on this btrfs device (or UUID=..., LABEL=...) and does not run; its"
    " root and /boot are found and mounted for this command only"
)


# What argparse has translated. Python brings no translations, and to look for them eight times
# takes as long as to make the parser.
vars(argparse)["_"] = str


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """With a width of its own: argparse makes one for each option and imports shutil to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)


def parser(given: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of the command line, which sets `command` to the Command that is named.

    If `given` begins with a command, no other is in it, nor imported. Raises UsageError if that
    is `convert` and is not installed.
    """
    found = argparse.ArgumentParser(
        prog="fs-rollback",
        description="Go back to the system as it was before a bad upgrade.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    found.add_argument("--version", action="version", version=f"fs-rollback {__version__}")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    every = (*COMMANDS, CONVERT)
    wanted = given[:1] if given and given[0] in every else every
    for name in wanted:
        if name != CONVERT:
            command: Command = import_module(f"fs_rollback.cli.{COMMANDS[name]}").COMMAND
            add(commands, name, command, _ON_DEVICE)
        else:
            _add_wing(commands, is_needed=name in given[:1])
    return found


def add(commands: Commands, name: str, command: Command, device: str) -> None:
    """Add the parser of a command; `device` is its help for --device."""
    made = add_parser(commands, name, command.help)
    made.set_defaults(command=command)
    _add_system(made, device)
    command.arguments(made)


def add_parser(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    """Add a parser with its line in the help."""
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".",
        allow_abbrev=False, formatter_class=_Formatter,
    )  # fmt: skip
    return made


def _add_wing(commands: Commands, *, is_needed: bool) -> None:
    try:
        wing = import_module(f"{_WING}.commands.actions")
        actions = wing.load()
    except ModuleNotFoundError as error:  # a package of its own, which may come or go now
        if not (error.name or "").startswith(_WING):
            raise
        if is_needed:
            raise UsageError(
                f"'fs-rollback convert' is in the package {_WING_PACKAGE}, which is not installed",
                hint=f"Run: dnf install {_WING_PACKAGE}",
            ) from error
        add_parser(commands, CONVERT, f"in the package {_WING_PACKAGE}: {_WING_TEXT}")
    else:
        wing.arguments(add_parser(commands, CONVERT, _WING_TEXT), actions)


def _add_system(parser: argparse.ArgumentParser, device: str) -> None:
    """Add what every command takes: which system it works on."""
    system = parser.add_mutually_exclusive_group()
    system.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="work on the system whose root is mounted on DIR, not on the running one",
    )
    system.add_argument(
        "--device",
        metavar="DEV",
        help=device,
    )
    parser.add_argument(
        "--debug",
        action="store_true",
        help="show tracebacks, and each program started and change made, on standard error",
    )
