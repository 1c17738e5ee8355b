# SPDX-License-Identifier: GPL-2.0-or-later
"""`pin`: keep snapshots until `unpin`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `pin` takes."""
    command.json(parser)
    command.snapshot(parser, "+")


def run(args: Namespace) -> int:
    """`pin`: keep snapshots whatever retention says."""
    return set_pinned(args, pinned=True)


def set_pinned(args: Namespace, *, pinned: bool) -> int:
    """Pin or unpin the snapshots of the command line."""
    from ...core.snapshots.names import label, resolve
    from ...errors import StoreError
    from ...system.store import trace
    from .. import session

    done = []
    with session.writing(args.root) as (host, store):
        snapshots = store.load()
        for snapshot in [resolve(reference, snapshots) for reference in args.snapshot]:
            if snapshot.record is None:
                raise StoreError(
                    f"cannot pin or unpin {label(snapshot)}: its record is not readable"
                    f" ({snapshot.problem})",
                    hint="An incomplete snapshot is never pruned.",
                )
            store.write(snapshot.record._replace(pinned=pinned))
            event = trace.Event("pinned" if pinned else "unpinned", snapshot.name, snapshot.id)
            trace.tell(host, event)
            done.append({"id": snapshot.id or None, "name": snapshot.name, "pinned": pinned})
            if not args.json:
                session.note(f"{label(snapshot)} is {'pinned' if pinned else 'no longer pinned'}")
    return session.reply(args, {"snapshots": done}, "")


COMMAND = command.Command("keep snapshots until they are unpinned", arguments, run)
