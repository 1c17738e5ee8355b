# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the filesystem is usable: writable, complete, and containing the whole system."""

from __future__ import annotations

import os

from ...core.boot import health
from ...core.formats import mountinfo
from ...core.snapshots.snapshot import Snapshot
from ...errors import RefusedError
from .host import Host


def read_only(host: Host) -> RefusedError:
    """Return the error for a read-only filesystem."""
    source = host.mount.source
    if is_forced_read_only(host):
        return RefusedError(
            f"the filesystem on {source} is read-only: btrfs stopped all writes after an error",
            hint="'dmesg' names the error. Copy what you need off the disk first: only a reboot"
            " makes it writable again, and the error may come back.",
        )
    writable = f"'mount -o remount,rw {host.root}' makes it writable"
    if host.is_temporary:
        writable = f"mount it writable: 'findmnt {source}' shows where it is mounted"
    return RefusedError(
        f"the filesystem on {source} is read-only",
        hint=f"'dmesg' may say why. If it has no errors, {writable}; after an error only a reboot"
        " does.",
    )


def is_forced_read_only(host: Host) -> bool:
    """Whether btrfs made itself read-only after an error, as far as anybody can tell."""
    return mountinfo.is_forced_read_only(host.mounts, host.mount)


def not_writable(host: Host) -> RefusedError | None:
    """Return the error if the filesystem, or the running system's mount of it, is read-only."""
    if host.mount.read_only:
        return read_only(host)
    if host.is_running and "ro" in host.mount.options:
        return RefusedError(
            "/ is mounted read-only, although its filesystem is not",
            hint="'mount -o remount,rw /' makes it writable; 'fs-rollback check' checks"
            " /etc/fstab, which decides how it is mounted at boot.",
        )
    return None


def devices_missing(host: Host) -> RefusedError | None:
    """Return why the filesystem is not whole, None if all its devices are there."""
    missing = health.missing(host.members)
    if not missing:
        return None
    return RefusedError(
        f"the filesystem on {host.mount.source} runs with a device missing"
        f" ({missing} of {len(host.members)})",
        hint="Replace the device first: see btrfs-replace(8).",
    )


def unsupported(host: Host) -> RefusedError | None:
    """Return why a snapshot of the root could not restore the system, None if it could."""
    reason = host.unsupported()
    if not reason:
        return None
    return RefusedError(
        f"{reason}, so a snapshot of the root does not contain the whole system",
        hint="For a rollback, all files that rpm owns must be in the root subvolume.",
    )


def refuse_unsupported(host: Host) -> None:
    """Raise RefusedError if a snapshot of the root would not contain the whole system."""
    refusal = unsupported(host)
    if refusal is not None:
        raise refusal


def active_swap(host: Host, subvolumes: set[int]) -> str:
    """Return an active swap file in one of the subvolumes, "" if there is none."""
    try:
        with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file.read().split("\n")[1:]]
    except FileNotFoundError:  # a kernel without swap
        return ""
    # The kernel writes blanks in these paths as it does in mountinfo.
    paths = [mountinfo.unescape(row[0]) for row in rows if row[1:2] == ["file"]]
    devices = {
        os.stat(host.path(s.path)).st_dev for s in host.subvolumes if paths and s.id in subvolumes
    }
    return next((p for p in paths if os.path.exists(p) and os.stat(p).st_dev in devices), "")


def of_stranger(host: Host, snapshot: Snapshot) -> bool:
    """Whether a snapshot is of another machine that shares this filesystem."""
    return host.is_stranger_at(snapshot.path)
