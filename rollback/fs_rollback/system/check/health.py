# SPDX-License-Identifier: GPL-2.0-or-later
"""The health of the filesystem and its disks. Only reads, and wakes no disk."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

from ...core.boot import findings, health
from ...core.boot.findings import Finding
from ...core.formats import scrub_status
from ...core.formats.scrub_status import Scrub
from ...core.snapshots.record import format_time
from ...core.space.headroom import only_free
from ...errors import KernelError, kernel_errors
from ..linux import devices, files, syscalls
from ..machine import usable
from ..machine.host import Host
from ..space import room
from . import smart


def filesystem(host: Host) -> Iterator[Finding]:
    """Yield a finding if the filesystem is read-only, or nearly full."""
    found = usable.not_writable(host)
    if found is not None:
        is_forced = usable.is_forced_read_only(host)
        code = "filesystem.forced-read-only" if is_forced else "filesystem.read-only"
        yield findings.warning(code, "", str(found), found.hint)
    short = room.nearly_full(host)
    if short is not None:
        _, free = room.total_and_free(host)
        code = "filesystem.metadata-full" if short.is_metadata else "filesystem.nearly-full"
        hint = "'fs-rollback status' shows what to delete, and how much space that frees."
        yield findings.warning(code, "", only_free(free, short), hint)


def look(host: Host, now: datetime) -> Iterator[Finding]:
    """Yield what the kernel and btrfs-scrub(8) already know; this takes no time."""
    missing = usable.devices_missing(host)
    if missing is not None:
        text = f"no rollback is possible: {missing}"
        yield findings.warning("devices.missing", "", text, missing.hint)
    yield from health.of_devices(host.members, _place(host))
    try:
        is_running, last = _is_scrubbed(host), _last_scrub(host)
    except (KernelError, ValueError) as error:  # said as a finding
        yield health.unreadable_scrub(error)
        return
    yield health.of_scrub(last, _place(host), now, is_running=is_running)


def disks(host: Host) -> Iterator[Finding]:
    """Yield what each disk reports about itself: runs a program for each."""
    if not smart.is_installed():
        yield findings.ok("disk.not-asked", "", "health unknown: install smartmontools to check it")
        return
    for disk in smart.ask(devices.disks_of_btrfs(host.uuid)):
        yield health.of_disk(disk)


def before_rollback(host: Host, now: datetime) -> tuple[str, ...]:
    """Return the warnings before something is written to these disks.

    What a rollback is refused for is left out.
    """
    found = (f for f in (*look(host, now), *disks(host)) if f.code != "devices.missing")
    return health.trouble(tuple(found))


def attention(host: Host, now: datetime) -> list[str]:
    """Return at most one line for `status`; only `check` asks the disks."""
    found = [f.text for f in look(host, now) if f.code in ("devices.errors", "scrub.errors")]
    return [f"{'; '.join(found)}. 'fs-rollback check' shows what to do"] if found else []


def to_json(host: Host) -> dict[str, Any]:
    """Return the part of `status --json` about health."""
    read_only = None
    if usable.not_writable(host) is not None:
        read_only = "forced" if usable.is_forced_read_only(host) else "mounted"
    return {
        "read_only": read_only,
        "devices": [
            {
                "id": device.id,
                "path": device.path or None,
                "missing": device.is_missing,
                "errors": None if device.errors is None else device.errors._asdict(),
            }
            for device in host.members
        ],
        "scrub": _scrub_json(host),
    }


def _scrub_json(host: Host) -> dict[str, Any]:
    last = None
    try:
        state = "running" if _is_scrubbed(host) else "none"
        last = _last_scrub(host)
    except (KernelError, ValueError):  # said as unknown
        state = "unknown"
    if last is None:
        return {"state": state, "began": None, "corrected": None, "uncorrectable": None}
    return {
        "state": last.state if state == "none" else state,
        "began": format_time(datetime.fromtimestamp(last.began_s, timezone.utc)),
        "corrected": last.corrected,
        "uncorrectable": last.uncorrectable,
    }


def _place(host: Host) -> str:
    """Return where the filesystem is mounted, or what stands for where people mount it."""
    return "DIR" if host.is_temporary else shlex.quote(host.root)


def _is_scrubbed(host: Host) -> bool:
    with kernel_errors("look for a running scrub on", host.mount.source):
        return any(syscalls.is_scrubbed(host.top_fd, device.id) for device in host.members)


def _last_scrub(host: Host) -> Scrub | None:
    """Return the last one: this machine has its record, or a rescue system that it was run from.

    Raises KernelError or ValueError where that cannot be read.
    """
    path = scrub_status.path_of(host.uuid)
    with files.opened("/") as here:
        texts = [files.read_in_tree(tree, path) for tree in (host.root_fd, here)]
    found = (scrub_status.parse(text, host.uuid) for text in texts if text is not None)
    return max(filter(None, found), key=lambda scrub: scrub.began_s, default=None)
