# SPDX-License-Identifier: GPL-2.0-or-later
"""What the extent tree of a btrfs says of data on the disk, and what a subvolume says it has.

The structures are in linux/btrfs_tree.h; numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple, Optional, Union

# BTRFS_EXTENT_ITEM_KEY, EXTENT_OWNER_REF_KEY, EXTENT_DATA_REF_KEY, SHARED_DATA_REF_KEY.
EXTENT_ITEM, _OWNER_REF, DATA_REF, SHARED_REF = 168, 172, 178, 184
# btrfs_extent_item: references, generation and flags; BTRFS_EXTENT_FLAG_DATA.
_ITEM, _IS_DATA = struct.Struct("<QQQ"), 1
# What follows the type of a reference: btrfs_extent_data_ref (root, inode, offset, count), or the
# leaf that holds the reference and a btrfs_shared_data_ref (count).
_DATA_REF, _SHARED_REF = struct.Struct("<Q16xI"), struct.Struct("<QI")
_COUNT, _OWNER_BYTES = struct.Struct("<I"), 9
# btrfs_file_extent_item: its type (0 is inline), and disk_bytenr (0 is a hole).
_FILE_TYPE, _FILE_PLACE = 20, struct.Struct("<Q")

Item = tuple[int, int, int, int, bytes]  # number, type, offset, generation of its leaf, data


class Extent(NamedTuple):
    """A piece of data on the disk.

    `touched` is the last generation in which what the tree says of it, or of a neighbour, changed.
    `owners` are subvolumes that surely have it. `leaves` are the tree nodes that all references to
    it lie in, () where there are others: extents with the same ones are in the same subvolumes.
    """

    place: int
    size: int
    touched: int
    owners: frozenset[int]
    leaves: tuple[int, ...]


def data_extents(items: Iterable[Item], passed_over: Collection[int]) -> Iterator[Extent]:
    """Give the data in some items of the extent tree, which come in their order.

    Data that one of the subvolumes `passed_over` surely has is left out.
    """
    reading: Optional[_Reading] = None
    for number, kind, offset, generation, data in items:
        if kind == EXTENT_ITEM:
            if reading is not None:
                yield reading.extent()
            reading = None
            references, _, flags = _ITEM.unpack_from(data)
            # Sorted by type: an owner comes first, and of most there is one.
            owner = _DATA_REF.unpack_from(data, _ITEM.size + 1)[0] if _has_owner(data) else 0
            if flags & _IS_DATA and owner not in passed_over:
                reading = _Reading(number, offset, generation, references)
                reading.add_inline(data)
        elif reading is not None and number == reading.place:
            reading.add(kind, offset, data)
    if reading is not None:
        yield reading.extent()


def _has_owner(data: bytes) -> bool:
    return len(data) > _ITEM.size + _DATA_REF.size and data[_ITEM.size] == DATA_REF


class _Reading:
    """What was read of one extent so far; `missing` are the references that were not."""

    def __init__(self, place: int, size: int, touched: int, references: int) -> None:
        self.place, self._size, self._touched, self._missing = place, size, touched, references
        self._owners: list[int] = []
        self._leaves: list[int] = []

    def extent(self) -> Extent:
        leaves = () if self._owners or self._missing else tuple(self._leaves)
        return Extent(self.place, self._size, self._touched, frozenset(self._owners), leaves)

    def add_inline(self, data: bytes) -> None:
        at, end = _ITEM.size, len(data)
        while at < end:
            kind = data[at]
            if kind == DATA_REF:
                self._add_owner(*_DATA_REF.unpack_from(data, at + 1))
                at += 1 + _DATA_REF.size
            elif kind == SHARED_REF:
                self._add_leaf(*_SHARED_REF.unpack_from(data, at + 1))
                at += 1 + _SHARED_REF.size
            elif kind == _OWNER_REF:  # of a simple quota: who is charged for it
                at += _OWNER_BYTES
            else:  # nothing that this program knows: references stay missing
                return

    def add(self, kind: int, offset: int, data: bytes) -> None:
        """Add a reference that the item had no room for."""
        if kind == DATA_REF:
            self._add_owner(*_DATA_REF.unpack_from(data))
        elif kind == SHARED_REF:
            self._add_leaf(offset, *_COUNT.unpack_from(data))

    def _add_owner(self, owner: int, count: int) -> None:
        self._owners.append(owner)
        self._missing -= count

    def _add_leaf(self, leaf: int, count: int) -> None:
        self._leaves.append(leaf)
        self._missing -= count


def place_of(items: Union[bytes, bytearray], at: int = 0) -> int:
    """Return where on the disk a piece of a file lies; 0 for a hole and for what is inline.

    `at` is where its item begins.
    """
    if not items[at + _FILE_TYPE]:
        return 0
    return int(_FILE_PLACE.unpack_from(items, at + _FILE_TYPE + 1)[0])
