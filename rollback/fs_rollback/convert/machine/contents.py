# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads an ext4 past its driver: mounted or not, nothing on its device changes by that.

What the driver knows of a mounted one it has in the cache of the device, which is read here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

from ...errors import kernel_errors
from ..disk import ext4, groups, inodes, room
from ..disk.ext4 import Part, Superblock
from ..disk.groups import Group
from ..disk.inodes import INODE_FLAGS, Count
from ..disk.room import Room
from ..plan.facts import Contents

_PIECE_BYTES = 1 << 22
# btrfs-convert(8) takes no smaller blocks.
_LEAST_BLOCK_BYTES = 4096


def superblock(device: str) -> Optional[Superblock]:
    """Return the superblock of an ext4, None if there is none. Raises KernelError."""
    return ext4.parse(read(device, Part(ext4.SUPERBLOCK_OFFSET, ext4.SUPERBLOCK_BYTES)))


def spare_superblock(device: str) -> Optional[Superblock]:
    """Return the second superblock of an ext4 with blocks of 4096 bytes, None if there is none."""
    offset = ext4.SPARE_BLOCK * ext4.SPARE_BLOCK_BYTES
    return ext4.parse(read(device, Part(offset, ext4.SUPERBLOCK_BYTES)))


def read(device: str, part: Part) -> bytes:
    """Return a part of a device, as far as there is one. Raises KernelError."""
    with _opened(device) as disk:
        return os.pread(disk, part.size_bytes, part.offset)


def look(device: str, found: Superblock) -> Contents:
    """Return what lies behind the superblock of an ext4; reads all inodes that may be in use.

    Raises KernelError, and ValueError where something lies outside the device.
    """
    with _opened(device) as disk:
        places = groups.descriptors_at(found)
        described = groups.parse(found, b"".join(_read(disk, place) for place in places))
        first = _read(disk, Part(described[0].inode_table * found.block_bytes, found.inode_bytes))
        count = _count(disk, found, described)
        return Contents(
            users=count.users,
            bad_blocks=inodes.bad_blocks(first, found.block_bytes),
            items_bytes=count.metadata_bytes(),
            room=_room(disk, found, described),
        )


def _count(disk: int, found: Superblock, described: Sequence[Group]) -> Count:
    def block(number: int) -> bytes:
        return _read(disk, Part(number * found.block_bytes, found.block_bytes))

    allowed = found.features & INODE_FLAGS.keys()
    count = Count(dict.fromkeys(sorted(allowed), 0))
    step = _PIECE_BYTES // found.inode_bytes * found.inode_bytes
    for table in groups.inode_tables(found, described):
        end = table.offset + table.size_bytes
        for offset in range(table.offset, end, step):
            piece = _read(disk, Part(offset, min(step, end - offset)))
            count.add(piece, found.inode_bytes, block)
    return count


def _room(disk: int, found: Superblock, described: Sequence[Group]) -> Optional[Room]:
    # With bigalloc a bit of a bitmap is several blocks; that is refused anyway.
    if "bigalloc" in found.features or found.block_bytes < _LEAST_BLOCK_BYTES:
        return None
    return room.look(
        _usage(disk, found, described), found.block_bytes, found.blocks, found.first_block
    )


def _usage(disk: int, found: Superblock, described: Sequence[Group]) -> Iterator[str]:
    for index, group in enumerate(described):
        place = groups.bitmap_at(found, group)
        bitmap = _read(disk, place) if place is not None else b""
        yield groups.usage(found, described, index, bitmap)


def _read(disk: int, part: Part) -> bytes:
    try:
        data = os.pread(disk, part.size_bytes, part.offset)
    except OverflowError:  # an offset that no file has
        data = b""
    if len(data) < part.size_bytes:
        raise ValueError(f"the data at byte {part.offset} lies outside of it")
    return data


@contextmanager
def _opened(device: str) -> Iterator[int]:
    with kernel_errors("read", device):
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
