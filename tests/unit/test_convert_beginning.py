# SPDX-License-Identifier: GPL-2.0-or-later
"""What is saved of an ext4 can be found again, whole, and is given back to nothing else."""

from __future__ import annotations

import random

import pytest

from fs_rollback.convert.torn import pieces as torn_pieces
from fs_rollback.convert.torn.pieces import BLOCK_BYTES, Extent

_UUID, _SAVE = bytes(range(16)), b"s" * 16
_GIB = 1 << 30


def _extents(seed: int = 1) -> list[Extent]:
    chance = random.Random(seed)
    return [Extent(0, chance.randbytes(1 << 20)), Extent(64 << 20, chance.randbytes(64 << 10))]


def _pieces(blocks: list[bytes]) -> list[torn_pieces.Piece]:
    found = [torn_pieces.unpack(block) for block in blocks]
    assert None not in found
    return [piece for piece in found if piece is not None]


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (32 << 20, ((0, 1 << 20),)),
        (_GIB, ((0, 1 << 20), (64 << 20, 64 << 10))),
        (300 * _GIB, ((0, 1 << 20), (64 << 20, 64 << 10), (256 << 30, 64 << 10))),
        ((64 << 20) + 5000, ((0, 1 << 20), (64 << 20, 5000))),
    ],
)
def test_the_ranges_of_a_device(size: int, expected: tuple[tuple[int, int], ...]) -> None:
    assert torn_pieces.ranges(size) == expected


def test_what_was_packed_is_found_in_any_order_among_anything() -> None:
    extents = _extents()
    blocks = torn_pieces.pack(_UUID, _SAVE, extents)
    assert len(blocks) == torn_pieces.count(_GIB)
    assert {len(block) for block in blocks} == {BLOCK_BYTES}
    chance = random.Random(2)
    chance.shuffle(blocks)
    disk = b"".join(block + chance.randbytes(BLOCK_BYTES) for block in blocks)
    pieces = _pieces(list(torn_pieces.blocks_in(disk)))
    assert {piece.uuid for piece in pieces} == {_UUID}
    (saved,) = torn_pieces.whole(pieces, _GIB, _UUID)
    assert saved.uuid == _UUID
    assert b"".join(e.data for e in saved.extents) == b"".join(e.data for e in extents)
    assert saved.extents[0].offset == 0


def test_a_block_that_is_not_whole_is_none() -> None:
    block = torn_pieces.pack(_UUID, _SAVE, _extents())[3]
    for place in (0, 30, 60, 100, 600, BLOCK_BYTES - 1):
        damaged = bytearray(block)
        damaged[place] ^= 1
        assert torn_pieces.unpack(bytes(damaged)) is None, place
    assert torn_pieces.unpack(block[:-1]) is None
    assert torn_pieces.unpack(bytes(BLOCK_BYTES)) is None


def test_blocks_are_looked_for_where_blocks_are() -> None:
    block = torn_pieces.pack(_UUID, _SAVE, _extents())[0]
    assert list(torn_pieces.blocks_in(b"x" * 512 + block)) == []
    assert list(torn_pieces.blocks_in(b"x" * BLOCK_BYTES + block)) == [block]


def test_what_is_not_complete_is_not_given() -> None:
    one = _pieces(torn_pieces.pack(_UUID, _SAVE, _extents()))
    other = _pieces(torn_pieces.pack(_UUID, b"t" * 16, _extents(3)))
    assert torn_pieces.whole([*one[1:], *other[:-1]], _GIB, _UUID) == []
    assert len(torn_pieces.whole([*one, *other[:-1]], _GIB, _UUID)) == 1
    assert len(torn_pieces.whole([*one, *other], _GIB, _UUID)) == 2


def test_only_what_is_of_this_device_counts() -> None:
    pieces = _pieces(torn_pieces.pack(_UUID, _SAVE, _extents()))
    assert torn_pieces.whole(pieces, _GIB, b"o" * 16) == []
    moved = [p._replace(extent=Extent(p.extent.offset + 512, p.extent.data)) for p in pieces]
    assert torn_pieces.whole(moved, _GIB, _UUID) == []
    more = [p._replace(number=p.number + len(pieces)) for p in pieces]
    assert torn_pieces.whole(more, _GIB, _UUID) == []
    alone = _pieces(torn_pieces.pack(_UUID, _SAVE, [Extent(64 << 20, b"x" * 4096)]))
    assert torn_pieces.whole(alone, _GIB, _UUID) == []


