# SPDX-License-Identifier: GPL-2.0-or-later
"""How much more data fits on a btrfs filesystem, from what the kernel says about its devices.

statvfs(2), and so df(1), divides by a factor that is wrong for several RAID profiles, and knows
nothing of a device that is fuller than the others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

# linux/btrfs_tree.h: what a block group holds, and how often.
DATA = 1 << 0
_RAID0, _RAID1, _DUP, _RAID10, _RAID5, _RAID6 = 1 << 3, 1 << 4, 1 << 5, 1 << 6, 1 << 7, 1 << 8
_RAID1C3, _RAID1C4 = 1 << 9, 1 << 10
_ON_DEVICES = {_RAID1: 2, _RAID10: 2, _RAID1C3: 3, _RAID1C4: 4}
_PARITY = {_RAID0: 0, _RAID5: 1, _RAID6: 2}
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_AMOUNT = re.compile(r"([0-9]{1,9})(%|[KMGT](?:iB|B)?)?")


class Amount(NamedTuple):
    """A share of a filesystem ("%"), or a size (a unit of 1024); 0 of anything is none."""

    number: int = 0
    unit: str = "%"

    def of(self, size: int) -> int:
        """Return it in bytes, for a filesystem of that size."""
        if self.unit == "%":
            return size * self.number // 100
        return self.number * _UNITS[self.unit]

    def __str__(self) -> str:
        """Return it as it is written in the configuration."""
        return f"{self.number}{self.unit}" if self.number else "0"


def amount(text: str) -> Amount:
    """Read "10%", "5G" or "0". Raises ValueError, for 100 % and more too."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    number, unit = int(found[1]), (found[2] or "")[:1]
    if not number:
        return Amount()
    if not unit or (unit == "%" and number >= 100):
        raise ValueError(text)
    return Amount(number, unit)


class BlockGroups(NamedTuple):
    """What the kernel says of the block groups of one type (BTRFS_IOC_SPACE_INFO)."""

    flags: int
    total: int
    used: int


class Device(NamedTuple):
    """One device: its size, and what of it is in block groups."""

    size: int
    allocated: int


class Space(NamedTuple):
    """How much data a filesystem holds at most, and how much more fits now, in bytes."""

    size: int
    free: int


def space(groups: Sequence[BlockGroups], devices: Sequence[Device]) -> Space:
    """Return the space for data: free in block groups that have data, and in those to come.

    Those to come have the profile that most data has, and could all be for data.
    """
    data = [group for group in groups if group.flags & DATA]
    flags = max(data, key=lambda group: group.total).flags if data else 0
    unallocated = [max(device.size - device.allocated, 0) for device in devices]
    return Space(
        usable(flags, [device.size for device in devices]),
        sum(group.total - group.used for group in data) + usable(flags, unallocated),
    )


def usable(flags: int, room: Sequence[int]) -> int:
    """Return how much data fits into the room on each device, in one profile."""
    found = sorted(room)
    for profile, copies in _ON_DEVICES.items():
        if flags & profile:
            # No device has two copies of anything: of the largest ones only as much is of use as
            # the others can match.
            rest = range(copies)
            return min(sum(found[: len(found) - k]) // (copies - k) for k in rest)
    for profile, parity in _PARITY.items():
        if flags & profile:
            return _striped(found, parity)
    return sum(found) // (2 if flags & _DUP else 1)


def _striped(room: Sequence[int], parity: int) -> int:
    """Return what fits in stripes over all devices that have room left, the least of it first."""
    usable, filled = 0, 0
    for place, size in enumerate(room):
        width = len(room) - place
        if width <= parity:
            break
        usable += (size - filled) * (width - parity)
        filled = size
    return usable


def size(count: int) -> str:
    """Return a number of bytes as a text with a fitting unit."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
