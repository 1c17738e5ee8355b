# SPDX-License-Identifier: GPL-2.0-or-later
"""Settles records whose transaction has no known end against the history of its dnf.

Hooks after rpm do not always fire: not after a kill, not when our own package went away.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime

from ...core.snapshots.record import Kind, Outcome, Record
from ...core.snapshots.snapshot import Snapshot
from ...errors import KernelError, RefusedError
from ..linux import syscalls
from ..machine.host import Host
from ..machine.rpmdb import RPMDB_PLACES, rpmdb_path
from ..root import trial
from . import dnf_history
from .dnf_history import Row, is_shared

# libdnf5/conf/const.hpp, TRANSACTION_LOCK_FILEPATH
DNF5_LOCK = "run/dnf/rpmtransaction.lock"
_LONGEST_START_S = 3600.0  # from the snapshot to the transaction: other plugins have their turn


class LockUnknownError(RefusedError):
    """Whether a transaction is running cannot be told: a lock is there and cannot be read."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"cannot determine whether a package transaction is running: /{path} {reason}",
            hint="It should be a regular file, which rpm and dnf recreate. If neither is running,"
            " move it away and try again.",
        )


@contextmanager
def no_transaction(host: Host) -> Iterator[None]:
    """Prevent transactions during the block: none is running, and rpm's lock is held.

    Raises RefusedError where one is running, and where that is unknown. Never to be called where
    rpm's lock is held by this very process: fcntl(2) drops all locks of a process on a file when it
    closes any of them.
    """
    is_running = transaction_is_running(host)
    with ExitStack() as stack:
        for path in () if is_running else _rpm_locks(host):
            descriptor = _open_lock(host, path, os.O_RDWR)
            if descriptor is None:
                continue
            stack.callback(os.close, descriptor)
            try:
                is_running = not syscalls.try_record_lock(descriptor)
            except OSError as error:
                raise LockUnknownError(path, f"cannot be locked: {error.strerror}") from error
            break
        if is_running:
            raise RefusedError(
                "a package transaction is running",
                hint="Wait until it has finished, then try again.",
            )
        yield


def rpm_lock_owner(host: Host) -> int:
    """Return the PID of the process that has rpm's transaction lock, 0 if nobody has.

    -1 if it cannot be seen from here. Raises LockUnknownError.
    """
    return next(filter(None, (_lock_owner(host, path) for path in _rpm_locks(host))), 0)


def _rpm_locks(host: Host) -> list[str]:
    place = rpmdb_path(host.root_fd)
    return [f"{path}/.rpm.lock" for path in ((place,) if place else RPMDB_PLACES)]


def _lock_owner(host: Host, path: str) -> int:
    """Return the PID of the process that has the lock of a file, 0 without one or the other.

    -1 if it cannot be seen from here. Raises LockUnknownError.
    """
    descriptor = _open_lock(host, path, os.O_RDONLY)
    if descriptor is None:
        return 0
    try:
        return syscalls.record_lock_owner(descriptor)
    except OSError as error:
        raise LockUnknownError(path, f"cannot be queried: {error.strerror}") from error
    finally:
        os.close(descriptor)


def _open_lock(host: Host, path: str, mode: int) -> int | None:
    """Open a lock of the tree, for `mode`; None only where none can be taken, see inside.

    A link is not followed: where it leads is not where all who look would find it. Raises
    LockUnknownError.
    """
    # Not blocking: it may be anything, a pipe too.
    flags = mode | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = syscalls.open_in_root(host.root_fd, path, flags)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None  # whoever takes the lock makes the file first
        if error.errno == errno.EROFS:
            return None  # it was asked for before, and nobody can take it where nothing is written
        raise LockUnknownError(path, f"cannot be opened: {error.strerror}") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise LockUnknownError(path, "is not a regular file")
    return descriptor


def transaction_is_running(host: Host) -> bool:
    """Whether a transaction is running in the tree, other than that of a dnf 5 that started us.

    dnf 5 has a lock of its own from before its hooks to its last line of history; rpm's lock comes
    later and ends earlier. They are looked at, not taken: nothing is in anybody's way, and a tree
    that is read-only answers too. Raises LockUnknownError.
    """
    if _lock_owner(host, DNF5_LOCK) not in (0, os.getppid()):
        return True
    return rpm_lock_owner(host) != 0


def settle(host: Host, snapshots: Sequence[Snapshot]) -> list[Record]:
    """Return the pending records as they should be, the end of their transactions filled in.

    For a caller who has the store's lock, or saw that nobody has it: a transaction holds it from
    its snapshot to its end. Nothing is written here. What cannot be read settles nothing: without
    its history no transaction, and while a lock is unknown none is called interrupted. That is no
    error, and never stops dnf in the plugin, which settles in passing: its record stays pending,
    a later run finds out, and what a rollback would break is refused by the rollback.
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
        if outcome is Outcome.INTERRUPTED and _may_be_running(host):
            continue  # dnf 5, and what had the store for it was killed
        transaction = record.transaction._replace(outcome=outcome, history_id=history_id)
        records[place] = record._replace(transaction=transaction, uuid=subvolume.uuid)
        settled.append(records[place])
    return [record for record in settled if record is not None]


def _may_be_running(host: Host) -> bool:
    try:
        return transaction_is_running(host)
    except (LockUnknownError, KernelError):
        return True  # it is not known to have ended


def _numbers(records: Iterable[Record | None], like: Record) -> list[int]:
    """Return the numbers in the same history of the transactions that were made in the same root.

    The history goes back with a rollback, and numbers are given again after it.
    """
    return [
        record.transaction.history_id
        for record in records
        if record and record.kind is Kind.PRE and record.source.uuid == like.source.uuid
        if record.transaction and record.transaction.history_id
        if like.transaction and is_shared(record.transaction.tool, like.transaction.tool)
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


def _match(rows: Sequence[Row], taken: datetime) -> tuple[Outcome, int | None]:
    """Return the end of the first transaction that began right after its snapshot was taken.

    Both times are of one clock and of one process: however wrong, they are near each other.
    """
    for row in rows:
        if 0 <= row.began - int(taken.timestamp()) < _LONGEST_START_S:
            return row.outcome, row.number
    return Outcome.INTERRUPTED, None
