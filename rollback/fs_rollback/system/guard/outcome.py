# SPDX-License-Identifier: GPL-2.0-or-later
"""The outcome of a guarded boot, as later boots see it.

The guarded boot can record why it was not healthy only if it got that far. Everything else is in
the journal of the root that it ran from.
"""

from __future__ import annotations

import json
import os
from datetime import datetime, timezone
from typing import Optional

from ...core.guard.state import Armed, Failure, Guard
from ...core.snapshots.purpose import typed_in_short
from ...core.snapshots.record import format_time, parse_time
from ...errors import Error, ProcessError
from ..linux import process
from ..loader import entries, places
from ..machine import kernels
from ..machine.host import Host
from ..root import root_lines
from ..store import guards, trace
from ..store.store import Store

JOURNAL = "var/log/journal"  # systemd-journald.service(8)
_UNKNOWN = (
    "the guarded boot ended before it could report a reason, or somebody chose the snapshot in the"
    " boot menu"
)
_BEGAN = "the guarded boot started, but ended before it was healthy"
_OURSELVES = "fs-rollback"
_WINDOWS = "EFI/Microsoft"
_WARNING, _LINES, _READ, _PATIENCE_S = 4, 10, 2000, 30.0


def sentence(failure: Failure) -> str:
    """Return one sentence on what happened."""
    since = f"after '{failure.since}' " if failure.since else ""
    return f"{since}this machine fell back to {failure.snapshot}: {failure.reason}"


def fell_back(host: Host, store: Store, guard: Guard) -> tuple[Guard, bool]:
    """Note that the guarded boot ended in the snapshot that runs now. Needs the lock.

    Returns the new state, and whether it is certain enough to roll back: it is not if nothing
    shows that the guarded boot started, and another system may have been booted instead.
    """
    armed = guard.armed
    assert armed is not None, "it is the way back that runs"
    boot, log = last_lines(host, armed)
    known = f"the guarded boot was not healthy: {armed.reason}" if armed.reason else ""
    reason = known or (_BEGAN if boot else _UNKNOWN)
    failure = Failure(
        armed.snapshot,
        armed.uuid,
        _since(store, armed),
        reason,
        log,
        format_time(datetime.now(timezone.utc)),
        armed.boot_id,
    )
    noted = guard._replace(failure=failure)
    guards.write(store, noted)
    trace.tell(host, trace.Event("fell-back", armed.snapshot, reason=reason))
    return noted, bool(armed.reason or boot) or not _has_other_systems(host)


def _has_other_systems(host: Host) -> bool:
    """Whether the boot loader may start something else than this machine's own root."""
    try:
        found = entries.read(host, root_lines.read_layout(host))
        texts = [places.read(p, name) for p in found.places for name in places.GRUB_CONFIGURATIONS]
    except Error:  # it may
        return True
    return (
        any(bootable.foreign for bootable in found.bootables)
        or any("osprober-" in (text or "") for text in texts)
        or any(os.path.isdir(os.path.join(host.root, p, _WINDOWS)) for p in places.POINTS)
    )


def _since(store: Store, armed: Armed) -> str:
    """Return what matters of the command line that the snapshot was taken before."""
    found = store.subvolumes().get(armed.snapshot)
    record = store.snapshot_of(found).record if found is not None else None
    if record is None or record.transaction is None:
        return ""
    return typed_in_short(record.transaction.command_line)  # all read it who see the machine


def last_lines(host: Host, armed: Armed) -> tuple[str, tuple[str, ...]]:
    """Return the ID of the failed boot and its last lines, both from its journal.

    Both are empty if no journal is kept, or if that boot did not get far enough to write one.
    If there are warnings or errors, only these are returned.
    """
    journals = (os.path.join(host.root, JOURNAL), f"/{JOURNAL}")
    for place in dict.fromkeys(journals):
        boot, rows = _of_journal(place, armed)
        if boot:
            grave = [text for priority, text in rows if priority <= _WARNING]
            return boot, tuple((grave or [text for _, text in rows])[-_LINES:])
    return "", ()


def _of_journal(directory: str, armed: Armed) -> tuple[str, list[tuple[int, str]]]:
    """Return the first boot after the one that armed, and its lines: priority and text."""
    if not os.path.isdir(directory):
        return "", []
    words = ["journalctl", f"--directory={directory}", "--output=json", f"--lines={_READ}"]
    try:
        # Where /var/log is kept the boot that runs now writes there too, and more than is read.
        since, until = parse_time(armed.time).timestamp(), kernels.boot_began_s()
        words += [f"--since=@{since:.0f}", f"--until=@{until:.0f}", "--no-pager", "--quiet"]
        with process.answering(words, _PATIENCE_S) as printed:
            lines = printed().splitlines()
    except (ProcessError, ValueError):  # a damaged journal says nothing
        return "", []
    ours = {boot_id.replace("-", "") for boot_id in (armed.boot_id, kernels.boot_id())}
    boot, rows = "", list[tuple[int, str]]()
    for line in lines:
        row = _row(line)
        if row is None or row[0] in ours:
            continue
        boot = boot or row[0]
        if row[0] == boot:
            rows.append(row[1:])
    return boot, rows


def _row(line: str) -> Optional[tuple[str, int, str]]:
    """Return boot, priority and text of a line, None for one that says nothing here."""
    try:
        data = json.loads(line)
        message, name = data["MESSAGE"], data.get("SYSLOG_IDENTIFIER", "")
        if not isinstance(message, str) or name == _OURSELVES:
            return None  # what we have said is in the reason
        return data["_BOOT_ID"], int(data.get("PRIORITY", 6)), f"{name}: {message}"
    except (ValueError, LookupError, TypeError):  # as promised
        return None


def note_reason(store: Store, reason: str) -> None:
    """Record why this guarded boot is not healthy. Needs the lock. Raises Error."""
    guard = guards.read(store)
    if guard.armed is not None:
        guards.write(store, guard._replace(armed=guard.armed._replace(reason=reason)))


def acknowledge(host: Host, store: Store) -> Optional[Failure]:
    """Record that a person knows of the failure, and return it; None if there is none."""
    guard = guards.read(store)
    if guard.failure is None:
        return None
    is_over = guard.armed is None
    known = None if is_over else guard.failure._replace(is_acknowledged=True)
    guards.write(store, guard._replace(failure=known))
    trace.tell(host, trace.Event("acknowledged", guard.failure.snapshot))
    return guard.failure
