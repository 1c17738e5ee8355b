# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts the inodes of an ext4: what btrfs-convert cannot do of it, and what they take in btrfs.

Documentation/filesystems/ext4/ of Linux: inodes.rst, ifork.rst, attributes.rst.
"""

from __future__ import annotations

import stat
import struct
from dataclasses import dataclass, field
from typing import Callable, Optional

# What an inode says of itself, where the filesystem's feature only allows it.
INODE_FLAGS = {
    "encrypt": 0x800,
    "verity": 0x100000,
    "ea_inode": 0x200000,
    "inline_data": 0x10000000,
    "casefold": 0x40000000,
}
_EXTENTS = 0x80000
# Mode, size, links, blocks of 512 bytes, flags, the map of blocks, the block of attributes, and the
# upper halves of the size and of that block.
_INODE = "<H2xI18xHII4x60s4xII6xH"
_INODE_BYTES = struct.calcsize(_INODE)
_FIRST_BYTES = 128
_HEADER, _INDEX, _HEADER_BYTES = struct.Struct("<HHHH"), struct.Struct("<4xIH"), 12
_EXTENT_MAGIC, _ATTRIBUTES_MAGIC = 0xF30A, b"\x00\x00\x02\xea"
_ATTRIBUTE, _ATTRIBUTES_BLOCK_HEADER = struct.Struct("<BBHII"), 32
_DEEPEST = 5
# A file of this size, or a smaller one, lies in its btrfs metadata; max_inline of btrfs(5).
_MOST_INLINE = 2048
# What btrfs has for each: a key with its place in a leaf is 25 bytes.
_KEY = 25
_INODE_ITEM = _KEY + 160
# A directory has a name twice, and the inode once more.
_NAME = 2 * (_KEY + 30) + _KEY + 10
_NAMED, _MOST_NAME = 3, 255
_ATTRIBUTE_ITEM = _KEY + 30
_INLINE = _KEY + 21
# In the file, and the reference to that from the extent.
_EXTENT_ITEMS = _KEY + 53 + _KEY + 28
# As a map of blocks does not say how they lie without being read: 32 KiB.
_SECTORS_IN_A_ROW = 64

# Gives a block of the device.
ReadBlock = Callable[[int], bytes]


@dataclass
class Count:
    """What was counted in inode tables.

    `users` is how many inodes use each feature that the superblock only allows. The rest is for
    what the files take as btrfs metadata: `names` are the directory entries, `directory_bytes` the
    size of all directories, `mapped_sectors` what files without extents have, `item_bytes` what
    everything else takes.
    """

    users: dict[str, int]
    names: int = 0
    directory_bytes: int = 0
    item_bytes: int = 0
    mapped_sectors: int = 0
    _attributes: dict[int, int] = field(default_factory=dict)

    def add(self, table: bytes, inode_bytes: int, read: ReadBlock) -> None:
        """Add the inodes in use of a table, or of a part of one."""
        one = struct.Struct(f"{_INODE}{inode_bytes - _INODE_BYTES}x")
        whole = len(table) // inode_bytes * inode_bytes
        for number, values in enumerate(one.iter_unpack(table[:whole])):
            mode, low, links, sectors, flags, blocks, attributes, high, attributes_high = values
            if not mode or not links:
                continue
            for name in self.users:
                self.users[name] += bool(flags & INODE_FLAGS[name])
            self.item_bytes += _INODE_ITEM
            size = low | high << 32
            self.names += 1 if stat.S_ISDIR(mode) else links
            if stat.S_ISDIR(mode):
                self.directory_bytes += size
            elif stat.S_ISREG(mode) and sectors:
                self._add_data(size, sectors, flags, blocks, read)
            elif stat.S_ISLNK(mode):
                self.item_bytes += _INLINE + size
            if attributes or attributes_high:
                self._add_attributes(attributes | attributes_high << 32, read)
            if inode_bytes > _FIRST_BYTES:
                start = number * inode_bytes
                self.item_bytes += _attributes_beside(table[start : start + inode_bytes])

    def _add_data(
        self, size: int, sectors: int, flags: int, blocks: bytes, read: ReadBlock
    ) -> None:
        if size <= _MOST_INLINE:
            self.item_bytes += _INLINE + size
        elif flags & _EXTENTS:
            self.item_bytes += extents(blocks, read) * _EXTENT_ITEMS
        else:
            self.mapped_sectors += sectors

    def _add_attributes(self, block: int, read: ReadBlock) -> None:
        if block not in self._attributes:  # many inodes may share it
            self._attributes[block] = _attributes(read(block), _ATTRIBUTES_BLOCK_HEADER)
        self.item_bytes += self._attributes[block]

    def metadata_bytes(self) -> int:
        """Return what all that was counted takes in btrfs, at most, if its leaves are full."""
        # An entry of ext4 has 8 bytes and the name.
        named = max(self.directory_bytes - 8 * self.names, 0)
        named = min(named, self.names * _MOST_NAME)
        mapped = self.mapped_sectors // _SECTORS_IN_A_ROW * _EXTENT_ITEMS
        return self.item_bytes + self.names * _NAME + named * _NAMED + mapped


def extents(node: bytes, read: ReadBlock, depth: Optional[int] = None) -> int:
    """Return how many extents a tree of them has; 1 for what is none.

    `depth` is how far above the leaves a node has to be, None for the root of a tree.
    """
    magic, entries, _, deep = _HEADER.unpack_from(node)
    if magic != _EXTENT_MAGIC or deep > _DEEPEST or depth not in (None, deep):
        return 1
    if deep == 0:
        return int(entries)
    found = 0
    for number in range(min(entries, len(node) // _HEADER_BYTES - 1)):
        low, high = _INDEX.unpack_from(node, (number + 1) * _HEADER_BYTES)
        found += extents(read(low | high << 32), read, deep - 1)
    return found


def _attributes_beside(inode: bytes) -> int:
    start = _FIRST_BYTES + int.from_bytes(inode[_FIRST_BYTES : _FIRST_BYTES + 2], "little")
    if inode[start : start + 4] != _ATTRIBUTES_MAGIC:
        return 0
    return _attributes(inode, start + 4)


def _attributes(data: bytes, start: int) -> int:
    """Return what a list of extended attributes takes in btrfs."""
    found = 0
    while start + _ATTRIBUTE.size <= len(data) and data[start : start + 4].strip(b"\0"):
        length, _, _, _, size = _ATTRIBUTE.unpack_from(data, start)
        # The prefix of a name ("security.") is a number in ext4.
        found += _ATTRIBUTE_ITEM + 24 + length + min(size, 1 << 14)
        start += 16 + -(-length // 4) * 4
    return found


def bad_blocks(inode: bytes, block_bytes: int) -> int:
    """Return how many blocks inode 1 lists as bad, at least 1 where it lists any."""
    _, size, _, sectors, flags, blocks, *_ = struct.unpack_from(_INODE, inode)
    magic, entries, *_ = _HEADER.unpack_from(blocks)
    if flags & _EXTENTS and magic == _EXTENT_MAGIC:
        listed = bool(entries)
    else:
        listed = bool(blocks.strip(b"\0"))
    return max(size // block_bytes, 1) if listed or size or sectors else 0
