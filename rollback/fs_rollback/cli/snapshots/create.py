# SPDX-License-Identifier: GPL-2.0-or-later
"""`create`: a snapshot now."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `create` takes."""
    command.json(parser)
    parser.add_argument("-m", "--message", metavar="TEXT", help="what the snapshot is for")


def run(args: Namespace) -> int:
    """`create`: take a snapshot now."""
    from datetime import datetime

    from ...core.snapshots.names import labelled
    from ...core.snapshots.record import Kind
    from ...core.snapshots.snapshot import STORE
    from ...system.snapshots import menu, take_and_delete
    from .. import session
    from ..advice import addressed
    from ..reading import waiting

    with session.writing(args.root, create=True) as (host, store):
        now = datetime.now().astimezone()
        record = take_and_delete.take(host, store, Kind.MANUAL, now, description=args.message or "")
        store.write(record)
        waits, lines = waiting.waiting(host, store)
        if waits == "reboot":
            why = "this is a snapshot of the root that is about to be replaced"
            session.note(addressed(f"{why}: {lines[0]}", args))
        entries = session.usable_configuration(host).boot_entries
        for problem in menu.update(host, store, entries).problems:
            session.note(problem)
        made = host.by_path(f"{STORE}/{record.name}")
    if record.trial:
        session.note(
            "this is a snapshot of the running trial, not of the machine's own root: neither"
            " 'latest' nor 'fs-rollback rollback' without an ID selects it"
        )
    path = f"/{STORE}/{record.name}"
    if args.json:
        number = made.id if made else None
        taken = {"id": number, "name": record.name, "path": path, "uuid": record.uuid}
        session.print_json({"snapshot": taken})
        return 0
    print(path)
    if sys.stderr.isatty():  # scripts have the path
        session.note(f"took {labelled(record.name, made.id if made else None)}")
    return 0


COMMAND = command.Command("take a snapshot now", arguments, run)
