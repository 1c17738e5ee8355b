# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves what a conversion overwrites of an ext4, in that ext4, and gives it back.

core/conversion/beginning.py says what that is. The file is made while the ext4 is mounted; what is
in it is written past the filesystem when it is mounted no more, so that saving changes nothing of
what is saved.
"""

from __future__ import annotations

import os
import secrets
import stat
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from ...core.conversion import beginning
from ...core.conversion.beginning import BLOCK_BYTES, Extent
from ...core.conversion.ext4 import SPARE_BLOCK
from ...core.conversion.preparation import DIRECTORY
from ...errors import Error, ProcessError, kernel_errors
from .. import process, syscalls
from ..process import Say

FILE = f"{DIRECTORY}/beginning"
_SCAN_BYTES = 8 << 20


def reserve(root: str, device: str) -> list[int]:
    """Make the file in a mounted ext4; return where blocks of it lie on the device.

    Raises KernelError, and Error where the filesystem gives no such blocks.
    """
    with _opened(device, os.O_RDONLY) as disk:
        needed = beginning.count(_size(disk))
    taken = [(start, start + length) for start, length in beginning.RANGES]
    # Some may lie just where they must not.
    spare = sum(length for _, length in beginning.RANGES) // BLOCK_BYTES
    path = os.path.join(root, FILE)
    with kernel_errors("write", path):
        # Not cut off first: what an earlier try has left is overwritten, where it is.
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path, flags, 0o600)
        with os.fdopen(descriptor, "w+b") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise Error(f"/{FILE} is not a file of its own", hint="Remove it.")
            file.write(bytes((needed + spare) * BLOCK_BYTES))
            file.flush()
            os.fsync(file.fileno())
            extents = syscalls.extents(file.fileno())
    places = [
        physical + offset
        for _, physical, length in sorted(extents)
        for offset in range(0, length, BLOCK_BYTES)
        if not any(a < physical + offset + BLOCK_BYTES and physical + offset < b for a, b in taken)
    ]
    if len(places) < needed:
        raise Error(
            f"{device} has no place for what has to be saved of it", hint="Free some space on it."
        )
    return places[:needed]


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


def give_back(device: str, filesystem: str, say: Say, *, scan: bool) -> bool:
    """Make an ext4 again of what a conversion has left that was cut off; False if it is none.

    `filesystem` is its UUID. The file is asked for by its name, which only root can give, and only
    with `scan` looked for on the whole device. Nothing is written unless all of it was saved and
    nothing else has written to the device since, or there is nothing to give back. May run again.
    Raises KernelError, and Error where two fit that differ.
    """
    places = _places_of_file(device)
    with _opened(device, os.O_RDWR) as disk:
        found = _fitting(disk, filesystem, (os.pread(disk, BLOCK_BYTES, p) for p in places))
        if not found and scan:
            found = _fitting(disk, filesystem, _looked_for(disk, device, say))
        if len(found) > 1:
            raise Error(
                f"{len(found)} different beginnings of {device} are on it, and all of them fit",
                hint="Somebody has copied or made one; the rescue sheet tells the way by hand.",
            )
        if not found:
            return False
        say(f"giving back to {device} what was saved of it")
        _write(disk, found[0])
    return True


def give_back_under_superblocks(device: str, filesystem: str, say: Say) -> bool:
    """Give an ext4 back what superblocks of a btrfs overwrite; False if there are none of its UUID.

    The first thing that a conversion overwrites, and what the way back may write last: cut off
    there, it is an ext4 that is mounted as ever, and used. Where such a superblock still is nothing
    has written since. Raises KernelError.
    """
    places = _places_of_file(device)
    wanted = uuid.UUID(filesystem).bytes
    with _opened(device, os.O_RDWR) as disk:
        pieces = (beginning.unpack(os.pread(disk, BLOCK_BYTES, place)) for place in places)
        saved = beginning.whole((p for p in pieces if p is not None), _size(disk), wanted)
        covered = [
            place
            for place in beginning.SUPERBLOCKS
            if beginning.is_superblock(
                os.pread(disk, beginning.SUPERBLOCK_BYTES, place), place, wanted
            )
        ]
        if not covered or len(saved) != 1:
            return False
        say(f"giving back to {device} what a conversion that was cut off has overwritten")
        for place in covered:
            _write(disk, beginning.under_superblock(saved[0], place))
    return True


def give_back_from(device: str, filesystem: str, places: Sequence[int]) -> bool:
    """Do the same right after a conversion that failed: where it was saved is known."""
    with _opened(device, os.O_RDWR) as disk:
        found = _fitting(disk, filesystem, (os.pread(disk, BLOCK_BYTES, p) for p in places))
        if found:
            _write(disk, found[0])
    return bool(found)


def _places_of_file(device: str) -> list[int]:
    """Return where the file lies as the spare superblock of the ext4 tells, nothing if it is gone.

    debugfs(8) with -c reads no bitmaps, which may be what is overwritten.
    """
    spare = ["-b", str(BLOCK_BYTES), "-s", str(SPARE_BLOCK), "-c"]
    try:
        said = process.run(["debugfs", *spare, "-R", f"blocks /{FILE}", device])
    except ProcessError:
        return []
    return [int(word) * BLOCK_BYTES for word in said.split() if word.isdigit()]


def _fitting(disk: int, filesystem: str, blocks: Iterable[bytes]) -> list[list[Extent]]:
    """Return the different saves among blocks that the device can be given back from."""
    pieces = (piece for piece in map(beginning.unpack, blocks) if piece is not None)
    found: list[list[Extent]] = []
    for saved in beginning.whole(pieces, _size(disk), uuid.UUID(filesystem).bytes):
        now = _present(disk, [(extent.offset, len(extent.data)) for extent in saved])
        if now != saved and beginning.is_cut_off(saved, now) and saved not in found:
            found.append(saved)
    return found


def _write(disk: int, saved: Sequence[Extent]) -> None:
    """Write it back, the first block last: until then it is no ext4 that anybody would take."""
    for extent in reversed(saved):
        os.pwrite(disk, extent.data, extent.offset)
        if not extent.offset:
            break
    os.fsync(disk)


def _looked_for(disk: int, device: str, say: Say) -> Iterator[bytes]:
    size, said = _size(disk), -1
    for offset in range(0, size, _SCAN_BYTES):
        tenth = offset * 10 // size
        if tenth > said:
            said = tenth
            say(f"looking on {device} for what was saved of it: {tenth * 10} %")
        yield from beginning.blocks_in(os.pread(disk, _SCAN_BYTES, offset))


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
