# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves what a conversion overwrites of an ext4, in that ext4, and gives it back.

core/conversion/beginning.py says what that is. The file is made while the ext4 is mounted; what is
in it is written past the filesystem when it is mounted no more, so that saving changes nothing of
what is saved.
"""

from __future__ import annotations

import os
import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Callable

from ...core.conversion import beginning
from ...core.conversion.beginning import BLOCK_BYTES, Extent, Piece
from ...core.conversion.preparation import DIRECTORY
from ...errors import Error, kernel_errors
from .. import syscalls

FILE = f"{DIRECTORY}/beginning"
_SCAN_BYTES = 8 << 20

Say = Callable[[str], object]


def reserve(root: str, device: str) -> list[int]:
    """Make the file in a mounted ext4; return where its blocks lie on the device.

    Raises KernelError, and Error where the filesystem gives no such blocks.
    """
    with _opened(device, os.O_RDONLY) as disk:
        size = beginning.count(_size(disk)) * BLOCK_BYTES
    path = os.path.join(root, FILE)
    with kernel_errors("write", path):
        # Not cut off first: what an earlier try has left is overwritten, where it is.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            file.write(bytes(size))
            file.flush()
            os.fsync(file.fileno())
            extents = syscalls.extents(file.fileno())
    places = [
        physical + offset
        for _, physical, length in sorted(extents)
        for offset in range(0, length, BLOCK_BYTES)
    ]
    taken = [(start, start + length) for start, length in beginning.RANGES]
    free = not any(a < place + BLOCK_BYTES and place < b for place in places for a, b in taken)
    if len(places) * BLOCK_BYTES != size or not free:
        raise Error(
            f"{device} has no place for what has to be saved of it", hint="Free some space on it."
        )
    return places


def wipe(root: str) -> None:
    """Overwrite the file, if there is one: what was saved must not be found later. KernelError."""
    path = os.path.join(root, FILE)
    if not os.path.lexists(path):
        return
    with kernel_errors("write", path):
        with open(path, "r+b") as file:
            file.write(bytes(os.fstat(file.fileno()).st_size))
            file.flush()
            os.fsync(file.fileno())
        os.unlink(path)


def save(device: str, filesystem: str, places: Sequence[int]) -> None:
    """Save the beginning of an ext4 that is not mounted; `filesystem` is its UUID.

    Raises KernelError, and Error where it cannot be read again.
    """
    with _opened(device, os.O_RDWR) as disk:
        blocks = beginning.pack(
            uuid.UUID(filesystem).bytes,
            secrets.token_bytes(16),
            _present(disk, beginning.ranges(_size(disk))),
        )
        for place, block in zip(places, blocks):
            os.pwrite(disk, block, place)
        os.fsync(disk)
        # Only what is on the disk counts.
        os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_DONTNEED)
        if [os.pread(disk, BLOCK_BYTES, place) for place in places] != blocks:
            raise Error(f"what was saved on {device} cannot be read again", hint="See 'dmesg'.")


def is_unfinished(device: str) -> bool:
    """Whether a device has the superblock of a btrfs that a conversion has not finished."""
    with _opened(device, os.O_RDONLY) as disk:
        return beginning.is_unfinished(os.pread(disk, 1 << 17, 0))


def give_back(device: str, say: Say) -> bool:
    """Make an ext4 again of what a conversion has left that was cut off; False if it is none.

    Nothing is written unless all of it was saved and nothing else has written to it since. May run
    again. Raises KernelError.
    """
    with _opened(device, os.O_RDWR) as disk:
        fitting = []
        for saved in beginning.whole(_pieces(disk, device, say)):
            places = [(extent.offset, len(extent.data)) for extent in saved]
            if beginning.is_cut_off(saved, _present(disk, places)):
                fitting.append(saved)
        if not fitting:
            return False
        say(f"giving back to {device} what was saved of it")
        # An earlier one may lie where a file was deleted; where all is zero it fits as well.
        _write(disk, max(fitting, key=beginning.written_kib))
    return True


def _write(disk: int, saved: Sequence[Extent]) -> None:
    """Write it back, the first block last: until then it is no ext4 that anybody would take."""
    for extent in reversed(saved):
        os.pwrite(disk, extent.data, extent.offset)
        if not extent.offset:
            break
    os.fsync(disk)


def _pieces(disk: int, device: str, say: Say) -> Iterator[Piece]:
    size, said = _size(disk), -1
    for offset in range(0, size, _SCAN_BYTES):
        tenth = offset * 10 // size
        if tenth > said:
            said = tenth
            say(f"looking on {device} for what was saved of it: {tenth * 10} %")
        data = os.pread(disk, _SCAN_BYTES, offset)
        for block in beginning.blocks_in(data):
            piece = beginning.unpack(block)
            if piece is not None:
                yield piece


def _present(disk: int, places: Sequence[tuple[int, int]]) -> list[Extent]:
    return [Extent(offset, os.pread(disk, size, offset)) for offset, size in places]


def _size(disk: int) -> int:
    return os.lseek(disk, 0, os.SEEK_END)


@contextmanager
def _opened(device: str, flags: int) -> Iterator[int]:
    with kernel_errors("open", device):
        descriptor = os.open(device, flags | os.O_CLOEXEC)
    try:
        with kernel_errors("read or write", device):
            yield descriptor
    finally:
        os.close(descriptor)
