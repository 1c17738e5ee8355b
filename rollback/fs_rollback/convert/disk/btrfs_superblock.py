# SPDX-License-Identifier: GPL-2.0-or-later
"""The superblock of a btrfs: struct btrfs_super_block, btrfs_tree.h of Linux.

Read here and not by btrfs(8): what must not be overwritten is to be known where that is missing.
"""

from __future__ import annotations

import struct
from typing import NamedTuple, Optional

PLACES = (64 << 10, 64 << 20, 256 << 30)
SIZE = 4096
# The checksum, the UUID, where it lies, flags, the magic; further on what kind of checksum it is.
_HEAD = struct.Struct("<32s16sQ8x8s")
_CHECKSUM_KIND = struct.Struct("<H")
_CHECKSUM_KIND_AT, _CRC32C = 196, 0
# btrfs-convert(8) writes the other one until the btrfs is whole.
_MAGIC, _TEMPORARY_MAGIC = b"_BHRfS_M", b"!BHRfS_M"


class Superblock(NamedTuple):
    """What is known of one: its UUID, and whether the conversion that made it had finished it.

    `is_whole` is None where it has a checksum that is not known here.
    """

    uuid: bytes
    is_finished: bool
    is_whole: Optional[bool]


def parse(block: bytes, place: int) -> Optional[Superblock]:
    """Read the `SIZE` bytes at a place; None if no superblock for that place begins there."""
    if len(block) < SIZE:
        return None
    checksum, uuid, found, magic = _HEAD.unpack_from(block)
    if found != place or magic not in (_MAGIC, _TEMPORARY_MAGIC):
        return None
    is_whole = None
    if _CHECKSUM_KIND.unpack_from(block, _CHECKSUM_KIND_AT)[0] == _CRC32C:
        is_whole = checksum == crc32c(block[32:SIZE]).to_bytes(4, "little").ljust(32, b"\0")
    return Superblock(uuid, magic == _MAGIC, is_whole)


def _table() -> tuple[int, ...]:
    found = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        found.append(value)
    return tuple(found)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of RFC 3720, appendix B.4."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF
