# SPDX-License-Identifier: GPL-2.0-or-later
"""What btrfs-convert(8) overwrites of an ext4, kept in pieces that can be found without it.

The ranges are those that btrfs reserves for its superblocks (btrfs_reserved_ranges in convert/ of
btrfs-progs); nothing else that ext4 uses is ever written to. They are overwritten in the last
moment of a conversion: who loses the power then has neither filesystem, and with these pieces an
ext4 that is what it was, byte for byte. They lie in a file of the ext4 itself, a block each, and
each says what it is.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, Optional

from ..disk import btrfs_superblock, ext4

RANGES = ((0, 1 << 20), (64 << 20, 64 << 10), (256 << 30, 64 << 10))
BLOCK_BYTES = 4096
MAGIC = b"fs-rollback: beginning\n\0"
_SECTOR = 512
# Of a block the first sector says what the others are.
_PAYLOAD = BLOCK_BYTES - _SECTOR
_HEAD = struct.Struct("<24s16s16sQQIII32s")
# In each range btrfs has its superblock; what comes before it in the first one becomes zero.
_ZEROED = 64 << 10
# More than this many are no accident.
_MOST_SAVES = 64


class Extent(NamedTuple):
    """Some bytes of a device, and where they begin."""

    offset: int
    data: bytes


class Piece(NamedTuple):
    """A part of what was saved of the filesystem `uuid`; `save` names one time that it was."""

    uuid: bytes
    save: bytes
    number: int
    total: int
    extent: Extent


class Saved(NamedTuple):
    """All that was saved of the filesystem `uuid` at one time, in the order of the device."""

    uuid: bytes
    extents: tuple[Extent, ...]

    @property
    def superblock(self) -> Optional[ext4.Superblock]:
        """The ext4's own, as it was then."""
        end = ext4.SUPERBLOCK_OFFSET + ext4.SUPERBLOCK_BYTES
        return ext4.parse(self.extents[0].data[ext4.SUPERBLOCK_OFFSET : end])


