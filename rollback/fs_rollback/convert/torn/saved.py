# SPDX-License-Identifier: GPL-2.0-or-later
"""Saves the blocks of an ext4 that a conversion overwrites, in that ext4, and restores them.

convert/torn/pieces.py says what that is. The file is made while the ext4 is mounted; what is
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

from ...core.boot.conversion_state import DIRECTORY
from ...errors import Error, ProcessError, RefusedError, kernel_errors
from ...system.linux import process, syscalls
from ...system.linux.process import Say
from ..disk import btrfs_superblock
from ..disk.btrfs_superblock import Superblock
from ..disk.ext4 import SPARE_BLOCK
from . import pieces as torn_pieces
from .pieces import BLOCK_BYTES, Extent, Saved

FILE = f"{DIRECTORY}/beginning"
_SCAN_BYTES = 8 << 20


def reserve(root: str, device: str) -> list[int]:
    """Make the file in a mounted ext4; return where blocks of it lie on the device.

    Raises KernelError, and Error where the filesystem gives no such blocks.
    """
    with _opened(device, os.O_RDONLY) as disk:
        needed = torn_pieces.count(_size(disk))
    taken = [(start, start + length) for start, length in torn_pieces.RANGES]
    # Some may lie just where they must not.
    spare = sum(length for _, length in torn_pieces.RANGES) // BLOCK_BYTES
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
            f"{device} has no room for the blocks that must be saved", hint="Free some space on it."
        )
    return places[:needed]


def wipe(root: str) -> None:
    """Overwrite the file, if there is one, so that it is not found later. Raises KernelError."""
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
        blocks = torn_pieces.pack(
            uuid.UUID(filesystem).bytes,
            secrets.token_bytes(16),
            _present(disk, torn_pieces.ranges(_size(disk))),
        )
        for place, block in zip(places, blocks):
            os.pwrite(disk, block, place)
        os.fsync(disk)
        # Only what is on the disk counts.
        os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_DONTNEED)
        if [os.pread(disk, BLOCK_BYTES, place) for place in places] != blocks:
            raise Error(f"the blocks saved on {device} cannot be read again", hint="See 'dmesg'.")


def named(device: str) -> list[Saved]:
    """Return what was saved of an ext4, as its file has it, which only root can write.

    Nothing if the file is not found by its name. Raises ProcessError without debugfs(8).
    """
    return saved_at(device, _places_of(device, FILE))


def saved_at(device: str, places: Sequence[int]) -> list[Saved]:
    """Return what was saved of an ext4 in blocks of which it is known where they lie."""
    with _opened(device, os.O_RDONLY) as disk:
        return _whole(disk, (os.pread(disk, BLOCK_BYTES, place) for place in places))


def is_there(device: str, path: str) -> bool:
    """Whether a file of an ext4 is found by its path from the root. Raises ProcessError."""
    return bool(_places_of(device, path))


def looked_for(device: str, filesystem: str, say: Say) -> list[Saved]:
    """Return what was saved of the filesystem with a UUID from wherever it lies on the device.

    Users may have put some there.
    """
    with _opened(device, os.O_RDONLY) as disk:
        return _whole(disk, _blocks(disk, device, say), uuid.UUID(filesystem).bytes)


def superblocks(device: str) -> dict[int, tuple[Superblock, bytes]]:
    """Return the superblocks of a btrfs by their places, and their blocks."""
    found = {}
    with _opened(device, os.O_RDONLY) as disk:
        for place in btrfs_superblock.PLACES:
            # A mounted ext4 may have written there past what was read of the device before.
            os.posix_fadvise(disk, place, btrfs_superblock.SIZE, os.POSIX_FADV_DONTNEED)
            block = os.pread(disk, btrfs_superblock.SIZE, place)
            parsed = btrfs_superblock.parse(block, place)
            if parsed is not None:
                found[place] = (parsed, block)
    return found


def is_btrfs(device: str) -> bool:
    """Whether a device has the first superblock of a finished btrfs, whole."""
    first = superblocks(device).get(btrfs_superblock.PLACES[0])
    return first is not None and first[0].is_finished and first[0].is_whole is not False


def superblocks_of(device: str, filesystem: str) -> list[int]:
    """Return where there are superblocks of the btrfs with a UUID, whole or not."""
    wanted = uuid.UUID(filesystem).bytes
    return [place for place, (read, _) in superblocks(device).items() if read.uuid == wanted]


def fitting(device: str, saves: Sequence[Saved]) -> list[Saved]:
    """Return those of which the device has all that no conversion makes another, and not the rest.

    What the power has left, if nothing has written to it since.
    """
    return [
        saved
        for saved in saves
        if torn_pieces.is_cut_off(saved.extents, now := _now(device, saved))
        and torn_pieces.is_overwritten(saved.extents, now)
    ]


def with_traces(device: str, saves: Sequence[Saved]) -> list[Saved]:
    """Return those of which a conversion has certainly overwritten something."""
    return [
        saved
        for saved in saves
        if under_superblocks(device, saved)
        or torn_pieces.zeroed(saved.extents, _now(device, saved))
    ]


def under_superblocks(device: str, saved: Saved) -> dict[int, Superblock]:
    """Return the superblocks of the btrfs that lie in the ext4 now and did not when it was saved.

    A damaged one in a block that nothing uses any more is none.
    """
    return {
        place: read
        for place, (read, block) in superblocks(device).items()
        if read.uuid == saved.uuid
        and block != torn_pieces.under_superblock(saved.extents, place)
        and (read.is_whole or not is_free(device, place))
    }


def missing(device: str, saved: Saved) -> list[Extent]:
    """Return what was saved of all that a conversion has certainly overwritten.

    Where a superblock of the btrfs is whole nothing has written since, and ext4 itself makes hardly
    a sector zero at the beginning of a device. Raises RefusedError where something has written into
    a superblock.
    """
    found = under_superblocks(device, saved)
    for place, read in found.items():
        if read.is_whole is not True:
            raise RefusedError(
                f"the block of {device} at byte {place} was overwritten by an interrupted"
                " conversion, and was written to since: its content is damaged",
                hint=put_back_by_hand(device, place),
            )
    return [
        *torn_pieces.zeroed(saved.extents, _now(device, saved)),
        *(Extent(place, torn_pieces.under_superblock(saved.extents, place)) for place in found),
    ]


def put_back_by_hand(device: str, place: int) -> str:
    """Return what to do about a damaged block of an ext4."""
    return (
        f"'debugfs -R \"icheck {place // BLOCK_BYTES}\" {device}' names its inode, and ncheck the"
        " file: restore that file from the backup, as a new file."
    )


def write(device: str, extents: Sequence[Extent]) -> list[Extent]:
    """Write to a device, durably; returns what was there. May run again. Raises KernelError."""
    with _opened(device, os.O_RDWR) as disk:
        before = _present(disk, [(offset, len(data)) for offset, data in extents])
        # The first block last: until then it is no ext4 that anybody would take.
        for extent in sorted(extents, reverse=True):
            if not extent.offset:
                os.fsync(disk)
            os.pwrite(disk, extent.data, extent.offset)
        os.fsync(disk)
    return before


def is_free(device: str, place: int) -> bool:
    """Whether a block belongs to nothing, as the bitmaps of the ext4 say. Raises ProcessError."""
    said = process.run(["debugfs", "-R", f"testb {place // BLOCK_BYTES}", device])
    return said.strip().endswith("not in use")


def _places_of(device: str, path: str) -> list[int]:
    """Return where a file of the ext4 lies, nothing if it is not found.

    As the spare superblock tells, or the first one: either may be damaged, the latter by what is
    looked at here, the former by an e2fsck(8) that did not see that. debugfs(8) with -c reads no
    bitmaps, which may be overwritten too. Raises ProcessError where it cannot be started: what it
    would have found is there all the same.
    """
    for which in (["-b", str(BLOCK_BYTES), "-s", str(SPARE_BLOCK)], []):
        try:
            said = process.run(["debugfs", *which, "-c", "-R", f"blocks /{path}", device])
        except ProcessError as error:  # the other superblock may tell
            if isinstance(error.__cause__, OSError):
                raise
            continue
        found = [int(word) * BLOCK_BYTES for word in said.split() if word.isdigit()]
        if found:
            return found
    return []


def _whole(disk: int, blocks: Iterable[bytes], filesystem: bytes | None = None) -> list[Saved]:
    """Return the different saves among blocks."""
    pieces = (piece for piece in map(torn_pieces.unpack, blocks) if piece is not None)
    return list(dict.fromkeys(torn_pieces.whole(pieces, _size(disk), filesystem)))


def _now(device: str, saved: Saved) -> list[Extent]:
    """Return what the device has where it was saved."""
    with _opened(device, os.O_RDONLY) as disk:
        return _present(disk, [(offset, len(data)) for offset, data in saved.extents])


def _blocks(disk: int, device: str, say: Say) -> Iterator[bytes]:
    size, said = _size(disk), -1
    os.posix_fadvise(disk, 0, 0, os.POSIX_FADV_SEQUENTIAL)  # read ahead in larger steps
    for offset in range(0, size, _SCAN_BYTES):
        tenth = offset * 10 // size
        if tenth > said:
            said = tenth
            say(f"searching {device} for saved blocks: {tenth * 10} %")
        yield from torn_pieces.blocks_in(os.pread(disk, _SCAN_BYTES, offset))


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
