# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change the store: create, pin, unpin, delete, prune."""

from __future__ import annotations

import sys
from argparse import Namespace
from datetime import datetime

from .. import report
from ..core.snapshots.names import resolve
from ..core.snapshots.record import Kind
from ..core.snapshots.retention import Action
from ..core.snapshots.snapshot import STORE, Snapshot
from ..errors import Error, StoreError
from ..system.snapshots import menu, saved_kernels, take_and_delete
from . import session


def create(args: Namespace) -> int:
    """`create`: take a snapshot now."""
    with session.writing(args.root, create=True) as (host, store):
        now = datetime.now().astimezone()
        record = take_and_delete.take(host, store, Kind.MANUAL, now, description=args.message or "")
        store.write(record)
        entries = session.usable_configuration(host).boot_entries
        for problem in menu.update(host, store, entries).problems:
            session.note(problem)
    if record.trial:
        session.note(
            "it holds what runs, and not the machine's own root: neither 'latest' nor a plain"
            " 'fs-rollback rollback' means it"
        )
    print(f"/{STORE}/{record.name}")
    return 0


def pin(args: Namespace) -> int:
    """`pin` and `unpin`: keep a snapshot whatever retention says, or no longer."""
    with session.writing(args.root) as (_, store):
        snapshots = store.load()
        for snapshot in [resolve(reference, snapshots) for reference in args.snapshot]:
            if snapshot.record is None:
                raise StoreError(
                    f"{snapshot.name} has no readable record to note that in ({snapshot.problem})",
                    hint="An incomplete snapshot is never pruned.",
                )
            store.write(snapshot.record._replace(pinned=args.pinned))
            session.note(f"{snapshot.name} is {'pinned' if args.pinned else 'no longer pinned'}")
    return 0


def delete(args: Namespace) -> int:
    """`delete`: delete snapshots; goes on after a failure and says which failed."""
    failures: list[Error] = []
    with session.writing(args.root) as (host, store):
        snapshots = store.load()
        chosen = list(dict.fromkeys(resolve(ref, snapshots).name for ref in args.snapshot))
        in_use = take_and_delete.roots(host)
        by_name = {snapshot.name: snapshot for snapshot in snapshots}
        for name in chosen:
            try:
                take_and_delete.delete(host, store, by_name[name], in_use)
                session.note(f"deleted {name}")
            except Error as error:
                failures.append(error)
                session.note(error.line)
        host.forget()
        saved_kernels.collect(store, store.load())
    return max((failure.exit_code for failure in failures), default=0)


def prune(args: Namespace) -> int:
    """`prune`: delete what retention says, or show its verdicts; no snapshots yet is in order."""
    now = datetime.now().astimezone()
    failures: list[tuple[Snapshot, Error]] = []
    with session.reading(args.root) as (host, found):
        policy = session.configuration(host).policy
        verdicts = take_and_delete.judge(host, found, policy, now) if found else ()
    if found and not args.dry_run:
        with session.writing(args.root) as (host, store):
            verdicts = take_and_delete.judge(host, store, policy, now)
            failures = take_and_delete.prune(host, store, verdicts, _progress)
            saved_kernels.collect(store, store.load())
    if args.json:
        rows = [report.verdict_json(verdict) for verdict in verdicts]
        failed = [{"name": snapshot.name, "error": str(error)} for snapshot, error in failures]
        session.print_json({"verdicts": rows, "failures": failed})
    elif args.dry_run:
        print(report.verdict_table(verdicts))
    else:
        count = sum(verdict.action is Action.DELETE for verdict in verdicts) - len(failures)
        session.note(f"deleted {count} of {len(verdicts)} snapshots")
    for _, error in failures:
        session.note(str(error))
    return 1 if failures else 0


def _progress(snapshot: Snapshot) -> None:
    if sys.stderr.isatty():
        session.note(f"deleting {snapshot.name}")
