# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds afterwards that packages changed without a snapshot: rpm alone has no plugin for that."""

from __future__ import annotations

from datetime import datetime, timezone

from ..linux import files
from ..machine.host import Host
from ..machine.rpmdb import rpmdb_path
from ..store.store import Store
from .interrupted import is_of_root

# lib/backend of rpm 4.16 and later: sqlite, ndb, and the older bdb. Queries write to none of them.
_DATABASES = ("rpmdb.sqlite", "rpmdb.sqlite-wal", "Packages.db", "Packages")
# dnf closes the database after our last hook, and other plugins have their turn before that.
_TOLERANCE_S = 30.0


def without_snapshot(host: Host, store: Store) -> datetime | None:
    """Return when packages last changed, if that was after the newest record of this root.

    A record is written when its transaction ends. None where that is not known: without a record,
    and while a transaction runs, or none has said how the last one ended. Raises KernelError.
    """
    changed = _last_change(host.root_fd)
    if store.is_busy():
        return None
    records = [s.record for s in store.load() if s.record and is_of_root(host, s.record)]
    if not records or any(record.pending for record in records):
        return None
    names = (f"{record.name}.json" for record in records)
    found = (files.status_of(store.directory, name, follow=False) for name in names)
    written = max((status.st_mtime for status in found if status is not None), default=changed)
    if changed <= written + _TOLERANCE_S:
        return None
    return datetime.fromtimestamp(changed, timezone.utc)


def sentence(changed: datetime) -> str:
    """Return what to say of a change at that time."""
    local = changed.astimezone()
    is_today = local.date() == datetime.now().astimezone().date()
    when = local.strftime("%H:%M" if is_today else "%Y-%m-%d %H:%M")
    return (
        f"packages changed at {when} without a snapshot (by rpm alone, by dnf with its plugins off,"
        " or the snapshot was deleted since)"
    )


def _last_change(tree: int) -> float:
    place = rpmdb_path(tree)
    found = (files.status_of(tree, f"{place}/{name}") for name in _DATABASES if place)
    return max((s.st_mtime for s in found if s is not None and s.st_size), default=0.0)
