# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the histories of dnf 4 and dnf 5: which transaction has which number, and how it ended."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from typing import NamedTuple

from ...core.snapshots.record import Outcome
from ...errors import KernelError
from ..linux import files, syscalls
from ..machine.host import Host

_READ = os.O_RDONLY | os.O_NONBLOCK


class Row(NamedTuple):
    """One transaction: its number, its begin in seconds since 1970, and its end.

    `outcome` is INTERRUPTED where the history knows of no end: it runs, or was killed.
    """

    number: int
    began: int
    outcome: Outcome


class _Source(NamedTuple):
    path: str
    query: str  # for number, begin and state behind a number, in the order of the numbers
    outcomes: dict[object, Outcome]


# dnf 4: /etc/dnf/dnf.conf, persistdir; libdnf's SQL schema is transaction/private/Transaction.cpp.
_DNF4 = _Source(
    "var/lib/dnf/history.sqlite",
    "SELECT id, dt_begin, state FROM trans WHERE id > ? ORDER BY id",
    {1: Outcome.DONE, 2: Outcome.FAILED},
)
# dnf 5: libdnf5/transaction/db/db.cpp and sql/create_tables.sql.
_DNF5 = _Source(
    "usr/lib/sysimage/libdnf5/transaction_history.sqlite",
    "SELECT trans.id, dt_begin, name FROM trans JOIN trans_state ON trans_state.id = state_id"
    " WHERE trans.id > ? ORDER BY trans.id",
    {"Ok": Outcome.DONE, "Error": Outcome.FAILED},
)
# By the tool that a record names. PackageKit works with libdnf, or with that of dnf 5 as "dnf5".
_HISTORIES = {"dnf4": _DNF4, "packagekit": _DNF4, "dnf5": _DNF5}


def is_shared(one: str, other: str) -> bool:
    """Whether two tools of records write to one history."""
    return _HISTORIES.get(one) is _HISTORIES.get(other)


def rows(host: Host, tool: str, behind: int = 0) -> list[Row] | None:
    """Return the transactions of the history that `tool` of a record writes to, in order.

    Only those with numbers `behind` one. None if it cannot be read, or of a tool that is not known:
    that is not the same as an empty one.
    """
    import sqlite3

    source = _HISTORIES.get(tool)
    if source is None:
        return None
    path = source.path
    if source is _DNF5 and files.device_of(host.root_fd, path) is None:
        from . import dnf4_state, dnf5_state

        try:
            directory = dnf5_state.history_directory(host.root_fd)
        except (dnf4_state.BrokenFileError, KernelError):
            return None  # it may be anywhere, and is not empty
        path = f"{directory}/{os.path.basename(path)}"
    if files.device_of(host.root_fd, path) is None:
        return []
    try:
        descriptor = syscalls.open_in_root(host.root_fd, path.lstrip("/"), _READ)
    except OSError:  # it is there, and cannot be read
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None  # a pipe would be waited for
        # SQLite reads where the link leads, and finds its other files there.
        uri = f"file:/proc/self/fd/{descriptor}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as database:
            return [
                Row(int(number), int(began), source.outcomes.get(state, Outcome.INTERRUPTED))
                for number, began, state in database.execute(source.query, (behind,))
            ]
    except sqlite3.Error:  # it is there, damaged or of a version that is not known
        return None
    finally:
        os.close(descriptor)