def test_a_device_may_have_grown_or_shrunk() -> None:
    pieces = _pieces(torn_pieces.pack(_UUID, _SAVE, _extents()))
    assert len(torn_pieces.whole(pieces, 300 * _GIB, _UUID)) == 1
    assert len(torn_pieces.whole(pieces, 300 * _GIB)) == 1
    small = _pieces(torn_pieces.pack(_UUID, _SAVE, _extents()[:1]))
    assert len(torn_pieces.whole(small, 300 * _GIB, _UUID)) == 1
    large = _pieces(
        torn_pieces.pack(_UUID, _SAVE, [*_extents(), Extent(256 << 30, bytes(64 << 10))])
    )
    for extents, size in ((_extents(), 100 * _GIB), (_extents()[:1], 32 << 20)):
        (saved,) = torn_pieces.whole(large, size, _UUID)
        assert b"".join(e.data for e in saved.extents) == b"".join(e.data for e in extents)


def test_a_disk_full_of_them_takes_no_memory() -> None:
    first = torn_pieces.pack(_UUID, _SAVE, _extents())[0]
    (piece,) = _pieces([first])
    many = (piece._replace(save=number.to_bytes(16, "big")) for number in range(10000))
    assert torn_pieces.whole(many, _GIB, _UUID) == []


def _changed(extent: Extent, at: int, data: bytes) -> Extent:
    return Extent(extent.offset, extent.data[:at] + data + extent.data[at + len(data) :])


@pytest.mark.parametrize(
    ("at", "data", "expected"),
    [
        (0, b"", True),
        (1024, bytes(512), True),
        (0, bytes(64 << 10), True),
        (64 << 10, b"\xff" * 4096, True),
        (1024, b"\xff", False),
        (1025, bytes(10), False),
        (68 << 10, bytes(512), False),
        (68 << 10, b"\xff" * 512, False),
        ((64 << 10) + 4095, b"\xff\xff", False),
    ],
)
def test_what_a_conversion_leaves_and_nothing_else(at: int, data: bytes, expected: bool) -> None:
    saved = _extents()
    now = [_changed(saved[0], at, data), saved[1]]
    assert torn_pieces.is_cut_off(saved, now) is expected


@pytest.mark.parametrize(
    ("at", "data", "expected"),
    [
        (0, b"", False),
        (4096, bytes(512), True),
        (64 << 10, b"\xff" * 4096, True),
        # What a mount that fails, or e2fsck(8), leaves there.
        (1072, b"\xff" * 16, False),
        (4096, b"\xff" * 512, False),
        (68 << 10, bytes(512), False),
    ],
)
def test_what_only_a_conversion_overwrites(at: int, data: bytes, expected: bool) -> None:
    saved = _extents()
    now = [_changed(saved[0], at, data), saved[1]]
    assert torn_pieces.is_overwritten(saved, now) is expected


def test_the_zeros_of_a_conversion_are_found() -> None:
    saved = _extents()
    for at in (4096, 60 << 10):
        now = [_changed(saved[0], at, bytes(512)), saved[1]]
        assert torn_pieces.zeroed(saved, now) == [Extent(at, saved[0].data[at : at + 512])]
    assert torn_pieces.zeroed(saved, saved) == []
    assert torn_pieces.zeroed(saved, [_changed(saved[0], 68 << 10, bytes(512)), saved[1]]) == []


def test_behind_the_second_superblock_nothing_may_have_changed() -> None:
    saved = _extents()
    assert torn_pieces.is_cut_off(saved, [saved[0], _changed(saved[1], 0, b"\xff" * 4096)])
    assert not torn_pieces.is_cut_off(saved, [saved[0], _changed(saved[1], 4096, b"\xff")])


def test_what_was_under_a_superblock_is_found_in_all_pieces() -> None:
    (first, *_), place = _extents(), 64 << 10
    pieces = [Extent(start, first.data[start : start + 3584]) for start in range(0, 1 << 20, 3584)]
    assert torn_pieces.under_superblock(pieces, place) == first.data[place : place + 4096]
