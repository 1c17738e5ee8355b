# SPDX-License-Identifier: GPL-2.0-or-later
"""Ext4 whose free space is where btrfs-convert cannot use it, as years of use may leave it."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

MIB = 1 << 20
# linux/falloc.h
_KEEP_SIZE, _PUNCH_HOLE = 1, 2
# Blocks that the map of such a file takes, and those that are kept for it.
_SPARE_BYTES = 48 * MIB
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long)


def scatter(root: Path, piece: int, *, used: int = 4096, leave: int = 0) -> None:
    """Leave free space of a mounted ext4 in pieces with `used` bytes between, but for `leave`.

    All in bytes. Nothing is written: what is in use is preallocated.
    """
    status = os.statvfs(root)
    size = status.f_bfree * status.f_frsize - leave - _SPARE_BYTES
    with (root / "lost+found/scattered").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
        for offset in range(0, size, piece + used):
            flags = _KEEP_SIZE | _PUNCH_HOLE
            if _LIBC.fallocate(file.fileno(), flags, offset, piece):
                raise OSError(ctypes.get_errno(), "fallocate")
        os.fsync(file.fileno())


def fill_with_small_files(root: Path, count: int, size: int) -> None:
    """Make many files that lie in the metadata of btrfs."""
    data = b"x" * size
    for number in range(count):
        directory = root / f"srv/small{number // 1000}"
        if number % 1000 == 0:
            directory.mkdir()
        (directory / f"{number}").write_bytes(data)
