# SPDX-License-Identifier: GPL-2.0-or-later
"""`diff`: what differs between two snapshots, or a snapshot and the running system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from ...core.snapshots.snapshot import Snapshot, Subvolume
    from ...system.machine.host import Host


def arguments(parser: ArgumentParser) -> None:
    """Add what `diff` takes."""
    command.json(parser)
    command.snapshot(parser, first="from this one: ")
    parser.add_argument(
        "other", metavar="OTHER", nargs="?", help="to this one; default: the running system"
    )
    parser.add_argument("--etc", action="store_true", help="the same as --path /etc")
    parser.add_argument(
        "--path",
        metavar="PATH",
        action="append",
        default=[],
        help="only files at or below this absolute path; may be given several times",
    )
    parser.add_argument(
        "--patch", action="store_true", help="show what changed in text files, as diff -u does"
    )
    parser.add_argument(
        "--changelog", action="store_true", help="show what is new in the packages' changelogs"
    )
    parser.add_argument("--all", action="store_true", help="list every file by its name")


def run(args: Namespace) -> int:
    """`diff`: packages, advisories and files; exit code 1 where something cannot be compared."""
    from ...system.comparison import roots
    from .. import session
    from ..comparison import text
    from ..comparison.gather import Wanted, gather
    from ..screen import colour, pager
    from . import snapshots

    wanted = Wanted(_places(args), args.patch, args.changelog)
    with session.reading(args.root) as (host, store):
        known = snapshots.load(host, store)
        old, before = _side(host, known, args.snapshot)
        new, after = _side(host, known, args.other)
        with roots.compared(host, old, new, asks_dnf=not wanted.places) as comparison:
            found = gather(comparison, wanted)
    if args.json:
        text.print_json(found, before, after)
    else:
        every = args.all or bool(wanted.places)
        paint = colour.paint(args.color)
        pager.show(text.text(found, (before, after), paint, every=every))
    for problem in found.problems:
        session.note(problem)
    return 1 if found.packages is None or found.files is None else 0


def _places(args: Namespace) -> tuple[str, ...]:
    from ...core.formats.mountinfo import checked_path
    from ...errors import UsageError

    try:
        return tuple(checked_path(path) for path in (*args.path, *["/etc"] * args.etc))
    except ValueError as error:
        hint = "Give the full path, such as /etc/ssh."
        raise UsageError(f"--path takes an absolute path, not {error}", hint=hint) from error


def _side(
    host: Host, snapshots: Sequence[Snapshot], reference: Optional[str]
) -> tuple[Subvolume, Optional[Snapshot]]:
    """Return the subvolume that is meant, and its snapshot; None for that of the system."""
    from ...core.snapshots.names import label, resolve
    from ...errors import UsageError

    if reference is None:
        return host.root_subvolume, None
    found = resolve(reference, snapshots)
    if found.subvolume is None:
        raise UsageError(
            f"{label(found)} was deleted: there is nothing to compare",
            hint="'fs-rollback list' shows all snapshots.",
        )
    return found.subvolume, found


_HELP = "show what differs between two snapshots, or a snapshot and the running system"
COMMAND = command.Command(_HELP, arguments, run, reads=True)
