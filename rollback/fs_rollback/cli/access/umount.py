# SPDX-License-Identifier: GPL-2.0-or-later
"""`umount`: the end of a look into a snapshot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...core.snapshots.snapshot import Snapshot
    from ...system.access.looks import Look


def arguments(parser: ArgumentParser) -> None:
    """Add what `umount` takes."""
    command.json(parser)
    parser.add_argument(
        "look",
        metavar="SNAPSHOT|DIR",
        nargs="?",
        help="the snapshot, or where it is mounted; default: all that are mounted",
    )


def run(args: Namespace) -> int:
    """`umount`: unmount what `mount` has mounted, and nothing else."""
    from ...system.access import looks
    from ...system.store import trace
    from .. import session

    session.refuse_device(args)
    with session.reading(args.root) as (host, store):
        if store is None:
            raise session.no_store(host)
        found = looks.find(host)
        chosen = found if args.look is None else [_chosen(args.look, found, store.load())]
        for look in chosen:
            looks.unmount(look)
            trace.tell(host, trace.Event("unmounted", look.snapshot, reason=look.point))
            session.note(f"unmounted {look.snapshot} from {look.point}")
    if not chosen:
        session.note("no snapshot is mounted")
    rows = [{"snapshot": look.snapshot, "directory": look.point} for look in chosen]
    return session.reply(args, {"unmounted": rows}, "")


def _chosen(text: str, found: list[Look], snapshots: list[Snapshot]) -> Look:
    """Return the look that a path or a snapshot means. Raises UsageError."""
    import os

    from ...core.snapshots.names import resolve
    from ...core.snapshots.snapshot import STORE
    from ...errors import UsageError

    is_path = "/" in text and not text.startswith(f"/{STORE}/")  # that is how dnf names a snapshot
    if is_path:
        point = os.path.realpath(text)
        fitting = [look for look in found if look.point == point]
    else:
        name = resolve(text, snapshots).name
        fitting = [look for look in found if look.snapshot == name]
    if fitting:
        return fitting[0]
    what = f"anything on {text}" if is_path else text
    raise UsageError(
        f"'fs-rollback mount' has not mounted {what}",
        hint="'findmnt --types btrfs' shows all btrfs mounts; use umount(8) for any other.",
    )


_HELP = "unmount what 'mount' has mounted"
COMMAND = command.Command(_HELP, arguments, run, on_device=False, on_own_root=False)
