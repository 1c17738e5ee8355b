# SPDX-License-Identifier: GPL-2.0-or-later
"""Settles records whose transaction has no known end against dnf's own history.

Hooks after rpm do not always fire: not after a kill, not when our own package went away.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import closing
from datetime import datetime

from ..core.record import Outcome, Record
from ..core.snapshot import Snapshot
from . import files, syscalls
from .host import RPMDB_PLACES, Host, rpmdb_path

# /etc/dnf/dnf.conf, persistdir; libdnf's SQL schema is transaction/private/Transaction.cpp.
_DNF4_HISTORY = "var/lib/dnf/history.sqlite"
_DNF4_OUTCOMES = {1: Outcome.DONE, 2: Outcome.FAILED}


def rpm_lock(host: Host) -> int | None:
    """Take rpm's transaction lock; a descriptor to close, -1 if the tree has none, None if taken.

    While it is held no rpm transaction can start. Never to be called where rpm's lock is held by
    this very process: fcntl(2) drops all locks of a process on a file when it closes any of them.
    """
    place = rpmdb_path(host.root_fd)
    for path in (place,) if place else RPMDB_PLACES:
        try:
            descriptor = syscalls.open_in_root(host.root_fd, path + "/.rpm.lock", os.O_RDWR)
        except OSError:
            continue
        if syscalls.try_record_lock(descriptor):
            return descriptor
        os.close(descriptor)
        return None
    return -1


def transaction_is_running(host: Host) -> bool:
    """Whether an rpm transaction is running in the tree."""
    lock = rpm_lock(host)
    if lock is None:
        return True
    if lock >= 0:
        os.close(lock)
    return False


def settle(host: Host, snapshots: Sequence[Snapshot]) -> list[Record]:
    """Return the pending records as they should be, the end of their transactions filled in.

    For a caller who has the store's lock, or saw that nobody has it: a transaction holds it from
    its snapshot to its end. Nothing is written here. An unreadable history settles nothing.
    """
    pending = [s for s in snapshots if s.pending and s.exists and s.record and s.record.writable]
    if not pending:
        return []
    rows = _dnf4_rows(host)
    if rows is None:
        return []
    moments = sorted(s.created for s in snapshots if s.record and s.record.transaction)
    settled = []
    for snapshot in pending:
        record = snapshot.record
        if record is None or record.transaction is None or snapshot.subvolume is None:
            continue
        later = next((m for m in moments if m > record.created), None)
        outcome, history_id = _match(rows, record.created, later)
        transaction = record.transaction._replace(outcome=outcome, history_id=history_id)
        settled.append(record._replace(transaction=transaction, uuid=snapshot.subvolume.uuid))
    return settled


def _match(
    rows: Sequence[tuple[int, int, int]], begin: datetime, end: datetime | None
) -> tuple[Outcome, int | None]:
    """Return the end of the first transaction that began between the two moments."""
    for number, started, state in rows:
        if started >= begin.timestamp() and (end is None or started < end.timestamp()):
            return _DNF4_OUTCOMES.get(state, Outcome.INTERRUPTED), number
    return Outcome.INTERRUPTED, None


def _dnf4_rows(host: Host) -> list[tuple[int, int, int]] | None:
    """Return (id, begin in seconds since 1970, state) in order; None if it cannot be read."""
    import sqlite3

    if files.device_of(host.root_fd, _DNF4_HISTORY) is None:
        return []
    try:
        descriptor = syscalls.open_in_root(host.root_fd, _DNF4_HISTORY, os.O_RDONLY)
    except OSError:
        return None
    try:
        path = os.readlink(f"/proc/self/fd/{descriptor}")
        with closing(sqlite3.connect(f"file:{_quoted(path)}?mode=ro", uri=True)) as database:
            query = "SELECT id, dt_begin, state FROM trans ORDER BY id"
            return [(int(i), int(b), int(s)) for i, b, s in database.execute(query)]
    except sqlite3.Error:
        return None
    finally:
        os.close(descriptor)


def _quoted(path: str) -> str:
    from urllib.parse import quote

    return quote(path)
