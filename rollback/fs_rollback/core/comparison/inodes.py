# SPDX-License-Identifier: GPL-2.0-or-later
"""What a btrfs tree says of a file: its inode, names, attributes, and where its data lies.

The structures are in linux/btrfs_tree.h; numbers are little-endian.
"""

from __future__ import annotations

import stat
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

ROOT_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID: the subvolume's own directory
# BTRFS_INODE_ITEM_KEY and so on: the types of a file's items, in their order.
INODE_ITEM, INODE_REF, INODE_EXTREF, XATTR_ITEM = 1, 12, 13, 24
DIR_INDEX, EXTENT_DATA, ROOT_ITEM = 96, 108, 132
# btrfs_inode_item: generation, transid, size, nlink, uid, gid, mode, rdev, flags, sequence, ctime,
# and of mtime the seconds and nanoseconds.
_INODE = struct.Struct("<3Q16x4I2Q8s44x12sqI")
# btrfs_inode_ref: index and length of the name; btrfs_inode_extref has the parent before them.
_REF, _EXTREF = struct.Struct("<8xH"), struct.Struct("<Q8xH")
# btrfs_dir_item: the key it leads to (number, type), lengths of data and name.
_DIR = struct.Struct("<QB8x8x2Hx")
_EXTENT_HEAD = 21  # of btrfs_file_extent_item: all before the data or its place
_EXTENT_LENGTH = struct.Struct("<Q")
_REGULAR, _EXTENT_TYPE = 1, 20
_COMPRESSION, _TYPE = 8, 12  # where these are in Extent.place
# BTRFS_INODE_ in linux/btrfs_tree.h: what chattr(1) sets. Others are the kernel's own notes.
FLAGS = 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11
PROTECTED = 1 << 6 | 1 << 7  # BTRFS_INODE_IMMUTABLE, BTRFS_INODE_APPEND

Item = tuple[int, int, bytes]  # type, offset and data


class Extent(NamedTuple):
    """A piece of a file: `length` bytes from `start`, and what the tree says of them.

    Two with the same `place` have the same bytes: they lie in one place on the disk, or in the
    tree itself.
    """

    start: int
    length: int
    place: bytes


class Entry(NamedTuple):
    """What a name in a directory leads to: an inode's number, or a subvolume's ID."""

    number: int
    is_subvolume: bool


class Inode(NamedTuple):
    """A file of any kind. `names` are its names, each with the number of its directory.

    `modified` is its mtime, in seconds and nanoseconds. `entries` of a directory has another value
    after each change of its entries.
    """

    number: int
    generation: int
    size: int
    uid: int
    gid: int
    mode: int
    device: int
    flags: int
    modified: tuple[int, int]
    entries: bytes
    names: tuple[tuple[int, bytes], ...]
    xattrs: Mapping[bytes, bytes]
    extents: tuple[Extent, ...]

    @property
    def is_directory(self) -> bool:
        """Whether others may lie in it."""
        return stat.S_ISDIR(self.mode)


def inode(number: int, items: Iterable[Item]) -> Inode | None:
    """Return the file that the items describe; None if none of them is an inode."""
    fields: tuple[Any, ...] = ()
    names: list[tuple[int, bytes]] = []
    xattrs: dict[bytes, bytes] = {}
    extents: list[Extent] = []
    for kind, offset, data in items:
        if kind == INODE_REF:
            names += _refs(offset, data)
        elif kind == EXTENT_DATA:  # of a file; others are a directory's entries
            extents.append(_extent(offset, data))
        elif kind == INODE_ITEM:
            fields = _INODE.unpack_from(data)
        elif kind == XATTR_ITEM:
            xattrs.update(_xattrs(data))
        elif kind == INODE_EXTREF:
            names += _extrefs(data)
    if not fields:
        return None
    generation, _, size, _, uid, gid, mode, device, flags, sequence, changed, *modified = fields
    # The kernel counts each name that comes or goes (i_version), but that of a snapshot: that shows
    # in the time. Neither changes where a directory is only read.
    entries = sequence + changed if stat.S_ISDIR(mode) else b""
    names.sort()
    return Inode(
        number, generation, size, uid, gid, mode, device, flags & FLAGS, (modified[0], modified[1]),
        entries, tuple(names), xattrs, tuple(extents),
    )  # fmt: skip


def have_same_entries(one: Inode | None, other: Inode | None) -> bool:
    """Whether a directory surely has the same entries in two trees; False if one lacks it.

    Only for a directory that was changed in one of the trees: if both have changed, each may have
    got one name, and counts the same. Most directories that were touched were only read, which sets
    their access time.
    """
    if one is None or other is None:
        return False
    return (one.entries, one.modified, one.size) == (other.entries, other.modified, other.size)


def entry(data: bytes) -> tuple[bytes, Entry]:
    """Return a name in a directory and what it leads to, from the DIR_INDEX item for it."""
    number, leads_to, _, length = _DIR.unpack_from(data)
    return data[_DIR.size : _DIR.size + length], Entry(number, leads_to == ROOT_ITEM)


def _refs(directory: int, data: bytes) -> list[tuple[int, bytes]]:
    """Return the names in a directory, of most files one."""
    found, place = [], 0
    while place < len(data):
        (length,) = _REF.unpack_from(data, place)
        place += _REF.size + length
        found.append((directory, data[place - length : place]))
    return found


def _extrefs(data: bytes) -> Iterator[tuple[int, bytes]]:
    place = 0
    while place < len(data):
        parent, length = _EXTREF.unpack_from(data, place)
        place += _EXTREF.size + length
        yield parent, data[place - length : place]


def _xattrs(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 0  # several have one item where the hashes of their names are alike
    while place < len(data):
        _, _, value, name = _DIR.unpack_from(data, place)
        start = place + _DIR.size
        place = start + name + value
        yield data[start : start + name], data[start + name : place]


def _extent(start: int, data: bytes) -> Extent:
    """Return a piece of a file, without the generation, in which equal ones may differ."""
    # Inline it is the bytes themselves; else disk_bytenr, disk_num_bytes, offset and num_bytes
    # follow.
    place = 8 if data[_EXTENT_TYPE] < _REGULAR else _EXTENT_HEAD + 24
    return Extent(start, _EXTENT_LENGTH.unpack_from(data, place)[0], data[8:])


def surely_differ(first: Inode, second: Inode) -> bool:
    """Whether two files of equal size surely differ: known where the trees contain their data."""
    pieces = (*first.extents, *second.extents)
    return (
        len(pieces) == 2
        and pieces[0].length == pieces[1].length
        and all(piece.place[_COMPRESSION] == piece.place[_TYPE] == 0 for piece in pieces)
        and pieces[0].place != pieces[1].place
    )


def differing(first: Inode, second: Inode) -> list[tuple[int, int]]:
    """Return where two files of equal size may differ: (start, end) in bytes, in order."""
    pieces = set(first.extents) ^ set(second.extents)
    return sorted({(p.start, p.start + p.length) for p in pieces})
