# SPDX-License-Identifier: GPL-2.0-or-later
"""The command line: commands, options, and the help that a tired person reads."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from .. import __version__
from .terminal import columns

if TYPE_CHECKING:
    from collections.abc import Callable

    _Add = Callable[..., argparse.ArgumentParser]

_EPILOG = """\
SNAPSHOT is an ID, a name, the beginning of a name that fits only one, or 'latest'.

after a bad upgrade:
  fs-rollback list              see what there is to go back to
  fs-rollback rollback          go back to before the last transaction (asks first)
  reboot
  fs-rollback undo              if it was no help: come back, with another reboot

exit codes: 0 done; 1 failed, machine as before (status, check: something needs attention);
2 usage or configuration; 3 refused, nothing touched (check: would not boot); 4 needs hands: do
what is printed, then 'fs-rollback settle'; 130 interrupted and undone.
"""


_ON_DEVICE = (
    "work on the system that is on this btrfs device (or UUID=..., LABEL=...) and does not run; its"
    " root and /boot are found and mounted for this command only"
)
_CONVERTED = "the device of the root (or UUID=..., LABEL=...), which is mounted nowhere"

_WHICH = "an ID, a name, the beginning of a name, or 'latest'"


_TASKS = (
    ("balance", "pack data chunks that are not full, and metadata: no way back to ext4 after this"),
    ("remove-ext4", "delete ext2_saved, without asking: no way back to ext4 after this"),
    ("defragment", "defragment all files: no way back to ext4 after this"),
    ("free-space-tree", "have the next boot make one, where there is none yet"),
    ("layout", "the root becomes the subvolume root, /home becomes home; two reboots"),
)


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

    _add_looking(add)
    _add_keeping(add)
    _add_going(add)
    _add_converting(commands.add_parser)
    return found


def _add_looking(add: _Add) -> None:
    _json(
        add(
            "status",
            "looking.status",
            "what runs, what boots next, what waits; exit code 1: look at it",
        )
    )
    _json(
        add("check", "checking.check", "whether the next boot finds all it needs; exit code 3: no")
    )
    _json(add("list", "looking.list_snapshots", "all snapshots, the newest last"))
    show = add("show", "looking.show", "everything about one snapshot")
    _json(show)
    show.add_argument("snapshot", metavar="SNAPSHOT", help=_WHICH)


def _add_keeping(add: _Add) -> None:
    create = add("create", "keeping.create", "take a snapshot now")
    create.add_argument("-m", "--message", metavar="TEXT", help="what it is for")
    for name, pinned, text in (
        ("pin", True, "keep snapshots until they are unpinned"),
        ("unpin", False, "leave snapshots to retention again"),
    ):
        add(name, "keeping.pin", text, pinned=pinned).add_argument(
            "snapshot", metavar="SNAPSHOT", nargs="+", help=_WHICH
        )
    add(
        "delete",
        "keeping.delete",
        "delete snapshots or old roots without asking, but none that is in use or pinned",
    ).add_argument("snapshot", metavar="SNAPSHOT", nargs="+", help=_WHICH)
    prune = add("prune", "keeping.prune", "delete the snapshots that are no longer kept")
    _json(prune)
    prune.add_argument("--dry-run", action="store_true", help="only show what would be deleted")


def _add_going(add: _Add) -> None:
    rollback = add("rollback", "rolling.roll_back", "go back to a snapshot with the next reboot")
    rollback.add_argument(
        "snapshot",
        metavar="SNAPSHOT",
        nargs="?",
        help=f"{_WHICH}; default: the one that this machine runs a trial of, else the newest from"
        " before a transaction",
    )
    _rolling(rollback)
    add(
        "try",
        "trying.try_snapshot",
        "have the next boot use a writable copy of a snapshot, once; it does not reboot",
    ).add_argument("snapshot", metavar="SNAPSHOT", help=_WHICH)
    _rolling(
        add(
            "undo",
            "rolling.undo",
            "cancel a waiting rollback, or return to the root before the last one",
        )
    )
    _settling(
        add(
            "settle",
            "settling.settle",
            "after a power cut or exit code 4: finish what was begun or take it back, and say"
            " which",
        )
    )


def _add_converting(add_command: _Add) -> None:
    text = "from an ext4 root to a btrfs one, and back"
    convert = add_command(
        "convert", help=text, description=text[0].upper() + text[1:] + ".",
        allow_abbrev=False, formatter_class=_Formatter,
    )  # fmt: skip
    actions = convert.add_subparsers(title="actions", metavar="ACTION", required=True)

    def add(name: str, where: str, text: str, device: str = _CONVERTED) -> argparse.ArgumentParser:
        found = actions.add_parser(
            name, help=text, description=text[0].upper() + text[1:] + ".",
            parents=[_common(device)], allow_abbrev=False, formatter_class=_Formatter,
        )  # fmt: skip
        found.set_defaults(command=tuple(where.split(".")))
        return found

    check = add("check", "converting.check", "whether the root can be converted; exit code 3: no")
    _json(check)
    _backed_up(check)
    # Whoever gives these a device is told that they work on what runs.
    unused = argparse.SUPPRESS
    text = "make an ext4 root ready to become btrfs; asks first"
    prepare = add("prepare", "converting.prepare", text, unused)
    prepare.add_argument(
        "--at-next-boot",
        action="store_true",
        help="convert at the next boot, before the root is mounted, without a rescue system",
    )
    _backed_up(prepare)
    run = add("run", "converting.run", "convert the prepared root on --device, not mounted")
    run.add_argument(
        "--back", action="store_true", help="make it ext4 again, as it was at the conversion"
    )
    _backed_up(run)
    text = "after a good boot on btrfs: verify, ask for what is left"
    finish = add("finish", "finishing.finish", text, unused)
    for option, what in _TASKS:
        finish.add_argument(f"--{option}", action="store_true", help=what)
    text = "take back what prepare has done, on ext4 still"
    abort = add("abort", "converting.abort", text, unused)
    for changing in (prepare, run, finish, abort):
        changing.add_argument("-y", "--yes", action="store_true", help="do it without asking")
    for planned in (prepare, finish, abort):
        planned.add_argument("--dry-run", action="store_true", help="show the plan, change nothing")
        _json(planned)


def _backed_up(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--have-backup",
        action="store_true",
        help="there is a backup on another disk, and something was read back from it",
    )


def _common(device: str = _ON_DEVICE) -> argparse.ArgumentParser:
    """Return what every command takes: which system it works on. `device` is the help of that."""
    found = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    system = found.add_mutually_exclusive_group()
    system.add_argument(
        "--root",
        metavar="DIR",
        type=_directory,
        default="/",
        help="work on the system whose root is mounted on DIR, not on the running one",
    )
    system.add_argument(
        "--device",
        metavar="DEV",
        help=device,
    )
    found.add_argument("--debug", action="store_true", help="show tracebacks")
    return found


def _directory(text: str) -> str:
    """Refuse what a script gives whose variable is not set; it would be where it happens to run."""
    if not text:
        raise argparse.ArgumentTypeError("no directory is given")
    return text


def _json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="answer in JSON, for scripts")


def _settling(command: argparse.ArgumentParser) -> None:
    _json(command)
    moment = command.add_mutually_exclusive_group()
    moment.add_argument(
        "--at-boot",
        action="store_true",
        help="for fs-rollback-boot.service: bring over what the old root wrote to the kept paths"
        " between the rollback and this boot",
    )
    moment.add_argument(
        "--forget",
        action="store_true",
        help="drop a rollback whose new root another tool has replaced: keep the root that boots"
        " now, move and delete nothing, pin the old root",
    )
    moment.add_argument(
        "--missed",
        action="store_true",
        help="for fs-rollback-boot.service: say what --at-boot did not come to when it was stopped",
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
        help="do not take along what the configuration keeps: it goes back too, and what is newer"
        " stays in the old root",
    )
