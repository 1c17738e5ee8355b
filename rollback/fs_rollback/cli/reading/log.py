# SPDX-License-Identifier: GPL-2.0-or-later
"""`log`: what was changed, deleted or refused, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from ...core.snapshots.events import Event
    from ...core.snapshots.snapshot import Snapshot
    from ...system.machine.host import Host
    from ...system.store.store import Store

_NO_JOURNAL = "no systemd journal was found"


def arguments(parser: ArgumentParser) -> None:
    """Add what `log` takes."""
    command.json(parser)
    command.snapshot(parser, "?", ", deleted or not", "show only this one: ")


def run(args: Namespace) -> int:
    """`log`: a row for each event, the newest last; exit code 1 if some could not be read."""
    from ... import report
    from ...system.store import trace
    from .. import session
    from ..advice import addressed
    from ..terminal import table_width

    with session.reading(args.root) as (host, store):
        has_journal = trace.has_journal(host)
        events, problems = _events(host, store)
        if not (events or problems or has_journal):
            problems.append(f"{_NO_JOURNAL}, and the store has no record of a deletion")
        if args.snapshot is not None:
            name = _named(args.snapshot, events, store.load() if store else [])
            events = [event for event in events if event.concerns(name)]
        ids = {event.snapshot: event.snapshot_id for event in events if event.snapshot_id}
        ids.update((name, made.id) for name, made in (store.subvolumes() if store else {}).items())
    if args.json:
        rows = [report.event_json(event) for event in events]
        session.print_json({"events": rows, "problems": problems})
    elif events:
        print(report.event_table(events, ids, table_width()))
    for problem in problems:
        session.note(problem)
    if not (args.json or problems):
        if events and not has_journal:
            session.note(
                f"{_NO_JOURNAL}: this shows only deletions, which the store records itself"
            )
        elif not events:
            session.note(addressed("nothing is recorded yet", args))
    return 1 if problems else 0


def _events(host: Host, store: Store | None) -> tuple[list[Event], list[str]]:
    """Return what the journal and the store tell, and why one of them could not be read."""
    from ...core.snapshots.events import merged
    from ...errors import Error, KernelError
    from ...system.store import trace

    told: list[Event] = []
    kept: list[Event] = []
    problems = []
    try:
        told = trace.told(host)
    except Error as error:  # reported, and the exit code shows it
        problems.append(f"cannot read the systemd journal: {error}")
    try:
        kept = store.deletions() if store else []
    except KernelError as error:  # as above
        problems.append(f"cannot read the store's record of deletions: {error}")
    return merged(told, kept), problems


def _named(reference: str, events: Sequence[Event], present: Sequence[Snapshot]) -> str:
    """Return the name of the snapshot that is meant, which may be gone. Raises UsageError."""
    from ...core.snapshots.names import label, labelled, resolve
    from ...core.snapshots.snapshot import Snapshot

    names = {name for event in events for name in (event.snapshot, event.replaced) if name}
    known = {snapshot.name for snapshot in present}
    there = {text for s in present for text in (str(s.id), label(s))}
    for event in events:
        said = (str(event.snapshot_id), labelled(event.snapshot, event.snapshot_id))
        if event.snapshot_id and reference in said and reference not in there:
            return event.snapshot
    gone = [Snapshot(name, None, None) for name in sorted(names - known)]
    return resolve(reference, [*present, *gone]).name


_HELP = "show what was changed, deleted or refused: when, why and by whom"
COMMAND = command.Command(_HELP, arguments, run, reads=True)
