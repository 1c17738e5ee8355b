# SPDX-License-Identifier: GPL-2.0-or-later
"""`mount`: a snapshot to look into."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `mount` takes."""
    command.json(parser)
    command.snapshot(parser)
    parser.add_argument(
        "directory", metavar="DIR", nargs="?", help="an empty directory that only root can reach"
    )


def run(args: Namespace) -> int:
    """`mount`: mount a snapshot read-only, or say where it is already mounted."""
    import os

    from ...core.snapshots.names import label, resolve
    from ...errors import RefusedError
    from ...system.access import looks
    from ...system.store import trace
    from .. import session

    session.refuse_device(args)
    with session.reading(args.root) as (host, store):
        if store is None:
            raise session.no_store(host)
        # The lock alone: a filesystem that takes no writes any more is looked into too.
        with store.locked(session.note):
            snapshot = resolve(args.snapshot, store.load())
            if not snapshot.exists or snapshot.is_top_level:
                raise RefusedError(
                    f"{snapshot.name} has no subvolume of its own to mount",
                    hint="'fs-rollback list' shows all snapshots.",
                )
            present = [look for look in looks.find(host) if look.snapshot == snapshot.name]
            look = present[0] if present else looks.mount(host, snapshot, args.directory)
            if not present:
                event = trace.Event("mounted", snapshot.name, snapshot.id, reason=look.point)
                trace.tell(host, event)
    if present:
        if args.directory is not None and os.path.realpath(args.directory) != look.point:
            raise RefusedError(
                f"{label(snapshot)} is already mounted on {look.point}",
                hint=f"Look there, or unmount it first: fs-rollback umount {snapshot.name}",
            )
        session.note(f"{label(snapshot)} was already mounted")
    answer = {"snapshot": look.snapshot, "directory": look.point, "mounted": not present}
    return session.reply(args, answer, look.point)


_HELP = "mount a snapshot read-only, to look at its files"
COMMAND = command.Command(_HELP, arguments, run, on_device=False, on_own_root=False)
