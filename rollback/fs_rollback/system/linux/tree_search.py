# SPDX-License-Identifier: GPL-2.0-or-later
"""Searches of a btrfs tree: changed inodes, what they are called, subvolumes, items of any type.

One function each, raising OSError, as in syscalls.py.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct
from collections.abc import Container, Iterator
from typing import Any, NamedTuple, Optional

# linux/btrfs.h: struct btrfs_ioctl_search_key and the size of the buffer, which comes behind that;
# struct btrfs_ioctl_search_header in front of each item there.
_SEARCH_V2, _SEARCH_KEY, _BUFFER = 0xC0709411, struct.Struct("=7Q3I36xQ"), 112
_SEARCH_HEADER = struct.Struct("=3Q2I")
_COUNT = struct.Struct("=I")
_ROOM = 1 << 18  # for an answer that may be a whole tree; a larger one fits no cache
_ITEMS = 8  # of an inode: more than most have
_LARGEST_ITEM = 1 << 16  # with its header: it is smaller than a node, which has 64 KiB at most
_ITEM_HEADER = struct.Struct("=8x2Q2I")  # without the generation
# linux/btrfs_tree.h: types of items, BTRFS_ROOT_TREE_OBJECTID, BTRFS_ROOT_SUBVOL_RDONLY.
_INODE_ITEM_KEY, _INODE_REF_KEY, _DIR_ITEM_KEY, _DIR_INDEX_KEY = 1, 12, 84, 96
_ENTRIES = (_DIR_ITEM_KEY, _DIR_INDEX_KEY)  # of a directory
_ROOT_TREE, _ROOT_ITEM_KEY, _ROOT_BACKREF_KEY, _READ_ONLY = 1, 132, 144, 1
# Of struct btrfs_inode_item transid and nlink.
_INODE_ITEM = struct.Struct("<8xQ24xI")
# Of struct btrfs_dir_item the number and type of what it leads to, the length of the name, which is
# behind it, and the type of the file; BTRFS_FT_DIR.
_DIR_ITEM, _DIRECTORY = struct.Struct("<QB18xHB"), 2
# BTRFS_EXTENT_TREE_OBJECTID; BTRFS_EXTENT_ITEM_KEY and the two of references to data.
_EXTENT_TREE, _OF_DATA = 2, (168, 178, 184)
# BTRFS_CHUNK_TREE_OBJECTID, BTRFS_CHUNK_ITEM_KEY; of struct btrfs_chunk length and type;
# BTRFS_BLOCK_GROUP_DATA.
_CHUNK_TREE, _CHUNK_ITEM_KEY, _CHUNK, _DATA = 3, 228, struct.Struct("<Q16xQ"), 1
# Of struct btrfs_root_item generation, flags, generation_v2, uuid, parent_uuid, otransid and the
# seconds of otime. struct btrfs_root_ref has the name behind it.
_ROOT_ITEM = struct.Struct("<160xQ40xQ23xQ16s16s24xQ28xQ")
_ROOT_REF = struct.Struct("<Q8xH")
# struct btrfs_inode_ref likewise; BTRFS_FIRST_FREE_OBJECTID.
_INODE_REF, _ROOT_DIRECTORY = struct.Struct("<8xH"), 256
Item = tuple[int, int, bytes]  # type, offset and data
Links = dict[tuple[int, int], tuple[int, bytes]]  # of directories: tree and inode, that above, name
_Key = tuple[int, int, int]  # inode, type and offset
_UNTOLD: list[Any] = [bytes(16), bytes(16), 0, 0]


def touched_inodes(
    descriptor: int, since: int, first: int = 256, last: int = 2**64 - 257
) -> Iterator[tuple[int, float]]:
    """Give the inodes of the subvolume of `descriptor` changed after the generation `since`.

    With each comes the time of its last change (ctime) in seconds since 1970. `first` and `last`
    are the inode numbers to look at.

    The search passes over every part of the tree that is older, so it costs what has changed and
    not what is there. An inode's item has the transaction of its last change
    (btrfs_inode_item.transid): of data, size, mode, owner, attributes, links, and of a directory's
    entries, so that of a deleted file the directory shows. A new time of access counts too, but
    leaves the ctime. What is not on the disk yet does not show: sync first.
    """
    for inode, kind, answer, place in tree_items(descriptor, since + 1, first, last):
        if kind == 1 and struct.unpack_from("<Q", answer, place + 8)[0] > since:
            seconds, nanoseconds = struct.unpack_from("<qI", answer, place + 124)
            yield inode, seconds + nanoseconds / 1e9


def touched_parents(descriptor: int, since: int) -> dict[int, list[int]]:
    """Return the numbers that `touched_inodes` gives, each with those of its names' directories.

    With none where they would have to be looked for: in a part of the tree that is older. It takes
    less time than `touched_inodes` where there are many.
    """
    found, missing = dict[int, list[int]](), dict[int, int]()
    answer, key = bytearray(_BUFFER + _ROOM), (256, 0, 0)
    header, inode_item = _ITEM_HEADER.unpack_from, _INODE_ITEM.unpack_from
    while True:
        bounds = (0, key[0], 2**64 - 257, key[2], 2**64 - 1, since + 1, 2**64 - 1)
        count = _search_into(answer, descriptor, *bounds, key[1], 255, 2**32 - 1)
        place = _BUFFER
        if not count:
            return {n: [] if missing[n] else parents for n, parents in found.items()}
        for _ in range(count):
            inode, offset, kind, length = header(answer, place)
            if kind == _INODE_ITEM_KEY:
                transid, links = inode_item(answer, place + 32)
                if transid > since:
                    found[inode], missing[inode] = [], links
            elif kind == _INODE_REF_KEY and inode in found:
                found[inode].append(offset)
                missing[inode] -= 1  # others of the same directory are in this item, and missed
            place += 32 + length
        key = (inode, kind, offset + 1) if offset < 2**64 - 1 else (inode, kind + 1, 0)


def _search(descriptor: int, size: int, *key: int) -> tuple[int, bytearray]:
    """Return how many items a search found, and its answer: they begin at _BUFFER."""
    answer = bytearray(_BUFFER + size)
    return _search_into(answer, descriptor, *key), answer


def _search_into(answer: bytearray, descriptor: int, *key: int) -> int:
    """Search as `_search` does, with an answer that was used before."""
    _SEARCH_KEY.pack_into(answer, 0, *key, len(answer) - _BUFFER)
    fcntl.ioctl(descriptor, _SEARCH_V2, answer)
    count: int = _COUNT.unpack_from(answer, 64)[0]
    return count


def tree_items(
    descriptor: int, since: int, first: int = 256, last: int = 2**64 - 257, *, tree: int = 0
) -> Iterator[tuple[int, int, bytearray, int]]:
    """Give inode, type, and where in which buffer the data is, of each item of files in a tree.

    From BTRFS_IOC_TREE_SEARCH_V2 (linux/btrfs.h), which passes over the parts of the tree that are
    older than the generation `since`. `first` and `last` are the inode numbers to look at; `tree`
    is another one than that of `descriptor`, by its ID.
    """
    size, key = 1 << 18, (first, 0, 0)
    while key[0] <= last:
        bounds = (tree, key[0], last, key[2], 2**64 - 1, since, 2**64 - 1)
        count, answer = _search(descriptor, size, *bounds, key[1], 255, 2**32 - 1)
        place = _BUFFER
        if not count:
            return
        for _ in range(count):
            # struct btrfs_ioctl_search_header; items are little-endian as on the disk.
            _, inode, offset, kind, length = _SEARCH_HEADER.unpack_from(answer, place)
            place += _SEARCH_HEADER.size
            yield inode, kind, answer, place
            place += length
        key = (inode, kind, offset + 1) if offset < 2**64 - 1 else (inode, kind + 1, 0)


class InodeReader:
    """Reads the items of inodes in the subvolume of an open directory, with one buffer for all."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._answer = bytearray(_BUFFER + 2 * _LARGEST_ITEM)

    def items(self, inode: int, first: int, last: int, most: int = 2**32 - 1) -> list[Item]:
        """Return type, offset and data of the items of an inode; none come where there is none.

        `first` and `last` are the types to look at, of linux/btrfs_tree.h, `most` is how many to
        read.
        """
        found: dict[int, list[Item]] = {inode: []}
        key: Optional[_Key] = (inode, first, 0)
        while key is not None and len(found[inode]) < most:
            key = self._search(found, key, (inode, last), most)
        return found[inode]

    def of_all(self, first: int, last: int) -> Iterator[tuple[int, list[Item]]]:
        """Give the number of each inode from `first` to `last`, and its items.

        All but what lies in it, of a directory.
        """
        found: dict[int, list[Item]] = {}
        key: Optional[_Key] = (first, 0, 0)
        while key is not None:
            most = (last - key[0] + 2) * _ITEMS  # fewer of what is to be left out are read so
            key = self._search(found, key, (last, 255), most, without=_ENTRIES)
            # Of the last one there may be more.
            left = dict((found.popitem(),)) if key is not None and found else {}
            yield from found.items()
            found = left

    def directories(self, inode: int) -> Iterator[tuple[int, bool, bytes]]:
        """Give the directories in a directory: number, whether it is a subvolume's, and name."""
        answer, next_one, header = self._answer, 0, _ITEM_HEADER.unpack_from
        while next_one < 2**64:
            bounds = (0, inode, inode, next_one, 2**64 - 1, 0, 2**64 - 1, *[_DIR_INDEX_KEY] * 2)
            count = _search_into(answer, self._descriptor, *bounds, 2**32 - 1)
            place = _BUFFER
            for _ in range(count):
                _, next_one, _, length = header(answer, place)
                start, place = place + 32, place + 32 + length
                if answer[start + _DIR_ITEM.size - 1] == _DIRECTORY:
                    number, leads_to, size, _ = _DIR_ITEM.unpack_from(answer, start)
                    begin = start + _DIR_ITEM.size
                    name = bytes(answer[begin : begin + size])
                    yield number, leads_to == _ROOT_ITEM_KEY, name
            if len(answer) - place > _LARGEST_ITEM:  # the next one would have had room
                return
            next_one += 1

    def _search(
        self,
        found: dict[int, list[Item]],
        key: _Key,
        last: tuple[int, int],
        most: int,
        without: Container[int] = (),
    ) -> Optional[_Key]:
        """Add items from a key on, by their inodes, and return the key from which to go on.

        That is None where no more follow up to the inode and the type `last`. Left out are those of
        the types `without`, which an inode has nothing behind.
        """
        answer, place, (inode, kind, offset) = self._answer, _BUFFER, key
        bounds = (0, inode, last[0], offset, 2**64 - 1, 0, 2**64 - 1)
        number, rows, header = 0, list[Item](), _ITEM_HEADER.unpack_from
        count = _search_into(answer, self._descriptor, *bounds, kind, last[1], most)
        for _ in range(count):
            inode, offset, kind, length = header(answer, place)
            if kind in without:
                place += 32 + length
                continue
            if inode != number:
                number, rows = inode, found.setdefault(inode, [])
            start = place + 32
            place = start + length
            rows.append((kind, offset, bytes(answer[start:place])))
        if count < most and len(answer) - place > _LARGEST_ITEM:  # the next one would have room
            return None
        if kind in without:  # there may be many more of them
            return (inode + 1, 0, 0) if inode < last[0] else None
        return (inode, kind, offset + 1) if offset < 2**64 - 1 else (inode, kind + 1, 0)


