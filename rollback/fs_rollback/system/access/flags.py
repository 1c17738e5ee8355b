# SPDX-License-Identifier: GPL-2.0-or-later
"""The flags of chattr(1), which a copy does not get: those of one tree set in its copy."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from ..execute import copies
from ..linux import btrfs

# linux/fs.h: FS_SYNC_FL, IMMUTABLE, APPEND, NODUMP, NOATIME, NOCOMP, DIRSYNC, NOCOW. Compression is
# an attribute on btrfs, too, which is copied.
PROTECTED = 0x10 | 0x20
KEPT = 0x8 | PROTECTED | 0x40 | 0x80 | 0x400 | 0x10000 | btrfs.FS_NOCOW_FL
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
