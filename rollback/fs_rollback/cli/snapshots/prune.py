# SPDX-License-Identifier: GPL-2.0-or-later
"""`prune`: delete what retention no longer keeps."""

from __future__ import annotations

import sys
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Optional

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from ...core.snapshots.retention import Policy, Verdict
    from ...core.snapshots.snapshot import Snapshot
    from ...core.space.held import Held
    from ...errors import Error
    from ...system.machine.host import Host
    from ...system.store.store import Store
    from ..terminal import Bar


def arguments(parser: ArgumentParser) -> None:
    """Add what `prune` takes."""
    command.json(parser)
    command.dry_run(parser, "only show what would be deleted")


def run(args: Namespace) -> int:
    """`prune`: delete what retention says, or show its verdicts; no snapshots are no error."""
    from ... import report
    from .. import session
    from ..terminal import table_width

    with session.reading(args.root) as (host, found):
        policy = session.configuration(host).policy
        pruned = Pruned()
        if found and args.dry_run:
            pruned = _planned(host, found, policy)
        elif found:
            pruned = _prune(args.root, host, policy)
    verdicts, failures, shortage, given = pruned
    totals = _totals(verdicts)
    if args.json:
        rows = [report.verdict_json(verdict) for verdict in verdicts]
        failed = [
            {"id": snapshot.id or None, "name": snapshot.name, "error": str(error)}
            for snapshot, error in failures
        ]
        answer = {"verdicts": rows, "totals": totals, "shortage": shortage or None}
        more = {} if given is None else {"gives_back_bytes": given}
        session.print_json({**answer, **more, "failures": failed})
    elif args.dry_run:
        print(report.verdict_table(verdicts, table_width()))
        going, staying = totals["delete"], totals["keep"]
        print(f"\n{going} of {len(verdicts)} snapshots would be deleted, {staying} stay.")
        if going and given is not None:
            print(f"This would free {report.size(given)}.")
    else:
        deleted = totals["delete"] - len(failures)
        session.note(f"deleted {deleted} of {len(verdicts)} snapshots")
    if shortage and not args.json:
        session.note(shortage)
    for _, error in failures:
        session.note(error.line)
    return 1 if failures else 0


class Pruned(NamedTuple):
    """The verdicts, which deletions failed, and why less than `min_free` is free ("" if it is not).

    `given` is how many bytes the deletions would free, None once they are done.
    """

    verdicts: tuple[Verdict, ...] = ()
    failures: tuple[tuple[Snapshot, Error], ...] = ()
    shortage: str = ""
    given: Optional[int] = None


def _totals(verdicts: Sequence[Verdict]) -> dict[str, int]:
    """Return how many snapshots stay and how many go, by what is decided."""
    from ...core.snapshots.retention import Action

    totals = {action.value: 0 for action in Action}
    for verdict in verdicts:
        totals[verdict.action.value] += 1
    return totals


def _planned(host: Host, store: Store, policy: Policy) -> Pruned:
    from ...core.snapshots.retention import Action
    from ...system.snapshots import min_free, take_and_delete
    from ..reading import sizes

    verdicts = take_and_delete.judge(host, store, policy, datetime.now().astimezone())
    held = sizes.held(host, [verdict.snapshot for verdict in verdicts])
    doomed = [v.snapshot.name for v in verdicts if v.action is Action.DELETE]
    short = min_free.shortage(host, policy)
    if short:
        vain = min_free.out_of_reach(host, policy)
        short += f": {vain or _way_there(verdicts, doomed, held, min_free.missing(host, policy))}"
    return Pruned(verdicts, (), short, held.together(doomed) if held is not None else None)


def _way_there(
    verdicts: Sequence[Verdict], doomed: Sequence[str], held: Optional[Held], missing: int
) -> str:
    """Return what `min_free` deletes beside what is `doomed`, and whether that is enough."""
    from ...core.snapshots.names import label
    from ...core.snapshots.retention import all_for_room
    from ...core.snapshots.space import size

    if held is not None and doomed and held.together(doomed) >= missing:
        return "these deletions make enough room"
    may_go = all_for_room(verdicts)
    if not may_go:
        return "that cannot be reached: no other snapshot may be deleted"
    given = None if held is None else held.together([*doomed, *(s.name for s in may_go)])
    if given is not None and given < missing:
        return f"that cannot be reached: all that may be deleted frees {size(given)}"
    return f"the oldest that may go would be deleted too, {label(may_go[0])} first"


def _prune(root: str, host: Host, policy: Policy) -> Pruned:
    """Delete what retention says, and then what `min_free` takes."""
    from ...system.snapshots import min_free, take_and_delete
    from .. import session
    from ..terminal import Bar

    writing = partial(session.writing, root, makes_room=True)
    with writing() as (machine, store), Bar("deleting", "snapshots") as bar:
        verdicts = take_and_delete.judge(machine, store, policy, datetime.now().astimezone())
        failures = take_and_delete.prune(machine, store, verdicts, partial(_tell, bar))
    with Bar("waiting for btrfs to free them", "snapshots") as bar:
        said = partial(_tell, bar)
        room = min_free.reach(host, writing, policy, progress=said, waiting=bar)
    tried = {verdict.snapshot.name: verdict for verdict in room.tried}
    verdicts = tuple(tried.get(verdict.snapshot.name, verdict) for verdict in verdicts)
    return Pruned(verdicts, (*failures, *room.failures), room.problem)


def _tell(bar: Bar, done: int, total: int, snapshot: Snapshot) -> None:
    """Say what is deleted now, to somebody who watches."""
    from ...core.snapshots.names import label
    from .. import session

    if sys.stderr.isatty():
        bar.clear()
        session.note(f"deleting {label(snapshot)}")
        bar(done, total)


_HELP = "delete the snapshots that the configuration no longer keeps"
COMMAND = command.Command(_HELP, arguments, run)