class Root(NamedTuple):
    """What the root tree has of a subvolume; its `name` lies in a directory of its parent."""

    id: int
    parent_id: int
    directory: int
    name: bytes
    read_only: bool
    uuid: bytes
    parent_uuid: bytes
    made_in: int
    made_s: int


def subvolume_roots(descriptor: int) -> Iterator[Root]:
    """Give all subvolumes of a filesystem but its top level, in the order of their IDs.

    One that is deleted and not cleaned up yet has no name any more, and is left out.
    """
    number, flags, told = 0, 0, _UNTOLD
    for found, kind, answer, place in tree_items(descriptor, 0, tree=_ROOT_TREE):
        if kind == _ROOT_ITEM_KEY:
            number = found
            generation, flags, also, *told = _ROOT_ITEM.unpack_from(answer, place)
            if generation != also:  # a kernel from before 3.6 has written last, and not the rest
                told = _UNTOLD
        elif kind == _ROOT_BACKREF_KEY and found == number:
            parent = _SEARCH_HEADER.unpack_from(answer, place - _SEARCH_HEADER.size)[2]
            directory, length = _ROOT_REF.unpack_from(answer, place)
            start = place + _ROOT_REF.size
            name = bytes(answer[start : start + length])
            yield Root(found, parent, directory, name, bool(flags & _READ_ONLY), *told)


