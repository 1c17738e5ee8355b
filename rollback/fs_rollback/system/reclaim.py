# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes files where subvolumes may lie among them: none of those is ever entered."""

from __future__ import annotations

import os

from ..core.snapshot import STORE
from ..errors import KernelError
from . import btrfs, syscalls
from .host import Host

# GRUB reads /boot by path from the top level, whatever the default subvolume is.
_STAYS = frozenset((STORE, "boot"))


def reclaim_top_level(host: Host) -> None:
    """Remove an old root that lies in the top level itself.

    The store, subvolumes wherever they are (with the directories above them) and /boot, which a
    boot loader may read there, stay. May run again after it was cut off. Raises KernelError.
    """
    try:
        with os.scandir(host.top) as entries:
            for entry in list(entries):
                if entry.name not in _STAYS:
                    remove(entry.path)
    except OSError as error:
        raise KernelError("reclaim the old root in", "the top level", error) from error


def remove(path: str) -> bool:
    """Remove a file or a directory with all it holds, except subvolumes and what leads to them.

    Returns whether it is gone. No symbolic link is followed.
    """
    try:
        return _remove(path)
    except PermissionError:
        # Immutable or append-only, chattr(1): against changes, not against going with the tree.
        if not syscalls.unprotect(path):
            raise
        return _remove(path)


def _remove(path: str) -> bool:
    status = os.lstat(path)
    if status.st_ino == btrfs.SUBVOLUME_INODE:
        return False
    if not os.path.isdir(path) or os.path.islink(path):
        os.unlink(path)
        return True
    with os.scandir(path) as entries:
        left = [entry.path for entry in list(entries) if not remove(entry.path)]
    if left:
        return False
    os.rmdir(path)
    return True
