# SPDX-License-Identifier: GPL-2.0-or-later
"""What files have beside their data, mode and owner: flags, extended attributes, SELinux labels.

The flags of chattr(1) are set such that a file's compression stays as it is.
FS_IOC_SETFLAGS takes the compression that the filesystem prefers for any file with FS_COMPR_FL, and
takes the attribute btrfs.compression away from any other: whatever else it is used for.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import stat
import struct
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

# linux/fs.h, also for the others; they take an int, whatever their numbers say.
_FS_IOC_GETFLAGS, _FS_IOC_SETFLAGS = 0x80086601, 0x40086602
_COMPRESSED, FS_NOCOW_FL = 0x4 | 0x400, 0x800000  # FS_COMPR_FL | FS_NOCOMP_FL
_PROTECTED = 0x10 | 0x20  # FS_IMMUTABLE_FL, FS_APPEND_FL
_FS_IOC_FSGETXATTR, _FS_IOC_FSSETXATTR = 0x801C581F, 0x401C5820
_FSXATTR = struct.Struct("=I24s")  # fsx_xflags, and what is given back as it was
# The flags that these know, and which leave the compression alone: FS_SYNC_FL, FS_IMMUTABLE_FL,
# FS_APPEND_FL, FS_NODUMP_FL, FS_NOATIME_FL, each with its FS_XFLAG.
_XFLAGS = {0x8: 0x20, 0x10: 0x8, 0x20: 0x10, 0x40: 0x80, 0x80: 0x40}
_COMMON = sum(_XFLAGS)
_COMPRESSION = "btrfs.compression"
LABEL = "security.selinux"
# With SELinux on, what has no label seems to have this type, as does what has an unknown one.
_UNLABELED = b":unlabeled_t:"


def extended(file: int | str) -> dict[str, bytes]:
    """Return the extended attributes of what is open, or at a path where no link is followed.

    A label that says nothing is left out: a copy then has what the policy gives to a new file.
    Raises OSError.
    """
    follow = isinstance(file, int)
    names = os.listxattr(file, follow_symlinks=follow)
    found = {name: os.getxattr(file, name, follow_symlinks=follow) for name in names}
    if _UNLABELED in found.get(LABEL, b""):
        del found[LABEL]
    return found


def label_like_directory(directory: int, name: str) -> None:
    """Give a new file the label of the open directory that it is in, if no policy gave it one.

    That is so in a rescue system without SELinux, which may work on a machine that has it.
    """
    path = f"/proc/self/fd/{directory}/{name}"
    with suppress(OSError):  # no label to give, no place for it, or no right: the file counts
        label = os.getxattr(f"/proc/self/fd/{directory}", LABEL)
        if LABEL not in os.listxattr(path, follow_symlinks=False):
            os.setxattr(path, LABEL, label, follow_symlinks=False)


def inode_flags(descriptor: int) -> int:
    """Return the flags of chattr(1) of an open file. Raises OSError."""
    answer = array.array("i", [0, 0])
    fcntl.ioctl(descriptor, _FS_IOC_GETFLAGS, answer)
    return answer[0]


def set_inode_flags(descriptor: int, flags: int) -> None:
    """Set the flags of chattr(1) of an open file. Raises OSError.

    Those of compression, c and m, count only for a file without an attribute that says it, or one
    that is to be NOCOW: that is never compressed.
    """
    compression = None if flags & FS_NOCOW_FL else _compression(descriptor)
    if compression is None:
        _set(descriptor, flags)
        return
    others = ~(_COMMON | _COMPRESSED)
    if (flags ^ inode_flags(descriptor)) & others:
        # What is protected takes no attribute.
        _set(descriptor, flags & ~_PROTECTED)
        os.setxattr(descriptor, _COMPRESSION, compression)
    _set_common(descriptor, flags)


def copy_inode_flags(source: int, descriptor: int) -> None:
    """Give an open file or directory the flags of chattr(1) of another one. Raises OSError."""
    wanted = inode_flags(source)
    if wanted != inode_flags(descriptor):
        set_inode_flags(descriptor, wanted)


@contextmanager
def movable(*places: str) -> Iterator[None]:
    """Clear the immutable and append-only flags of files to be moved, and set them again later.

    A power cut in between leaves the files without these flags. Raises OSError.
    """
    with ExitStack() as stack:
        for place in places:
            try:
                mode = os.lstat(place).st_mode
            except FileNotFoundError:  # a place that something is moved to
                continue
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                continue  # a device's driver would get the request
            how = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            descriptor = os.open(place, how)
            stack.callback(os.close, descriptor)
            flags = inode_flags(descriptor)
            if flags & _PROTECTED:
                sys.audit("fs-rollback.changed", "make movable", place)
                set_inode_flags(descriptor, flags & ~_PROTECTED)
                stack.callback(set_inode_flags, descriptor, flags)
        yield


def is_nocow(descriptor: int) -> bool:
    """Whether the data of an open file is overwritten in place, chattr(1) +C. Raises OSError."""
    return bool(inode_flags(descriptor) & FS_NOCOW_FL)


def make_nocow(descriptor: int) -> None:
    """Make an empty file one whose data is overwritten in place, uncompressed. Raises OSError."""
    set_inode_flags(descriptor, inode_flags(descriptor) & ~_COMPRESSED | FS_NOCOW_FL)


def _set(descriptor: int, flags: int) -> None:
    fcntl.ioctl(descriptor, _FS_IOC_SETFLAGS, array.array("i", [flags, 0]))


def _set_common(descriptor: int, flags: int) -> None:
    """Set those flags that FS_IOC_FSSETXATTR knows, and leave all others. Raises OSError."""
    present, rest = _FSXATTR.unpack(
        fcntl.ioctl(descriptor, _FS_IOC_FSGETXATTR, bytes(_FSXATTR.size))
    )
    wanted = present & ~sum(_XFLAGS.values())
    wanted |= sum(xflag for flag, xflag in _XFLAGS.items() if flags & flag)
    if wanted != present:
        fcntl.ioctl(descriptor, _FS_IOC_FSSETXATTR, _FSXATTR.pack(wanted, rest))


def _compression(descriptor: int) -> bytes | None:
    try:
        return os.getxattr(descriptor, _COMPRESSION)
    except OSError as error:
        # It has none; another filesystem knows no such attribute.
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return None