def nested_roots(descriptor: int, number: int) -> list[Root]:
    """Return what is nested in the subvolume with an ID, at any depth, each behind its parent."""
    children: dict[int, list[Root]] = {}
    for root in subvolume_roots(descriptor):
        children.setdefault(root.parent_id, []).append(root)
    found = list(children.get(number, ()))
    for root in found:  # it grows
        found += children.get(root.id, ())
    return found


def directory_names(
    descriptor: int, tree: int, inode: int, known: Links, most: int = 2**64
) -> tuple[bytes, ...]:
    """Return the way to a directory in the subvolume with the ID `tree`, however long it is.

    From BTRFS_INODE_REF_KEY, of which a directory has one: its offset is the directory above, and
    struct btrfs_inode_ref has the name behind it. `known` is what was read before. Raises OSError,
    with ENAMETOOLONG where the names have more than `most` bytes together.
    """
    names, answer = list[bytes](), bytearray(_BUFFER + _LARGEST_ITEM)
    while inode != _ROOT_DIRECTORY:
        if (tree, inode) not in known:
            bounds = (tree, inode, inode, 0, 2**64 - 1, 0, 2**64 - 1, *[_INODE_REF_KEY] * 2, 1)
            if not _search_into(answer, descriptor, *bounds):
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            _, above, _, _ = _ITEM_HEADER.unpack_from(answer, _BUFFER)
            start = _BUFFER + _SEARCH_HEADER.size
            (length,) = _INODE_REF.unpack_from(answer, start)
            start += _INODE_REF.size
            known[tree, inode] = above, bytes(answer[start : start + length])
        inode, name = known[tree, inode]
        names.append(name)
        if len(names) > len(known):  # directories were moved into each other meanwhile
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        most -= len(name)
        if most < 0:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    return tuple(reversed(names))


