# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads how much room is left on the filesystem of the root."""

from __future__ import annotations

import os
from typing import Optional

from ...core.snapshots.space import DATA
from ...core.space.headroom import Room, Shortage, shortage
from ...errors import kernel_errors
from ..linux import btrfs
from ..machine.host import Host

# With less than this part of it free a filesystem is nearly full.
LOW = 0.05
_RESERVED = 1 << 20  # on each device: the kernel's BTRFS_DEVICE_RANGE_RESERVED


def total_and_free(host: Host) -> tuple[int, int]:
    """Return the size of the filesystem, and what of it is free for data, as df(1) does."""
    found = os.statvfs(host.top)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def read(host: Host) -> Room:
    """Return the room on the filesystem of the root. Raises KernelError."""
    with kernel_errors("find out how much room is left on", host.mount.source):
        return of_filesystem(host.top_fd)


def of_filesystem(descriptor: int) -> Room:
    """Return the room on a mounted filesystem. Raises OSError."""
    groups = tuple(btrfs.block_groups(descriptor))
    left = (device.size - device.allocated - _RESERVED for device in btrfs.devices(descriptor))
    return Room(groups, tuple(max(room, 0) for room in left))


def missing(host: Host, coming: Optional[int]) -> Optional[Shortage]:
    """Return what packages of this installed size have no room for; see `shortage`."""
    return shortage(read(host), coming, compresses=_compresses(host))


def _compresses(host: Host) -> bool:
    names = {option.partition("=")[0] for option in host.mount.super_options}
    return bool(names & {"compress", "compress-force"})


def nearly_full(host: Host) -> Optional[Shortage]:
    """Return what is missing until a good part of the filesystem is free; None if it is.

    Data may have room and metadata none, with which no file can be made: df(1) shows 0 then, or
    what data has. Raises KernelError.
    """
    total, free = total_and_free(host)
    wanted, found = int(total * LOW), read(host)
    missing = wanted - found.free(DATA) - found.growth(DATA)
    if free < wanted and missing > 0:
        return Shortage(False, wanted, missing)
    if free < wanted or found.is_short_of_metadata():
        return Shortage(True, wanted, 0)
    return None
