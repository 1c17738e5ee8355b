# SPDX-License-Identifier: GPL-2.0-or-later
"""`show`: one snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `show` takes."""
    command.json(parser)
    command.snapshot(parser)


def run(args: Namespace) -> int:
    """`show`: everything about one snapshot."""
    from datetime import datetime

    from ... import report
    from ...core.snapshots.names import resolve
    from ...system.root import roots_in_use
    from .. import session
    from . import snapshots

    with session.reading(args.root) as (host, store):
        present = snapshots.load(host, store)
        snapshot = resolve(args.snapshot, present)
        roots = roots_in_use.read(host)
    if args.json:
        session.print_json({"snapshot": report.snapshot_json(snapshot, roots)})
    else:
        seen = report.view(present, datetime.now().astimezone(), roots.running)
        print(report.snapshot_details(snapshot, roots, seen))
    return 0


COMMAND = command.Command("show everything about one snapshot", arguments, run, reads=True)
