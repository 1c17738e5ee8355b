# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: commands, options, and the help that a tired person reads."""

from __future__ import annotations

import argparse

from .. import __version__
from .terminal import columns

_EPILOG = """\
SNAPSHOT is an ID, a name, the beginning of a name that fits only one, or 'latest'.

after a bad upgrade:
  fs-rollback list              see what there is to go back to
  fs-rollback rollback          go back to before the last transaction (asks first)
  reboot
  fs-rollback undo              if it was no help: come back

exit codes: 0 done; 1 failed, machine as before (status, check: something needs attention);
2 usage or configuration; 3 refused, nothing touched (check: would not boot); 4 needs hands;
130 interrupted and undone.
"""


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """With a width of its own: argparse makes one for each option and imports shutil to ask."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=columns() - 2)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; each command sets `command` to its function."""
    found = argparse.ArgumentParser(
        prog="fs-rollback",
        description="Go back to the system as it was before a bad upgrade.",
        epilog=_EPILOG,
        formatter_class=_Formatter,
        allow_abbrev=False,
    )
    found.add_argument("--version", action="version", version=f"fs-rollback {__version__}")
    common = _common()
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(name: str, where: str, text: str, **defaults: object) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".", parents=[common],
            allow_abbrev=False, formatter_class=_Formatter,
        )  # fmt: skip
        command.set_defaults(command=tuple(where.split(".")), **defaults)
        return command

    _json(add("status", "looking.status", "how this machine stands; exit code 1: look at it"))
    _json(
        add("check", "checking.check", "whether the next boot finds all it needs; exit code 3: no")
    )
    _json(add("list", "looking.list_snapshots", "all snapshots, the newest last"))
    show = add("show", "looking.show", "everything about one snapshot")
    _json(show)
    show.add_argument("snapshot", metavar="SNAPSHOT")
    create = add("create", "keeping.create", "take a snapshot now")
    create.add_argument("-m", "--message", metavar="TEXT", help="what it is for")
    for name, pinned, text in (
        ("pin", True, "keep snapshots until they are unpinned"),
        ("unpin", False, "leave snapshots to retention again"),
    ):
        add(name, "keeping.pin", text, pinned=pinned).add_argument(
            "snapshot", metavar="SNAPSHOT", nargs="+"
        )
    add("delete", "keeping.delete", "delete snapshots, or old roots").add_argument(
        "snapshot", metavar="SNAPSHOT", nargs="+"
    )
    prune = add("prune", "keeping.prune", "delete the snapshots that are no longer kept")
    _json(prune)
    prune.add_argument("--dry-run", action="store_true", help="only show what would be deleted")
    rollback = add("rollback", "rolling.roll_back", "go back to a snapshot with the next boot")
    rollback.add_argument(
        "snapshot",
        metavar="SNAPSHOT",
        nargs="?",
        help="default: the one that this machine runs a trial of, else the newest from before a"
        " transaction",
    )
    _rolling(rollback)
    add(
        "try", "trying.try_snapshot", "have the next boot use a copy of a snapshot, once"
    ).add_argument("snapshot", metavar="SNAPSHOT")
    _rolling(add("undo", "rolling.undo", "take back the last rollback"))
    _settling(add("settle", "settling.settle", "finish or take back what was cut off"))
    return found


def _common() -> argparse.ArgumentParser:
    """Return what every command takes: which system it works on."""
    found = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    system = found.add_mutually_exclusive_group()
    system.add_argument(
        "--root",
        metavar="DIR",
        default="/",
        help="work on the system whose root is mounted on DIR, not on the running one",
    )
    system.add_argument(
        "--device",
        metavar="DEV",
        help="work on the system that is on this btrfs device (or UUID=..., LABEL=...) and does"
        " not run; its root and /boot are found and mounted for this command only",
    )
    found.add_argument("--debug", action="store_true", help="show tracebacks")
    return found


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="answer in JSON, for scripts")


def _settling(command: argparse.ArgumentParser) -> None:
    _json(command)
    moment = command.add_mutually_exclusive_group()
    moment.add_argument(
        "--at-boot",
        action="store_true",
        help="at the first boot of a new root, also bring over what the old one wrote to what was"
        " kept after the rollback (for fs-rollback-boot.service)",
    )
    moment.add_argument(
        "--missed",
        action="store_true",
        help="say so if --at-boot was stopped in the middle, and leave what it has not brought over"
        " where it is (for fs-rollback-boot.service)",
    )


def _rolling(command: argparse.ArgumentParser) -> None:
    _json(command)
    command.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
    command.add_argument("-y", "--yes", action="store_true", help="do it without asking")
    command.add_argument(
        "--keep",
        metavar="PATH",
        action="append",
        default=[],
        help="take this along from the present root, beside what the configuration keeps",
    )
    command.add_argument(
        "--no-keep",
        action="store_true",
        help="do not take along what the configuration keeps: it goes back too",
    )
