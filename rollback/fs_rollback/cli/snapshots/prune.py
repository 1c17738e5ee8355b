# SPDX-License-Identifier: GPL-2.0-or-later
"""`prune`: what retention lets go."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...core.snapshots.snapshot import Snapshot
    from ...errors import Error


def arguments(parser: ArgumentParser) -> None:
    """Add what `prune` takes."""
    command.json(parser)
    command.dry_run(parser, "only show what would be deleted")


def run(args: Namespace) -> int:
    """`prune`: delete what retention says, or show its verdicts; no snapshots yet is in order."""
    from datetime import datetime

    from ... import report
    from ...core.snapshots.retention import Action, Verdict
    from ...system.snapshots import take_and_delete
    from .. import session
    from ..terminal import table_width

    now = datetime.now().astimezone()
    failures: list[tuple[Snapshot, Error]] = []
    with session.reading(args.root) as (host, found):
        policy = session.configuration(host).policy
        verdicts: tuple[Verdict, ...] = ()
        if found and args.dry_run:
            verdicts = take_and_delete.judge(host, found, policy, now)
    if found and not args.dry_run:
        with session.writing(args.root) as (host, store):
            verdicts = take_and_delete.judge(host, store, policy, now)
            failures = take_and_delete.prune(host, store, verdicts, _progress)
    if args.json:
        rows = [report.verdict_json(verdict) for verdict in verdicts]
        failed = [
            {"id": snapshot.id or None, "name": snapshot.name, "error": str(error)}
            for snapshot, error in failures
        ]
        session.print_json({"verdicts": rows, "failures": failed})
    elif args.dry_run:
        print(report.verdict_table(verdicts, table_width()))
    else:
        count = sum(verdict.action is Action.DELETE for verdict in verdicts) - len(failures)
        session.note(f"deleted {count} of {len(verdicts)} snapshots")
    for _, error in failures:
        session.note(error.line)
    return 1 if failures else 0


def _progress(snapshot: Snapshot) -> None:
    """Say it, to somebody who watches."""
    from ...core.snapshots.names import label
    from .. import session

    if sys.stderr.isatty():
        session.note(f"deleting {label(snapshot)}")


COMMAND = command.Command("delete the snapshots that are no longer kept", arguments, run)
