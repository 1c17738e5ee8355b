# SPDX-License-Identifier: GPL-2.0-or-later
"""`delete`: snapshots, old roots."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...core.snapshots.snapshot import Snapshot


def arguments(parser: ArgumentParser) -> None:
    """Add what `delete` takes."""
    command.json(parser)
    command.snapshot(parser, "+")
    command.dry_run(parser, "only show how much space this would free")


def run(args: Namespace) -> int:
    """`delete`: delete snapshots; continues after a failure and says which failed."""
    from ...core.snapshots.names import label, resolve
    from ...errors import Error, UsageError
    from ...system.root import roots_in_use
    from ...system.snapshots import saved_kernels, take_and_delete
    from ...system.store import trace
    from .. import session
    from ..terminal import Bar

    if args.dry_run:
        return _dry_run(args)
    failures: list[Error] = []
    rows = []
    writing = session.writing(args.root, makes_room=True)
    with writing as (host, store), Bar("deleting", "snapshots") as bar:
        snapshots = store.load()
        try:
            chosen = list(dict.fromkeys(resolve(ref, snapshots).name for ref in args.snapshot))
        except UsageError as error:
            raise UsageError(f"{error.message}; nothing was deleted", hint=error.hint) from error
        in_use = roots_in_use.read(host)
        by_name = {snapshot.name: snapshot for snapshot in snapshots}
        for number, name in enumerate(chosen):
            bar(number, len(chosen))
            try:
                take_and_delete.delete(host, store, by_name[name], in_use)
                rows.append(_row(by_name[name], deleted=True))
                said = "" if args.json else f"deleted {label(by_name[name])}"
            except Error as error:  # said, and the exit code has it; the others are tried
                failures.append(error)
                rows.append(_row(by_name[name], error=error.line))
                trace.tell_error(host, error, name)
                said = error.line
            if said:
                bar.clear()
                session.note(said)
        host.forget()
        saved_kernels.collect(store, store.load())
    code = max((failure.exit_code for failure in failures), default=0)
    return session.reply(args, {"snapshots": rows, "gives_back_bytes": None}, "", code=code)


def _row(snapshot: Snapshot, *, deleted: bool = False, error: str = "") -> dict[str, Any]:
    number = snapshot.id or None
    return {"id": number, "name": snapshot.name, "deleted": deleted, "error": error or None}


def _dry_run(args: Namespace) -> int:
    """Say what deletion would give back, and what keeps any from it."""
    from ...core.snapshots.names import label, resolve
    from ...core.snapshots.space import size
    from ...errors import RefusedError
    from ...system.root import roots_in_use
    from ...system.snapshots import take_and_delete
    from .. import session
    from ..reading import sizes

    with session.reading(args.root) as (host, store):
        if store is None:
            raise session.no_store(host)
        snapshots = store.load()
        chosen = {s.name: s for s in (resolve(ref, snapshots) for ref in args.snapshot)}
        in_use, code, rows = roots_in_use.read(host), 0, []
        for name, snapshot in list(chosen.items()):
            if reason := take_and_delete.obstacle(host, snapshot, in_use):
                session.note(f"would not delete {label(snapshot)}: {reason}")
                del chosen[name]
                code = RefusedError.exit_code
            rows.append(_row(snapshot, error=reason))
        held = sizes.held(host, snapshots)
    given = None if held is None else held.together(chosen)
    lines = [f"would delete {label(snapshot)}" for snapshot in chosen.values()]
    if chosen and given is not None:
        lines.append(f"This would free {size(given)}.")
    answer = {"snapshots": rows, "gives_back_bytes": given}
    return session.reply(args, answer, "\n".join(lines), code=code)


_HELP = "delete snapshots or old roots, without asking"
COMMAND = command.Command(_HELP, arguments, run)
