# SPDX-License-Identifier: GPL-2.0-or-later
"""Balances a converted btrfs, and finds out first whether that can succeed.

The way back to ext4 needs the data where ext4 had it (do_rollback() in convert/main.c of
btrfs-progs): a balance of data ends it with the first chunk that it moves, one of metadata does
not.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ...errors import Error, RefusedError
from ...system.linux import process
from ...system.linux.process import Say
from ...system.machine.host import Host
from ..disk.btrfs_convert import progress
from ..plan.plan import SAVED

# Data chunks that are fuller are left alone: there is little to gain. The emptiest ones come first,
# as each that goes makes room for the next.
_FULL_PERCENT = (25, 50, 75)
_MIB = 1 << 20
# The kernel makes metadata chunks as large as this, or a tenth of the filesystem.
_CHUNK_BYTES, _LARGE_CHUNK_BYTES, _LARGE_BYTES = 256 * _MIB, 1024 * _MIB, 50 << 30
_SIZE = re.compile(r"Device size:\s+(\d+)")
_UNALLOCATED = re.compile(r"Device unallocated:\s+(\d+)")
_DATA = re.compile(r"^Data,\S+ Size:(\d+), Used:(\d+)", re.MULTILINE)


class Space(NamedTuple):
    """What btrfs-filesystem(8) says of the use of a filesystem, in bytes.

    `unallocated` belongs to no chunk yet; `data_free` is free in data chunks.
    """

    size: int
    unallocated: int
    data_free: int

    @property
    def needed(self) -> int:
        """What a balance needs to make metadata chunks before it frees the old ones."""
        chunk = _LARGE_CHUNK_BYTES if self.size > _LARGE_BYTES else _CHUNK_BYTES
        return 2 * min(chunk, self.size // 10)


def space(root: str) -> Space:
    """Return the space of the filesystem that is mounted on a directory. Raises ProcessError."""
    said = process.run(["btrfs", "filesystem", "usage", "-b", root])
    size, unallocated = _SIZE.search(said), _UNALLOCATED.search(said)
    if size is None or unallocated is None:
        raise Error(
            f"'btrfs filesystem usage -b {root}' does not say how much is free",
            hint="Update btrfs-progs.",
        )
    free = sum(int(found[1]) - int(found[2]) for found in _DATA.finditer(said))
    return Space(int(size[1]), int(unallocated[1]), free)


def refuse_full(host: Host) -> None:
    """Raise RefusedError where even data chunks that are packed would leave no room."""
    found = space(host.root)
    if found.unallocated + found.data_free < found.needed:
        raise RefusedError(
            f"a balance needs {found.needed // _MIB} MiB of free space, but there are only"
            f" {(found.unallocated + found.data_free) // _MIB}: {SAVED} is kept, and with it the"
            " way back to ext4",
            hint=_ways_out(host),
        )


def refuse_untidy(host: Host) -> None:
    """Raise RefusedError where a balance of one metadata chunk fails, which ends no way back."""
    try:
        _balance(host, "-mlimit=1")
    except Error as error:
        raise RefusedError(
            f"there is no room for a balance ({error}): {SAVED} is kept, and with it the way back"
            " to ext4",
            hint="'fs-rollback convert finish --balance --remove-ext4' repacks the data chunks"
            f" first, and deletes it only after that succeeded. {_ways_out(host)}",
        ) from error


def _ways_out(host: Host) -> str:
    return (
        "To return to ext4, from a rescue system: 'fs-rollback convert run --back --device"
        f" UUID={host.uuid}'. To stay without a way back: 'btrfs subvolume delete"
        f" {host.root.rstrip('/')}/{SAVED}', then 'fs-rollback convert finish --balance'."
    )


def balance(host: Host, say: Say, *, is_way_back: bool) -> None:
    """Balance the data chunks that are not full, then the metadata. Raises Error.

    `is_way_back`: there is one until the first chunk is moved.
    """
    try:
        for percent in _FULL_PERCENT:
            say(f"balancing data chunks that are at most {percent} % full")
            _balance(host, f"-dusage={percent}", say)
        say("balancing the metadata")
        _balance(host, "-m", say)
    except Error as error:
        if is_way_back:
            error.hint = (
                f"{SAVED} was not deleted: 'mount -o ro,loop {host.root.rstrip('/')}/{SAVED}/image"
                f" DIRECTORY' shows the files of the old ext4. {_ways_out(host)}"
            )
        raise


def _balance(host: Host, which: str, say: Say = str) -> None:
    command = ["btrfs", "balance", "start", which, host.root]
    code, last = process.watch(command, progress(say))
    if code:
        raise Error(
            f"'{' '.join(command)}' failed: {last}",
            hint="'dmesg' shows how much space was missing.",
        )
