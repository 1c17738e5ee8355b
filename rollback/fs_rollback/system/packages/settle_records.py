# SPDX-License-Identifier: GPL-2.0-or-later
"""Settles records whose transaction has no known end against the history of its dnf.

Hooks after rpm do not always fire: not after a kill, not when our own package went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime

from ...core.snapshots.record import Kind, Outcome, Record
from ...core.snapshots.snapshot import Snapshot
from ..linux import syscalls
from ..machine.host import RPMDB_PLACES, Host, rpmdb_path
from ..root import trial
from . import dnf_history
from .dnf_history import Row

# libdnf5/conf/const.hpp, TRANSACTION_LOCK_FILEPATH
DNF5_LOCK = "run/dnf/rpmtransaction.lock"
_LONGEST_START_S = 3600.0  # from the snapshot to the transaction: other plugins have their turn


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


def rpm_lock_owner(host: Host) -> int:
    """Return the PID of the process that has rpm's transaction lock, 0 if nobody has."""
    place = rpmdb_path(host.root_fd)
    return _lock_owner(host, f"{place}/.rpm.lock") if place else 0


def _lock_owner(host: Host, path: str) -> int:
    """Return the PID of the process that has the lock of a file, 0 without one or the other."""
    try:
        descriptor = syscalls.open_in_root(host.root_fd, path, os.O_RDONLY)
    except OSError:
        return 0
    owner = syscalls.record_lock_owner(descriptor)
    os.close(descriptor)
    return owner


def transaction_is_running(host: Host) -> bool:
    """Whether a transaction is running in the tree, other than that of a dnf 5 that started us.

    dnf 5 has a lock of its own from before its hooks to its last line of history; rpm's lock comes
    later and ends earlier.
    """
    if _lock_owner(host, DNF5_LOCK) not in (0, os.getppid()):
        return True
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
    records = [s.record for s in snapshots]
    pending = [
        place
        for place, s in enumerate(snapshots)
        if s.pending and s.exists and s.record and s.record.writable
    ]
    pending = [place for place in pending if _is_told_here(host, records[place])]
    histories: dict[str, list[Row] | None] = {}
    settled = []
    for place in reversed(pending):  # the newest first: a row is of one snapshot only
        record, subvolume = records[place], snapshots[place].subvolume
        if record is None or record.transaction is None or subvolume is None:
            continue
        tool = record.transaction.tool
        if tool not in histories:
            histories[tool] = dnf_history.rows(host, tool)
        rows = histories[tool]
        if rows is None:
            continue
        after = max(_numbers(records[:place], record), default=0)
        before = min(_numbers(records[place + 1 :], record), default=sys.maxsize)
        is_gone = record.trial and record.source.id != host.root_id
        between = [row for row in rows if after < row.number < before and not is_gone]
        outcome, history_id = _match(between, record.created)
        if outcome is Outcome.INTERRUPTED and transaction_is_running(host):
            continue  # dnf 5, and what had the store for it was killed
        transaction = record.transaction._replace(outcome=outcome, history_id=history_id)
        records[place] = record._replace(transaction=transaction, uuid=subvolume.uuid)
        settled.append(records[place])
    return [record for record in settled if record is not None]


def _numbers(records: Iterable[Record | None], like: Record) -> list[int]:
    """Return the numbers in the same history of the transactions that were made in the same root.

    The history goes back with a rollback, and numbers are given again after it.
    """
    return [
        record.transaction.history_id
        for record in records
        if record and record.kind is Kind.PRE and record.source.uuid == like.source.uuid
        if record.transaction and record.transaction.history_id
        if _is_of_dnf5(record) == _is_of_dnf5(like)
    ]


def _is_told_here(host: Host, record: Record | None) -> bool:
    """Whether a transaction can be in the history of this root: a trial has one of its own.

    Of a trial that is gone nothing can be known any more.
    """
    if record is None:
        return False
    if not (record.trial or trial.runs_other_root(host)):
        return True
    present = {subvolume.id for subvolume in host.subvolumes}
    source = record.source.id
    return source == host.root_id or (record.trial and source not in present)


def _is_of_dnf5(record: Record) -> bool:
    return record.transaction is not None and record.transaction.tool == "dnf5"


def _match(rows: Sequence[Row], taken: datetime) -> tuple[Outcome, int | None]:
    """Return the end of the first transaction that began right after its snapshot was taken.

    Both times are of one clock and of one process: however wrong, they are near each other.
    """
    for row in rows:
        if 0 <= row.began - int(taken.timestamp()) < _LONGEST_START_S:
            return row.outcome, row.number
    return Outcome.INTERRUPTED, None