def directory_path(descriptor: int, tree: int, inode: int) -> bytes:
    """Return the path of a directory in the subvolume with the ID `tree`, with a "/" behind it.

    BTRFS_IOC_INO_LOOKUP: struct btrfs_ioctl_ino_lookup_args.
    """
    answer = bytearray(struct.pack("=2Q4080x", tree, inode))
    fcntl.ioctl(descriptor, 0xD0009412, answer)
    return bytes(answer[16:]).partition(b"\0")[0]


def inode_changed_s(descriptor: int, inode: int) -> float | None:
    """Return the time of an inode's last change as `touched_inodes` does, None if there is none."""
    return next((when for _, when in touched_inodes(descriptor, -1, inode, inode)), None)


def inode_paths(descriptor: int, inode: int) -> list[str] | None:
    """Return the paths of an inode from the root of its subvolume; None if not all can be told.

    BTRFS_IOC_INO_PATHS: struct btrfs_data_container begins with four numbers of 32 bits, the third
    and fourth say how many paths there are and how many found no room. Deleted: no paths.
    """
    room = 4096  # the kernel takes no more
    answer = ctypes.create_string_buffer(room)
    arguments = bytearray(struct.pack("=7Q", inode, room, 0, 0, 0, 0, ctypes.addressof(answer)))
    try:
        fcntl.ioctl(descriptor, 0xC0389423, arguments)
    except OSError as error:
        if error.errno == errno.ENOENT:  # deleted, see above
            return []
        raise
    _, _, count, missed = struct.unpack_from("=4I", answer, 0)
    if missed:
        return None
    starts = struct.unpack_from(f"={count}Q", answer, 16)
    return [os.fsdecode(answer.raw[16 + start :].partition(b"\0")[0]) for start in starts]


def extent_items(descriptor: int, since: int) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Give number, type, offset, generation of the leaf, and data of the extent tree's items.

    Those of metadata are left out, and all in parts of the tree older than the generation `since`.
    """
    for number, kind, answer, place in tree_items(descriptor, since, 0, tree=_EXTENT_TREE):
        if kind in _OF_DATA:
            generation, _, offset, _, length = _SEARCH_HEADER.unpack_from(answer, place - 32)
            yield number, kind, offset, generation, bytes(answer[place : place + length])


def data_chunks(descriptor: int) -> list[tuple[int, int]]:
    """Return the places where the filesystem has data, and how long each is, in their order."""
    found = []
    for _, kind, answer, place in tree_items(descriptor, 0, tree=_CHUNK_TREE):
        length, flags = _CHUNK.unpack_from(answer, place) if kind == _CHUNK_ITEM_KEY else (0, 0)
        if flags & _DATA:
            found.append((_SEARCH_HEADER.unpack_from(answer, place - 32)[2], length))
    return found


def holders(descriptor: int, place: int) -> frozenset[tuple[int, int]] | None:
    """Return who has an extent, by its place on the disk: subvolume IDs with inode numbers.

    None where there are too many to be told. Empty where the extent is gone.

    BTRFS_IOC_LOGICAL_INO_V2 with BTRFS_LOGICAL_INO_ARGS_IGNORE_OFFSET: struct
    btrfs_ioctl_logical_ino_args; of the answer see `inode_paths`, an element is three numbers:
    inode, offset, subvolume.
    """
    for room in (1 << 16, 1 << 24):  # the kernel takes no more
        answer = ctypes.create_string_buffer(room)
        arguments = struct.pack("=7Q", place, room, 0, 0, 0, 1, ctypes.addressof(answer))
        try:
            fcntl.ioctl(descriptor, 0xC038943B, bytearray(arguments))
        except OSError as error:
            if error.errno == errno.ENOENT:  # see above
                return frozenset()
            raise
        _, _, count, missed = struct.unpack_from("=4I", answer, 0)
        if not missed:
            found = struct.unpack_from(f"={count}Q", answer, 16)
            return frozenset(zip(found[2::3], found[::3]))
    return None
