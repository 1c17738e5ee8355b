# SPDX-License-Identifier: GPL-2.0-or-later
"""The flags of chattr(1), which cp(1) does not copy: read in one tree, set in its copy."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from ..execute import copies
from ..linux import btrfs

# linux/fs.h: FS_SYNC_FL, IMMUTABLE, APPEND, NODUMP, NOATIME, NOCOMP, DIRSYNC, NOCOW. Compression is
# an attribute on btrfs, too, and cp copies that.
PROTECTED = 0x10 | 0x20
_KEPT = 0x8 | PROTECTED | 0x40 | 0x80 | 0x400 | 0x10000 | btrfs.FS_NOCOW_FL
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def read(tree: str, path: str) -> dict[str, int]:
    """Return the flags of each file and directory at or below a path that has any, by its path.

    For a tree that nobody changes. Nothing in another subvolume is looked at. Raises OSError.
    """
    found: dict[str, int] = {}
    top = os.path.join(tree, path)
    status = os.lstat(top)
    is_directory = os.path.isdir(top) and not os.path.islink(top)
    pending = [path] if is_directory else []
    if is_directory or (os.path.isfile(top) and not os.path.islink(top)):
        _note(tree, path, found)
    while pending:
        directory = pending.pop()
        try:
            entries = list(os.scandir(os.path.join(tree, directory)))
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:  # no path leads so deep, and cp needs none
                continue
            raise
        for entry in entries:
            below = f"{directory}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                if entry.stat(follow_symlinks=False).st_dev != status.st_dev:
                    continue
                pending.append(below)
            elif not entry.is_file(follow_symlinks=False):
                continue
            _note(tree, below, found)
    return found


def _note(tree: str, path: str, found: dict[str, int]) -> None:
    try:
        descriptor = os.open(os.path.join(tree, path), _OPEN)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # as above
            return
        raise
    try:
        flags = btrfs.inode_flags(descriptor) & _KEPT
    finally:
        os.close(descriptor)
    if flags:
        found[path] = flags


def make_nocow(tree: str, copy: str, found: Mapping[str, int]) -> None:
    """Make files of a copy NOCOW that were found to be so in the tree.

    Where the filesystem does not have that, it is left out. Raises OSError, ProcessError.
    """
    for path, flags in found.items():
        if flags & btrfs.FS_NOCOW_FL:
            made = f"{copy}.nocow"  # beside the copies, where no file of theirs has this name
            _make_nocow(os.path.join(tree, path), os.path.join(copy, path), made)


def put(copy: str, found: Mapping[str, int]) -> None:
    """Set the flags that were found in one tree in the copy of it. Raises OSError.

    A flag that this filesystem has not, or has at a file's birth only, is left out.
    """
    # What protects a directory comes after all that is in it.
    for path, flags in sorted(found.items(), key=lambda item: item[0].count("/"), reverse=True):
        set_on(os.path.join(copy, path), flags)


def set_on(place: str, flags: int) -> None:
    """Set flags on a file beside those that it has; as `put`. Raises OSError."""
    descriptor = os.open(place, _OPEN)
    try:
        btrfs.set_inode_flags(descriptor, btrfs.inode_flags(descriptor) | flags)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):  # as promised
            raise
    finally:
        os.close(descriptor)


def _make_nocow(original: str, place: str, made: str) -> None:
    """Make a copied file anew as one whose data is overwritten in place; a directory is left.

    It is made at the path `made`. One with several names stays a plain copy: all of them are one
    file.
    """
    status = os.lstat(place)
    if not os.path.isfile(place) or status.st_nlink > 1:
        return
    directory = os.path.dirname(place)
    above = os.stat(directory)
    descriptor = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        btrfs.make_nocow(descriptor)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):  # no btrfs: left out
            raise
    finally:
        os.close(descriptor)
    descriptors = [int(p.split("/")[4]) for p in (original, made)]
    copies.archive("--no-target-directory", original, made, pass_fds=descriptors)
    os.rename(made, place)
    os.utime(directory, ns=(above.st_atime_ns, above.st_mtime_ns))
