# SPDX-License-Identifier: GPL-2.0-or-later
"""Tells the system's journal what is changed, and keeps the last words about deleted snapshots.

Whoever calls this imports it where it does: nothing that only reads has to load it. Nothing here
fails, waits, or keeps anything from being done.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from ...core.snapshots import events
from ...errors import Error, RefusedError
from ..linux import durable, files
from ..machine import requester
from . import journald

if TYPE_CHECKING:
    from ...core.snapshots.events import Name
    from ..machine.host import Host

Event = events.Event
LOG = "log.jsonl"  # in the store; store.py knows the name too
_MOST_BYTES = 64 << 10


def tell(host: Host | None, event: Event) -> None:
    """Tell the journal of the system that runs what was changed on a machine, or on none."""
    with suppress(Exception):  # what is told of is done: nothing may come of telling
        _send(_completed(host, event))


def tell_error(host: Host | None, error: Error, snapshot: str = "", *, system: str = "") -> None:
    """Tell it what was refused, and what failed."""
    what: Name = "refused" if isinstance(error, RefusedError) else "failed"
    event = Event(what, snapshot, reason=str(error), exit_code=error.exit_code, system=system)
    tell(host, event)


def _completed(host: Host | None, event: Event) -> Event:
    user, command = event.user, event.command
    if not (user or command):
        user, command = host.asked_by if host is not None else requester.of_process()
    system = event.system
    if host is not None and host.root != "/":
        system = host.mount.source if host.is_temporary else host.root
    return event._replace(user=user, command=command, system=system)


def _send(event: Event) -> None:
    fields = {events.PREFIX + key.upper(): value for key, value in events.values(event).items()}
    journald.send(event.message, event.priority, fields)


def keep(host: Host, directory: int, deletions: Sequence[Event]) -> bool:
    """Note in an open store which snapshots are deleted now, before they are; whether it was done.

    One write for all. Needs the lock.

    A line is added behind the others, and no flush is made for it: btrfs changes the size of a file
    when what was written to it is on the disk, so a crash leaves the lines of before, and the new
    ones or not. Where the file becomes too long the newest lines take its place.
    """
    if not deletions:
        return True
    with suppress(OSError, Error):  # as promised: whether it was done is returned
        now = datetime.now(timezone.utc)
        complete = (_completed(host, event)._replace(time=now) for event in deletions)
        return _append(directory, [events.dump(event) for event in complete])
    return False


def _append(directory: int, lines: list[str]) -> bool:
    """Add lines to the log of an open store. Raises OSError and KernelError."""
    # In front of each: what was cut off before has no end.
    data = "".join(f"\n{line}" for line in (*lines, "")).encode()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    log = os.open(LOG, flags, 0o600, dir_fd=directory)
    try:
        status = os.fstat(log)
        if not stat.S_ISREG(status.st_mode):
            return False
        if status.st_size + len(data) <= _MOST_BYTES:
            return os.write(log, data) == len(data)
    finally:
        os.close(log)
    old = files.read_in_tree(directory, LOG) or ""
    _, _, tail = "\n".join((*old.split("\n"), *lines))[-_MOST_BYTES // 2 :].partition("\n")
    durable.write_for_next_commit(directory, LOG, f"{tail}\n")
    return True


def told(host: Host) -> list[Event]:
    """Return what the journal of a machine tells, the newest last; () where it has none.

    Raises ProcessError and KernelError: unknown is not empty.
    """
    place = _journal(host)
    return [] if place is None else events.of_journal(journald.read(place))


def has_journal(host: Host) -> bool:
    """Whether a machine has a journal. Raises KernelError."""
    return _journal(host) is not None


def _journal(host: Host) -> str | None:
    """Return where a machine's journal lies, "" for that of this system, None where it has none."""
    if host.root == "/":
        return "" if journald.is_there() else None
    return files.real_path(host.root_fd, "var/log/journal")


def kept(directory: int) -> list[Event]:
    """Return what an open store has noted, the newest last; of each snapshot the last line.

    Raises KernelError.
    """
    found = events.parse(files.read_in_tree(directory, LOG) or "")
    return list({(event.snapshot, event.snapshot_uuid): event for event in found}.values())
