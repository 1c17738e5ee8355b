# SPDX-License-Identifier: GPL-2.0-or-later
"""A superblock of a btrfs is known for what it is, and for whole only if it is."""

from __future__ import annotations

import pytest

from fs_rollback.convert.disk import btrfs_superblock

_UUID, _PLACE = b"u" * 16, 64 << 20


def _made(place: int = _PLACE, magic: bytes = b"_BHRfS_M", kind: int = 0) -> bytes:
    rest = _UUID + place.to_bytes(8, "little") + bytes(8) + magic
    rest = rest.ljust(196 - 32, b"r") + kind.to_bytes(2, "little")
    rest = rest.ljust(btrfs_superblock.SIZE - 32, b"\0")
    return btrfs_superblock.crc32c(rest).to_bytes(4, "little").ljust(32, b"\0") + rest


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # RFC 3720, B.4; the first is the check value of the catalogues.
        (b"123456789", 0xE3069283),
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
    ],
)
def test_crc32c(data: bytes, expected: int) -> None:
    assert btrfs_superblock.crc32c(data) == expected


def test_finished_or_not() -> None:
    assert btrfs_superblock.parse(_made(), _PLACE) == (_UUID, True, True)
    assert btrfs_superblock.parse(_made(magic=b"!BHRfS_M"), _PLACE) == (_UUID, False, True)


def test_whole_or_not() -> None:
    block = bytearray(_made())
    block[3000] ^= 1
    assert btrfs_superblock.parse(bytes(block), _PLACE) == (_UUID, True, False)
    assert btrfs_superblock.parse(_made(kind=1), _PLACE) == (_UUID, True, None), "xxhash"


def test_others() -> None:
    for block in (_made(64 << 10), _made(magic=b"_BHRfS_N"), bytes(4096), b""):
        assert btrfs_superblock.parse(block, _PLACE) is None