def ranges(device_bytes: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges, as offset and size, that a device of a size has."""
    return tuple(
        (offset, min(size, device_bytes - offset))
        for offset, size in RANGES
        if offset < device_bytes
    )


def count(device_bytes: int) -> int:
    """Return how many blocks the pieces of a device take."""
    return len(_layout(device_bytes))


def pack(uuid: bytes, save: bytes, extents: Sequence[Extent]) -> list[bytes]:
    """Return the blocks; `uuid` and `save` have 16 bytes each."""
    parts = [
        Extent(extent.offset + start, extent.data[start : start + _PAYLOAD])
        for extent in extents
        for start in range(0, len(extent.data), _PAYLOAD)
    ]
    blocks = []
    for number, part in enumerate(parts):
        fields = (MAGIC, uuid, save, part.offset, len(part.data), number, len(parts), 0)
        digest = hashlib.sha256(_HEAD.pack(*fields, b"") + part.data).digest()
        block = _HEAD.pack(*fields, digest).ljust(_SECTOR, b"\0") + part.data
        blocks.append(block.ljust(BLOCK_BYTES, b"\0"))
    return blocks


def unpack(block: bytes) -> Optional[Piece]:
    """Read a block; None if it is none of these, or not whole."""
    if len(block) != BLOCK_BYTES or not block.startswith(MAGIC):
        return None
    *fields, digest = _HEAD.unpack_from(block)
    _, uuid, save, offset, size, number, total, _ = fields
    data = block[_SECTOR : _SECTOR + size]
    if size > _PAYLOAD or hashlib.sha256(_HEAD.pack(*fields, b"") + data).digest() != digest:
        return None
    return Piece(uuid, save, number, total, Extent(offset, data))


def blocks_in(data: bytes) -> Iterator[bytes]:
    """Give what may be blocks of it in a part of a device that begins at a multiple of a block."""
    place = data.find(MAGIC)
    while place >= 0:
        if place % BLOCK_BYTES == 0:
            yield data[place : place + BLOCK_BYTES]
        place = data.find(MAGIC, place + 1)


def whole(pieces: Iterable[Piece], device_bytes: int, uuid: Optional[bytes] = None) -> list[Saved]:
    """Return what was saved each time of which all pieces are there, as far as it is on the device.

    Anybody may have put blocks like these into a file: only what is exactly the ranges of a device
    of this size counts, or of another one, as it may have grown or shrunk; and only of the
    filesystem `uuid`, unless that is None.
    """
    layouts = {len(layout): layout for layout in _layouts(device_bytes)}
    by_save: dict[tuple[bytes, bytes, int], dict[int, Extent]] = {}
    for piece in pieces:
        places = layouts.get(piece.total, [])
        place = (piece.extent.offset, len(piece.extent.data))
        if piece.number >= len(places) or place != places[piece.number]:
            continue
        key = (piece.uuid, piece.save, piece.total)
        if uuid in (None, piece.uuid) and (key in by_save or len(by_save) < _MOST_SAVES):
            by_save.setdefault(key, {})[piece.number] = piece.extent
    return [
        Saved(uuid, tuple(e for _, e in sorted(found.items()) if _end(e) <= device_bytes))
        for (uuid, _, total), found in by_save.items()
        if len(found) == total
    ]


def _layouts(device_bytes: int) -> Iterator[list[tuple[int, int]]]:
    """Give what the layout of a device is, and what it was where it had another size."""
    for offset, size in RANGES:
        yield _layout(offset + size)
    yield _layout(device_bytes)


def _end(extent: Extent) -> int:
    return extent.offset + len(extent.data)


def _layout(device_bytes: int) -> list[tuple[int, int]]:
    """Return the offset and the size of each piece of a device."""
    return [
        (offset + start, min(_PAYLOAD, size - start))
        for offset, size in ranges(device_bytes)
        for start in range(0, size, _PAYLOAD)
    ]


def is_cut_off(saved: Sequence[Extent], present: Sequence[Extent]) -> bool:
    """Whether a device is what a conversion, or the way back from it, leaves when it is cut off.

    `present` is what the device has now where `saved` was. Then each sector is the saved one, or a
    zero where a conversion makes it one, or part of a superblock of btrfs.
    """
    return all(
        now == before or _is_made(place, now) for place, before, now in _sectors(saved, present)
    )


def is_overwritten(saved: Sequence[Extent], present: Sequence[Extent]) -> bool:
    """Whether a sector is not the saved one, and what a conversion may make of it."""
    return any(
        now != before and _is_made(place, now) for place, before, now in _sectors(saved, present)
    )


def zeroed(saved: Sequence[Extent], present: Sequence[Extent]) -> list[Extent]:
    """Return what was saved of the sectors that are zero now, as a conversion makes them."""
    return [
        Extent(place, before)
        for place, before, now in _sectors(saved, present)
        if now != before and place < _ZEROED and not now.strip(b"\0")
    ]


def _sectors(
    saved: Sequence[Extent], present: Sequence[Extent]
) -> Iterator[tuple[int, bytes, bytes]]:
    for old, new in zip(saved, present):
        for start in range(0, len(old.data), _SECTOR):
            end = start + _SECTOR
            yield old.offset + start, old.data[start:end], new.data[start:end]


def _is_made(place: int, now: bytes) -> bool:
    is_zeroed = place < _ZEROED and not now.strip(b"\0")
    return is_zeroed or any(p <= place < p + btrfs_superblock.SIZE for p in btrfs_superblock.PLACES)


def under_superblock(saved: Sequence[Extent], place: int) -> bytes:
    """Return what was saved of where btrfs has a superblock."""
    found = b""
    for offset, data in saved:
        first, last = max(offset, place), min(offset + len(data), place + btrfs_superblock.SIZE)
        found += data[first - offset : last - offset] if first < last else b""
    return found
