# SPDX-License-Identifier: GPL-2.0-or-later
"""`list`: all snapshots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `list` takes."""
    command.json(parser)
    text = "show how much space deleting each snapshot would free"
    parser.add_argument("--size", action="store_true", help=text)


def run(args: Namespace) -> int:
    """`list`: a row a snapshot, the newest last."""
    from datetime import datetime

    from ... import report
    from ...system.root import roots_in_use
    from .. import session
    from ..advice import addressed
    from ..screen import colour
    from ..terminal import table_width
    from . import sizes
    from . import snapshots as found_snapshots
    from . import waiting as what_waits

    with session.reading(args.root) as (host, store):
        snapshots = found_snapshots.load(host, store)
        roots = roots_in_use.read(host)
        waiting = what_waits.waiting(host, store)[1]
        unsupported = "" if snapshots else host.unsupported()
        held = sizes.held(host, snapshots) if args.size else None
    if args.json:
        added = sizes.by_name(snapshots, held) if held else {}
        rows = [{**report.snapshot_json(s, roots), **added.get(s.name, {})} for s in snapshots]
        session.print_json({"snapshots": rows, **({"held": held.to_json()} if held else {})})
    elif snapshots:
        now, paint = datetime.now().astimezone(), colour.paint(args.color)
        if held:
            print(sizes.table(snapshots, held))
        else:
            print(report.snapshot_table(snapshots, roots, table_width(), now, paint))
        for line in waiting:
            session.note(addressed(line, args))
    elif unsupported:
        session.note(f"no snapshots yet, and transactions take none: {unsupported}")
    else:
        none = "no snapshots yet; the next dnf transaction or 'fs-rollback create' takes one"
        session.note(addressed(none, args))
    return 0


COMMAND = command.Command("list all snapshots, the newest last", arguments, run, reads=True)
