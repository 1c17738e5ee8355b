# SPDX-License-Identifier: GPL-2.0-or-later
"""Holds the store's lock for a package manager that runs its hooks as programs, until it ends.

The program that took the snapshot leaves a child process, which holds the lock and runs this.
"""

from __future__ import annotations

import errno
import json
import os
import select
import signal
import syslog
from contextlib import suppress
from typing import NamedTuple

from ...core.snapshots.record import Outcome
from ...core.snapshots.snapshot import Snapshot
from ...errors import Error
from ..linux import syscalls
from ..packages import dnf_history, interrupted, settle_records
from . import transaction
from .transaction import Taken

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
_LOOK_MS = 50
_LOOKS_A_READING = 20  # of the history, which costs more than a look at the lock
_OFFLINE = "/usr/lib/sysimage/libdnf5/offline/offline-transaction-state.toml"


class Watched(NamedTuple):
    """A running dnf 5: its PID, what becomes readable at its end, its lock, its last number.

    `lock` is -1 where it has none that can be found, `last` is None where that cannot be read.
    """

    pid: int
    end: int
    lock: int
    last: int | None


def watch(pid: int, taken: Taken) -> Watched:
    """Look at the dnf 5 that has this PID. Raises OSError where it is gone.

    The child keeps the store's lock. From here on no signal ends this process or the child: what
    ends dnf 5 at a terminal, or with its service, is sent to all its processes, but the child has
    to see the end of dnf 5.
    """
    taken.leave()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    rows = dnf_history.rows(taken.machine, "dnf5")
    last = None if rows is None else max((row.number for row in rows), default=0)
    end = os.pidfd_open(pid)
    if os.getppid() != pid:  # it has ended, and another process may have its PID
        raise ProcessLookupError(errno.ESRCH, f"process {pid}, which started this, is gone")
    return Watched(pid, end, _lock_of(pid), last)


def _lock_of(pid: int) -> int:
    """Open the lock that dnf 5 has from its hooks to its end; -1 where none is found.

    By its descriptor: each start of another dnf 5 removes the name.
    """
    with suppress(OSError):  # it has ended: watch() finds out
        for name in os.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{name}"
            with suppress(OSError):  # it has just closed that one
                if os.readlink(path).removesuffix(" (deleted)") == f"/{settle_records.DNF5_LOCK}":
                    lock = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    if syscalls.record_lock_owner(lock) == pid:
                        return lock
                    os.close(lock)
    return -1


def description(pid: int, *, offline: bool) -> tuple[str, ...]:
    """Return the command that a person gave, as dnf 5 will have it in its history; () if unknown.

    `dnf5 offline _execute` and services have a command line of their own. The lock's file tells it
    since 5.4.1 (libdnf5/utils/active_transaction_info.cpp), for an `offline` transaction its state
    does (libdnf5/transaction/offline.cpp). Both are TOML.
    """
    lock = _lock_of(pid)
    if lock >= 0:
        found = _value(f"/proc/self/fd/{lock}", "description")
        os.close(lock)
        if found:
            return found
    return _value(_OFFLINE, "cmd_line") if offline else ()


def _value(path: str, wanted: str) -> tuple[str, ...]:
    """Return the words of one value of a TOML file; () where it has none."""
    # A record says less then, and nothing hangs on it.
    with suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition("=")
            if key.strip() == wanted:
                return tuple(json.loads(value).split())  # a basic string, as JSON writes them
    return ()


def keep(taken: Taken, watched: Watched) -> None:
    """Wait for the end of dnf 5's transaction, record it, and prune. For a child process."""
    os.setsid()
    os.chdir("/")
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):  # dnf 5 reads until the last writer is gone
        os.dup2(nothing, descriptor)
    ended = select.poll()
    ended.register(watched.end, select.POLLIN)
    looks = 0
    while not ended.poll(_LOOK_MS):
        looks += 1
        is_free = watched.lock >= 0 and syscalls.record_lock_owner(watched.lock) != watched.pid
        # Another session of a service that fails at the lock takes it from the first (fcntl(2)).
        if is_free and not _has_rpm_lock(taken, watched):
            break
        # A service may have the lock for its next transaction by now, and other versions of dnf 5
        # have another lock.
        is_due = looks % _LOOKS_A_READING == 0
        if is_due and _outcome(taken, watched)[0] in (Outcome.DONE, Outcome.FAILED):
            break
    _end(taken, *_outcome(taken, watched))


def _has_rpm_lock(taken: Taken, watched: Watched) -> bool:
    """Whether dnf 5 has rpm's lock, or may have it: what is unknown is not the end."""
    try:
        return settle_records.rpm_lock_owner(taken.machine) == watched.pid
    except Error:  # see above
        return True


def _end(taken: Taken, outcome: Outcome, number: int | None) -> None:
    problems = transaction.after(taken, outcome, number)
    if outcome is Outcome.INTERRUPTED and number is not None:
        problems.insert(0, interrupted.sentence(Snapshot(taken.record.name, None, taken.record)))
    syslog.openlog("fs-snapshot")
    for problem in problems:
        syslog.syslog(syslog.LOG_WARNING, problem)


def _outcome(taken: Taken, watched: Watched) -> tuple[Outcome, int | None]:
    """Return how the transaction ended, and its number; None where rpm never began."""
    if watched.last is None:
        return Outcome.PENDING, None
    try:
        rows = dnf_history.rows(taken.machine, "dnf5", watched.last)
    except (Error, OSError):  # unknown: pending, until a later run can read it
        rows = None
    if rows:
        return rows[0].outcome, rows[0].number
    return (Outcome.PENDING if rows is None else Outcome.INTERRUPTED), None
