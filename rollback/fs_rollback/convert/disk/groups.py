# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the groups of blocks of an ext4: where their inodes lie, and which blocks are in use.

Documentation/filesystems/ext4/ of Linux: group_descr.rst, bitmaps.rst, blockgroup.rst. What a group
uses whose bitmap was never written is computed as lib/ext2fs/rw_bitmaps.c of e2fsprogs does.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from .ext4 import SUPERBLOCK_OFFSET, Part, Superblock

_INODES_UNUSED, _BLOCKS_UNUSED = 0x0001, 0x0002
_DESCRIPTOR = struct.Struct("<IIIHHHH8xH")
_HIGH = struct.Struct("<IIIHHHH8xH")
_HIGH_AT = 0x20


class Group(NamedTuple):
    """A group, by the blocks where its bitmaps and its inodes begin.

    `is_unwritten`: its bitmap of blocks is not on the disk, as it has nothing but its own metadata.
    `inodes` is how many of its inodes may be in use: the first ones.
    """

    block_bitmap: int
    inode_bitmap: int
    inode_table: int
    is_unwritten: bool
    inodes: int


def descriptors_at(superblock: Superblock) -> list[Part]:
    """Return where the group descriptors lie, in their order."""
    size = superblock.groups * superblock.descriptor_bytes
    # Not from first_block: with bigalloc that is 0, and the superblock in block 1 all the same.
    start = (SUPERBLOCK_OFFSET // superblock.block_bytes + 1) * superblock.block_bytes
    if not superblock.has_meta_groups:
        return [Part(start, size)]
    together = min(superblock.first_meta_group * superblock.block_bytes, size)
    found = [Part(start, together)] if together else []
    for offset in range(together, size, superblock.block_bytes):
        index = offset // superblock.descriptor_bytes
        block = _first_block(superblock, index) + _has_superblock(superblock, index)
        length = min(superblock.block_bytes, size - offset)
        found.append(Part(block * superblock.block_bytes, length))
    return found


def parse(superblock: Superblock, descriptors: bytes) -> list[Group]:
    """Read the descriptors of all groups. Raises ValueError where there are fewer than groups."""
    if len(descriptors) < superblock.groups * superblock.descriptor_bytes:
        raise ValueError("there are fewer group descriptors than groups")
    checksummed = bool({"uninit_bg", "metadata_csum"} & superblock.features)
    size, found = superblock.descriptor_bytes, []
    for start in range(0, superblock.groups * size, size):
        blocks, inodes, table, _, _, _, flags, unused = _DESCRIPTOR.unpack_from(descriptors, start)
        if size >= 2 * _HIGH_AT:
            high = _HIGH.unpack_from(descriptors, start + _HIGH_AT)
            blocks, inodes, table = (
                low | more << 32 for low, more in zip((blocks, inodes, table), high)
            )
            unused |= high[-1] << 16
        used = superblock.inodes_per_group
        if checksummed:
            used = 0 if flags & _INODES_UNUSED else max(used - unused, 0)
        unwritten = checksummed and bool(flags & _BLOCKS_UNUSED)
        found.append(Group(blocks, inodes, table, unwritten, used))
    return found


def inode_tables(superblock: Superblock, groups: Sequence[Group]) -> Iterator[Part]:
    """Give the inode tables of all groups, without what was never used of them."""
    for group in groups:
        if group.inodes:
            offset = group.inode_table * superblock.block_bytes
            yield Part(offset, group.inodes * superblock.inode_bytes)


def bitmap_at(superblock: Superblock, group: Group) -> Optional[Part]:
    """Return where the bitmap of a group lies, None where it is not on the disk."""
    if group.is_unwritten:
        return None
    size = -(-superblock.blocks_per_group // 8)
    return Part(group.block_bitmap * superblock.block_bytes, size)


def usage(superblock: Superblock, groups: Sequence[Group], index: int, bitmap: bytes) -> str:
    """Return the blocks of a group as digits: "1" is in use, "0" free.

    `bitmap` is what lies at bitmap_at(), b"" for what does not.
    """
    first = _first_block(superblock, index)
    count = min(superblock.blocks_per_group, superblock.blocks - first)
    if not groups[index].is_unwritten:
        bits = int.from_bytes(bitmap, "little") & ((1 << count) - 1)
        return format(bits, f"0{count}b")[::-1]
    bits = 0
    for start, length in _own(superblock, groups[index], index):
        begin, end = max(start - first, 0), min(start + length - first, count)
        if begin < end:
            bits |= ((1 << (end - begin)) - 1) << begin
    return format(bits, f"0{count}b")[::-1]


def _own(superblock: Superblock, group: Group, index: int) -> Iterator[tuple[int, int]]:
    """Give the blocks of a group's own metadata, wherever these are."""
    first = _first_block(superblock, index)
    size = superblock.groups * superblock.descriptor_bytes
    per_block = superblock.block_bytes // superblock.descriptor_bytes
    together = -(-size // superblock.block_bytes) + superblock.reserved_descriptor_blocks
    if superblock.has_meta_groups:
        together = superblock.first_meta_group
    has_copy = _has_superblock(superblock, index)
    if has_copy:
        yield first, 1
    if not superblock.has_meta_groups or index // per_block < superblock.first_meta_group:
        if has_copy:
            yield first + 1, together
    elif index % per_block in (0, 1, per_block - 1):
        yield first + has_copy, 1
    yield group.block_bitmap, 1
    yield group.inode_bitmap, 1
    inodes = superblock.inodes_per_group * superblock.inode_bytes
    yield group.inode_table, -(-inodes // superblock.block_bytes)


def _first_block(superblock: Superblock, index: int) -> int:
    return superblock.first_block + index * superblock.blocks_per_group


def _has_superblock(superblock: Superblock, index: int) -> bool:
    """Whether a group has a superblock: ext2fs_bg_has_super() of e2fsprogs."""
    if index == 0:
        return True
    if "sparse_super2" in superblock.features:
        return index in superblock.backup_groups
    if index == 1 or "sparse_super" not in superblock.features:
        return True
    return any(_is_power(index, base) for base in (3, 5, 7))


def _is_power(number: int, base: int) -> bool:
    while number % base == 0:
        number //= base
    return number == 1
