# SPDX-License-Identifier: GPL-2.0-or-later
"""Where btrfs-convert(8) finds room for metadata in an ext4, computed as it does it.

Everything that ext4 uses becomes part of a data chunk, with the free space between when that is a
piece of no more than 32 MiB: calculate_available_space() in convert/main.c of btrfs-progs. Only
what is left is free for metadata, and in this only whole chunks: reserve_free_space() in
convert/common.c, btrfs_alloc_chunk() in kernel-shared/volumes.c.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

MIB = 1 << 20
_STRIPE = 64 << 10
_LEAST_CHUNK = 32 * MIB
# In this order: where the superblock lies at first, the system's chunk, the first metadata chunk.
_FIRST = (_STRIPE, 4 * MIB, 32 * MIB)
_NEXT_CHUNK = 8 * MIB
# What btrfs has for a piece of space in use: an extent of the image of the ext4, and the extent
# itself with a reference; and for each KiB a byte of checksums.
_RUN_BYTES, _CHECKSUMMED_BYTES = 78 + 78, 1024
# Measured with btrfs-progs 7.1: what is written is 1.3 of what full leaves would have; blocks that
# a transaction has replaced are free only after it.
_MORE_PERCENT, _REPLACED_BYTES = 150, 8 * MIB
# What has to be left for the metadata that comes until a balance packs the data chunks: one chunk
# of it as the kernel makes them, and a fortieth of a larger filesystem. Of one of 10 GiB, 60 %
# full, of which 30 updates have each replaced a fifth, 1.6 GiB are free in such pieces.
_LEAST_LEFT, _MOST_LEFT, _LEFT_PART = 256 * MIB, 1024 * MIB, 40
# What btrfs keeps for itself: an offset and an end.
_RESERVED = ((0, MIB), (64 * MIB, 64 * MIB + _STRIPE), (256 << 30, (256 << 30) + _STRIPE))


class Room(NamedTuple):
    """What btrfs-convert finds: `pieces` are the free ones, as begin and end in bytes.

    `runs` is how many pieces of space in use the ext4 has, `used_bytes` how large they are.
    """

    pieces: tuple[tuple[int, int], ...]
    runs: int
    used_bytes: int

    @property
    def free_bytes(self) -> int:
        """What btrfs-convert reports as free space."""
        return sum(end - start for start, end in self.pieces)

    @property
    def metadata_bytes(self) -> int:
        """How much metadata it can make, 0 where it cannot even begin."""
        sizes = [end - start for start, end in self.pieces]
        for wanted in _FIRST:
            place = next((n for n, size in enumerate(sizes) if size > wanted), None)
            if place is None:
                return 0
            sizes[place] -= wanted
        return _FIRST[-1] + sum(size // _NEXT_CHUNK * _NEXT_CHUNK for size in sizes)

    def needed_bytes(self, items_bytes: int) -> int:
        """Return how much metadata a conversion makes; `items_bytes` is what the files have."""
        items = items_bytes + self.runs * _RUN_BYTES + self.used_bytes // _CHECKSUMMED_BYTES
        return items * _MORE_PERCENT // 100 + _REPLACED_BYTES

    @staticmethod
    def left_bytes(size_bytes: int) -> int:
        """Return how much has to be left in a filesystem of a size, for who uses it then."""
        return max(_LEAST_LEFT, min(_MOST_LEFT, size_bytes // _LEFT_PART))


class _Chunks:
    """The data chunks, as they grow with each run of blocks in use; all numbers in bytes."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.found: list[list[int]] = []
        self.end = 0
        # The first byte from which on a run may change anything.
        self.look = 0

    def add(self, start: int, end: int) -> None:
        if end < self.end:
            return
        if start > self.end + _LEAST_CHUNK:
            self.end = start
        length = min(max(end - self.end, _LEAST_CHUNK), self.total - self.end)
        if self.found and self.found[-1][1] == self.end:
            self.found[-1][1] += length
        else:
            self.found.append([self.end, self.end + length])
        self.end += length
        self.look = self.end if end == self.end else self.end - 1


def look(groups: Iterable[str], block_bytes: int, total_blocks: int, first_block: int) -> Room:
    """Return the room in a filesystem; `groups` are its blocks in order, as groups.usage() says."""
    total = total_blocks * block_bytes
    chunks, runs, used = _Chunks(total), 0, 0
    base, open_since = first_block, -1
    for digits in groups:
        runs += digits.count("01") + (digits[:1] == "1" and open_since < 0)
        used += digits.count("1")
        place = 0
        while place < len(digits):
            if open_since < 0:
                place = digits.find("1", max(place, chunks.look // block_bytes - base))
                if place < 0:
                    break
                open_since = base + place
            place = digits.find("0", place)
            if place < 0:
                break
            chunks.add(open_since * block_bytes, (base + place) * block_bytes)
            open_since = -1
        # A run that ends with the group may go on in the next one; one that was passed over too.
        if open_since < 0 and digits[-1:] == "1":
            open_since = base + len(digits.rstrip("1"))
        base += len(digits)
    if open_since >= 0:
        chunks.add(open_since * block_bytes, base * block_bytes)
    return Room(tuple(_between(chunks.found, total)), runs, used * block_bytes)


def _between(chunks: list[list[int]], total: int) -> Iterator[tuple[int, int]]:
    """Give what lies between data chunks, without what is reserved."""
    end = 0
    for start, chunk_end in [*_without_reserved(chunks), (total, total)]:
        begin = -(-end // _STRIPE) * _STRIPE
        for reserved, reserved_end in _RESERVED:
            if begin < reserved_end and reserved < start:
                if begin < reserved:
                    yield begin, reserved
                begin = reserved_end
        if begin < start:
            yield begin, start
        end = max(end, chunk_end)


def _without_reserved(chunks: list[list[int]]) -> list[tuple[int, int]]:
    """Return data chunks without what is reserved; a rest that is small grows into what is free."""
    found = [(start, end) for start, end in chunks]
    for reserved, reserved_end in _RESERVED:
        split: list[tuple[int, int]] = []
        for start, end in found:
            if end <= reserved or reserved_end <= start:
                split.append((start, end))
                continue
            if start < reserved:
                split.append((min(start, max(reserved - _LEAST_CHUNK // 2, 0)), reserved))
            if reserved_end < end:
                split.append((reserved_end, max(end, reserved_end + _LEAST_CHUNK // 2)))
        found = split
    return found
