# SPDX-License-Identifier: GPL-2.0-or-later
"""`restore`: single files and directories of a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from datetime import datetime

    from ...core.snapshots.snapshot import Snapshot
    from ...system.access.paths import Item
    from ...system.access.privileges import Found
    from ...system.access.workplace import Move
    from ...system.machine.host import Host
    from ...system.store.store import Store


def arguments(parser: ArgumentParser) -> None:
    """Add what `restore` takes."""
    command.json(parser)
    command.dry_run(parser, "show what would be restored, change nothing")
    command.yes(parser)
    parser.add_argument(
        "--aside",
        metavar="DIR",
        help="restore into this directory and leave the current files alone",
    )
    command.snapshot(parser)
    parser.add_argument("path", metavar="PATH", nargs="+", help="a file or a directory")


_MOST_NAMES = 5


class _Proposal(NamedTuple):
    """What is asked about: a snapshot, its paths, and what becomes of them.

    Files that are setuid, setgid or have capabilities lose that if not `keeps_privileges`.
    """

    snapshot: Snapshot
    items: tuple[Item, ...]
    moves: tuple[Move, ...]
    keeps_privileges: bool


class _Known(NamedTuple):
    """What is found out once for it: packages, and files with privileges, of each path."""

    packages: dict[str, tuple[str, ...]]
    privileged: dict[str, Found]


def run(args: Namespace) -> int:
    """`restore`: restore paths from a snapshot, in place or into another directory."""
    from datetime import datetime

    from ...errors import RefusedError
    from ...system.access import privileges, restore
    from ...system.execute import executor
    from ...system.store import trace
    from .. import session
    from ..terminal import progress

    now = datetime.now().astimezone()
    with session.reading(args.root) as (host, found):
        if found is None:
            raise session.no_store(host)
        proposal = _propose(args, host, found, now)
        privileged = privileges.of_items(
            host, proposal.snapshot, proposal.items, all_files=not proposal.keeps_privileges
        )
        known = _Known(_packages(args, host, proposal), privileged)
    answer = _answer(args, proposal, known)
    if not args.json:
        print(_text(args, proposal, known))
    # --aside replaces nothing, so it needs no answer.
    if args.dry_run or not session.confirm("Restore?", yes=args.yes or args.aside is not None):
        return session.unchanged(args, answer)
    with session.writing(args.root) as (host, store):
        for line in restore.settle(host, args.aside):
            session.note(f"an earlier restore was interrupted: {line}")
        again = _propose(args, host, store, now)
        # The record may have changed, which the next command completes after a transaction.
        if again._replace(snapshot=proposal.snapshot) != proposal:
            raise RefusedError(
                "the files to restore or replace have changed since they were shown",
                hint="Nothing was changed. Run the command again.",
            )
        with executor.finishing():
            with progress("copying", "files") as told:
                restore.carry_out(host, again.snapshot, again.moves, args.aside, told)
            what = ", ".join(f"/{move.path}" for move in again.moves)
            event = trace.Event("restored", again.snapshot.name, again.snapshot.id, reason=what)
            trace.tell(host, event)
            answer["done"] = True
            return session.reply(args, answer, "Restored.")


def _propose(args: Namespace, host: Host, store: Store, now: datetime) -> _Proposal:
    """Return what would be done. Raises UsageError and RefusedError."""
    from ...core.snapshots.names import resolve
    from ...errors import RefusedError, UsageError
    from ...system.access import paths, privileges, restore
    from ...system.pending import state

    snapshot = resolve(args.snapshot, store.load())
    if not snapshot.exists:
        raise RefusedError(
            f"{snapshot.name} was deleted: only its record is left",
            hint="'fs-rollback list' shows all snapshots.",
        )
    is_aside = args.aside is not None
    if not is_aside:
        state.refuse_while_waiting(host, state.look(host, store))
    items = tuple(paths.find(host, snapshot, args.path, is_aside=is_aside))
    if not is_aside:
        moves = tuple(restore.plan(host, items, now))
        return _Proposal(snapshot, items, moves, keeps_privileges=True)
    import os

    if not os.path.isdir(args.aside):
        hint = f"Create it: mkdir {args.aside}"
        raise UsageError(f"{args.aside} is not a directory", hint=hint)
    moves = tuple(restore.plan_aside(items, args.aside))
    is_private = privileges.are_kept(args.aside)
    return _Proposal(snapshot, items, moves, keeps_privileges=is_private)


def _packages(args: Namespace, host: Host, proposal: _Proposal) -> dict[str, tuple[str, ...]]:
    """Return the packages that have files at each path; {} where nothing in the root changes."""
    from ...system.access import owners
    from ...system.comparison.database import DatabaseError
    from .. import session

    if args.aside is not None:
        return {}
    try:
        return owners.packages(host, proposal.snapshot, proposal.items)
    except DatabaseError as error:  # only a warning is missing, and the note says so
        session.note(f"cannot tell whether these files belong to packages: {error}")
        return {}


def _place(args: Namespace, move: Move) -> str:
    """Return where a path comes to, as people write it."""
    import os

    return f"/{move.place}" if args.aside is None else os.path.join(args.aside, move.place)


def _answer(args: Namespace, proposal: _Proposal, known: _Known) -> dict[str, Any]:
    rows = [
        {
            "path": f"/{item.path}",
            "kind": item.kind,
            "place": _place(args, move),
            "kept": f"/{move.kept}" if move.kept else None,
            "left_out": [f"/{path}" for path in item.left_out],
            "packages": list(known.packages.get(item.path, ())),
            "boot": _is_for_boot(args, item),
            "privileged": known.privileged[item.path].come,
            "privileged_kept": known.privileged[item.path].stay,
        }
        for item, move in zip(proposal.items, proposal.moves)
    ]
    return {
        "snapshot": proposal.snapshot.name,
        "keeps_privileges": proposal.keeps_privileges,
        "paths": rows,
        "done": False,
    }


def _text(args: Namespace, proposal: _Proposal, known: _Known) -> str:
    from ...core.snapshots.names import label
    from ...report import clean, local_time
    from ..advice import addressed
    from ..terminal import table_width, wrapped

    snapshot = proposal.snapshot
    taken = local_time(snapshot.created)
    lines = [f"Restore from snapshot {label(snapshot)}, taken {taken}:"]
    for item, move in zip(proposal.items, proposal.moves):
        place = _place(args, move)
        lines.append(f"  {item.kind} /{item.path}" + (f" as {place}" if args.aside else ""))
        if move.kept:
            lines.append(f"    the current one is kept as /{move.kept}")
        lines += [f"    without the subvolume /{path} in it" for path in item.left_out]
        if owners := known.packages.get(item.path):
            some = ", ".join(owners[:_MOST_NAMES])
            more = f" and {len(owners) - _MOST_NAMES} more" if len(owners) > _MOST_NAMES else ""
            of = "package" if len(owners) == 1 else "packages"
            lines.append(f"    Warning: this includes files of the {of} {some}{more}")
    if known.packages:
        lines.append(
            "'rpm -V' will report these files as changed. 'dnf reinstall PACKAGE' undoes that."
        )
    lines += _privileges(args, proposal, known)
    if boot := [f"/{item.path}" for item in proposal.items if _is_for_boot(args, item)]:
        lines.append(
            f"Warning: the next boot depends on {', '.join(boot)}. Run 'fs-rollback check'"
            " afterwards to see whether this machine still boots."
        )
    text, width = addressed("\n".join(clean(line) for line in lines), args), table_width()
    return "\n".join(part for line in text.split("\n") for part in wrapped("", line, 4, width))


def _is_for_boot(args: Namespace, item: Item) -> bool:
    from ...core.boot import needed

    return args.aside is None and needed.by_next_boot(item.path)


def _privileges(args: Namespace, proposal: _Proposal, known: _Known) -> list[str]:
    """Return what to say of files that are setuid, setgid or have capabilities."""
    come = sum(found.come for found in known.privileged.values())
    stay = sum(found.stay for found in known.privileged.values())
    lines = []
    if come and not proposal.keeps_privileges:
        lines.append(
            "Restored files that lose setuid, setgid or capabilities, because other users can"
            f" reach {args.aside}: {come}"
        )
    if come and args.aside is None:
        lines.append(
            "Warning: restored files with setuid, setgid or capabilities, and with the security"
            f" holes of their old version: {come}"
        )
    if stay:
        lines.append(
            "Warning: files with setuid, setgid or capabilities that are kept beside the restored"
            f" ones, where no update replaces them: {stay}. Delete those that you do not need."
        )
    return lines


_HELP = "bring single files or directories back from a snapshot"
COMMAND = command.Command(_HELP, arguments, run, is_undone=True)
