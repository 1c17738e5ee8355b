# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes files where subvolumes may lie among them: none of those is ever entered."""

from __future__ import annotations

import errno
import os
import stat

from . import btrfs, files, syscalls


def remove(path: str) -> bool:
    """Remove a file or a directory with all it holds, except subvolumes and what leads to them.

    Returns whether it is gone. No symbolic link is followed, and no depth is too much: directories
    are opened one component after the other.
    """
    parent, name = os.path.split(path)
    with files.opened(parent) as top:
        if not _is_plain_directory(os.stat(name, dir_fd=top, follow_symlinks=False)):
            return _remove_entry(top, name)
        return _remove_tree(top, name)


def _remove_tree(top: int, name: str) -> bool:
    found: list[tuple[str, ...]] = []
    pending: list[tuple[str, ...]] = [(name,)]
    gone = True
    with files.Way(top) as way:
        while pending:
            path = pending.pop()
            found.append(path)
            directory = way.opened(path)
            for entry in os.listdir(directory):
                if _is_plain_directory(os.stat(entry, dir_fd=directory, follow_symlinks=False)):
                    pending.append((*path, entry))
                else:
                    _remove_entry(directory, entry)
        for path in reversed(found):
            gone = _remove_entry(way.opened(path[:-1]), path[-1]) and gone
    return gone


def _is_plain_directory(status: os.stat_result) -> bool:
    return stat.S_ISDIR(status.st_mode) and status.st_ino != btrfs.SUBVOLUME_INODE


def _remove_entry(directory: int, name: str) -> bool:
    """Remove a file or an empty directory; False if a subvolume is, or lies in, its way."""
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if status.st_ino == btrfs.SUBVOLUME_INODE:
        return False
    remove_it = os.rmdir if stat.S_ISDIR(status.st_mode) else os.unlink
    try:
        remove_it(name, dir_fd=directory)
    except PermissionError:
        # Immutable or append-only, chattr(1): against changes, not against going with the tree.
        # It may be the directory that is, too.
        place = f"/proc/self/fd/{directory}"
        own = status.st_ino != btrfs.STUB_INODE and syscalls.unprotect(f"{place}/{name}")
        if not (syscalls.unprotect(f"{place}/.") or own):
            raise
        remove_it(name, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ENOTEMPTY:  # its caller goes into it
            return False
        raise
    return True
