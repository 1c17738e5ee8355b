# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: which commands there are, what all of them take, and the help for all."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import __version__
from ..errors import UsageError
from .parsers import Parser
from .terminal import columns, wrapped

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
HELP = "help"
# The wing, by name: it may not be installed.
CONVERT = "convert"
_WING = "fs_rollback.convert"
_WING_PACKAGE = "fs-rollback-convert"
_WING_TEXT = "convert an ext4 root to btrfs, or back"

# The groups of the help: the room of their commands, and the heading.
_GROUPS = {
    "reading": "Look",
    "snapshots": "Take and delete snapshots",
    "access": "Use what is in a snapshot",
    "rollback": "Go back",
    "guard": "Go back automatically",
}
_OTHER_GROUP = "Other"
_HELP_TEXT = "show this help, or the help of a command"
_USAGE = "fs-rollback COMMAND [OPTION]... [SNAPSHOT]..."
_NIGHT = """\
Go back to the system as it was before a bad upgrade. All commands need root.

After a bad upgrade:
  fs-rollback rollback    go back to before the last transaction; asks first
  reboot
  fs-rollback undo        didn't help? return to the upgraded system
  reboot"""
_MORE = (
    "SNAPSHOT is an ID or a name from 'fs-rollback list', the beginning of a name that fits only"
    " one, or 'latest'.",
    "'fs-rollback help COMMAND' shows the options of a command. The manual page fs-rollback(8) has"
    " everything: 'man fs-rollback'.",
    "Exit status: 0 done; 1 failed, machine as before (status, check: something needs attention);"
    " 2 wrong usage or configuration; 3 refused, nothing changed (check: would not boot); 4 repair"
    " needed: do what is printed, then 'fs-rollback settle'; 130 interrupted and undone.",
)
_ON_DEVICE = (
    "work on the system on this btrfs device (or UUID=..., LABEL=...), which must not be running;"
    " its root and /boot are mounted for this command only"
)


class _Program(Parser):
    """The parser of the program, whose help has the commands in groups."""

    own = ("-h", "--help", "--version")

    def __init__(self) -> None:
        super().__init__(prog="fs-rollback", usage=_USAGE)
        self.add_argument("--version", action="version", version=f"fs-rollback {__version__}")
        self.lines: dict[str, list[tuple[str, str]]] = {}

    def format_help(self) -> str:
        """Return what --help prints."""
        width = columns()
        lines = [f"usage: {_USAGE}", "", _NIGHT]
        for heading, rows in self.lines.items():
            lines += ["", f"{heading}:"]
            for name, text in rows:
                lines += wrapped(f"    {name:8}  ", text, 14, width)
        for text in _MORE:
            lines += ["", *wrapped("", text, 0, width)]
        return "\n".join(lines) + "\n"


def parser(given: Sequence[str] = ()) -> Parser:
    """Return the parser of the command line, which sets `command` to the Command that is named.

    If `given` begins with a command, no other is in it, nor imported. Raises UsageError if that
    is `convert` and is not installed.
    """
    found = _Program()
    # Their help is in that of the program, and completion has it from each.
    commands = found.add_subparsers(
        metavar="COMMAND",
        required=True,
        prog="fs-rollback",
        help=argparse.SUPPRESS,
        parser_class=Parser,
    )
    every = (*COMMANDS, CONVERT, HELP)
    wanted = given[:1] if given and given[0] in every else every
    for name in wanted:
        text = _HELP_TEXT
        if name in COMMANDS:
            command: Command = import_module(f"fs_rollback.cli.{COMMANDS[name]}").COMMAND
            add(commands, name, command, _ON_DEVICE)
            text = command.help
        elif name == HELP:
            _add_help(commands)
        else:
            text = _add_wing(commands, is_needed=name in given[:1])
        room = COMMANDS.get(name, "").partition(".")[0]
        found.lines.setdefault(_GROUPS.get(room, _OTHER_GROUP), []).append((name, text))
    return found


def add(commands: Commands, name: str, command: Command, device: str) -> None:
    """Add the parser of a command; `device` is its help for --device."""
    made = add_parser(commands, name, command.help)
    made.set_defaults(command=command)
    _add_common(made, device)
    command.arguments(made)


def add_parser(commands: Commands, name: str, text: str) -> Parser:
    """Add a parser with its line in the help."""
    made: Parser = commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + "."
    )
    return made


def _add_help(commands: Commands) -> None:
    """Add what main() turns into --help of the command that is named."""
    made = add_parser(commands, HELP, _HELP_TEXT)
    made.add_argument("topic", metavar="COMMAND", nargs="?", help="show the help of this command")
    made.add_argument(
        "action", metavar="ACTION", nargs="?", help="show the help of this action of the command"
    )


def _add_wing(commands: Commands, *, is_needed: bool) -> str:
    """Add `convert`, and return its line in the help."""
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
        text = f"in the package {_WING_PACKAGE}: {_WING_TEXT}"
        add_parser(commands, CONVERT, text)
        return text
    wing.arguments(add_parser(commands, CONVERT, _WING_TEXT), actions)
    return _WING_TEXT


def _add_common(parser: argparse.ArgumentParser, device: str) -> None:
    """Add what every command takes: which system it works on, and how it speaks."""
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
        help="show on standard error each program started, each change made, and tracebacks",
    )
    parser.add_argument(
        "--color",
        metavar="WHEN",
        choices=("auto", "always", "never"),
        default="auto",
        help="use colors: auto (the default: on a terminal), always or never",
    )
