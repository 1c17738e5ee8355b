# SPDX-License-Identifier: GPL-2.0-or-later
"""The flags of chattr(1), which a copy does not get: those of one tree set in its copy."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

from ..linux import chattr

# linux/fs.h: FS_SYNC_FL, IMMUTABLE, APPEND, NODUMP, NOATIME, NOCOMP, DIRSYNC, NOCOW. Compression is
# an attribute on btrfs, too, which is copied.
PROTECTED = 0x10 | 0x20
KEPT = 0x8 | PROTECTED | 0x40 | 0x80 | 0x400 | 0x10000 | chattr.FS_NOCOW_FL
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


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
        chattr.set_inode_flags(descriptor, chattr.inode_flags(descriptor) | flags)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOTTY):  # as promised
            raise
    finally:
        os.close(descriptor)
