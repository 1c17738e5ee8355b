# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies of single files, which share their data with the original, and of all their attributes.

As cp(1) makes them, which would have to be started for each.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress

from ..linux import btrfs, chattr, process

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NO_BTRFS = (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTTY)
_ACL = "system.posix_acl_"  # acl(5)


def copy_file(source: int, directory: int, name: str, status: os.stat_result | None = None) -> int:
    """Copy a file of any kind but a directory from one open directory to another.

    Returns its flags of chattr(1), which the copy does not have. What this fails with is left to
    cp(1). `status` is what is known of it. Raises OSError and ProcessError.
    """
    status = status or os.lstat(name, dir_fd=source)
    try:
        if stat.S_ISREG(status.st_mode):
            return _share(source, directory, name, _MAKE)
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=source), name, dir_fd=directory)
        else:
            os.mknod(name, status.st_mode, status.st_rdev, dir_fd=directory)
        copy_attributes(_path(source, name), _path(directory, name), status)
    except OSError:  # it knows which attributes a filesystem may lack, or says what is wrong
        with suppress(FileNotFoundError):  # not even made
            os.unlink(name, dir_fd=directory)
        command = ("cp", "--archive", "--reflink=auto", "--no-target-directory")
        ends = _path(source, name), _path(directory, name)
        process.run((*command, *ends), pass_fds=(source, directory))
        if stat.S_ISREG(status.st_mode):
            return _flags(source, name)
    return 0


def _flags(directory: int, name: str) -> int:
    descriptor = os.open(name, _READ, dir_fd=directory)
    try:
        return chattr.inode_flags(descriptor)
    finally:
        os.close(descriptor)


def update_file(source: int, directory: int, name: str, *, data: bool) -> None:
    """Give a regular file the attributes of one of the same name, with `data` all it has.

    It has no other name. Raises OSError.
    """
    flags = os.O_WRONLY | os.O_TRUNC | _READ if data else _READ
    _share(source, directory, name, flags, data=data)


def _share(source: int, directory: int, name: str, flags: int, *, data: bool = True) -> int:
    """Open a file of both directories, the copy with these flags, and give it what the other has.

    Returns the flags of chattr(1) of the original. Raises OSError.
    """
    original = os.open(name, _READ, dir_fd=source)
    try:
        # Of what is open: its owner may put another one there, in a root that was set aside.
        status = os.fstat(original)
        copy = os.open(name, flags, status.st_mode & 0o777, dir_fd=directory)
        try:
            if data and status.st_size:
                _copy_data(original, copy, status.st_size)
            copy_attributes(original, copy, status)
        finally:
            os.close(copy)
        return chattr.inode_flags(original)
    finally:
        os.close(original)


def _copy_data(original: int, copy: int, size: int) -> None:
    """Let an empty file share the data of another one, or copy that, without its holes.

    Copied is what lies on another filesystem. The file is copy-on-write if the other is, or they
    could not share data. Raises OSError.
    """
    for is_alike in (False, True):
        try:
            btrfs.clone(original, copy)
            return
        except OSError as error:  # it cannot be shared, at least not yet: see above
            if error.errno not in (errno.EXDEV, *_NO_BTRFS):
                raise
        if not is_alike:
            _make_alike(original, copy)
    end = 0
    while end < size:
        try:
            start = os.lseek(original, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # what is left is a hole
        end = os.lseek(original, start, os.SEEK_HOLE)
        os.lseek(copy, start, os.SEEK_SET)
        while start < end and (sent := os.sendfile(copy, original, start, end - start)):
            start += sent
    os.ftruncate(copy, size)


def _make_alike(original: int, copy: int) -> None:
    """Have the data of an empty file overwritten in place, chattr(1) +C, if that of another is.

    Left out where a filesystem has no such flag. Raises OSError.
    """
    try:
        if chattr.is_nocow(original):
            chattr.make_nocow(copy)
        elif chattr.is_nocow(copy):  # its directory is so
            chattr.set_inode_flags(copy, chattr.inode_flags(copy) & ~chattr.FS_NOCOW_FL)
    except OSError as error:
        if error.errno not in _NO_BTRFS:  # as promised
            raise


def copy_directory_attributes(original: int, copy: int) -> None:
    """Give an open directory all that another one has but its entries. Raises OSError."""
    copy_attributes(original, copy, os.fstat(original))
    chattr.copy_inode_flags(original, copy)  # last: they may forbid changes


def copy_file_flags(source: int, directory: int, name: str) -> None:
    """Give a copy of a file the flags of the original, chattr(1). Raises OSError."""
    original = os.open(name, _READ, dir_fd=source)
    try:
        copy = os.open(name, _READ, dir_fd=directory)
        try:
            chattr.copy_inode_flags(original, copy)
        finally:
            os.close(copy)
    finally:
        os.close(original)


def copy_attributes(
    original: int | str, copy: int | str, status: os.stat_result, *, may_lack: bool = False
) -> None:
    """Copy what differs, between what is open or at paths where no link is followed.

    `status` is that of the original. With `may_lack` an attribute is left out that the copy's
    filesystem does not know, but no access control list. Raises OSError.
    """
    follow = isinstance(copy, int)
    present = os.stat(copy, follow_symlinks=follow)
    is_owned = (present.st_uid, present.st_gid) == (status.st_uid, status.st_gid)
    if not is_owned:
        os.chown(copy, status.st_uid, status.st_gid, follow_symlinks=follow)
    wanted, found = chattr.extended(original), chattr.extended(copy)
    for name in found.keys() - wanted.keys() - {chattr.LABEL}:  # nobody may take that away
        os.removexattr(copy, name, follow_symlinks=follow)
    for name, value in wanted.items():
        if found.get(name) != value or not is_owned:  # a new owner takes capabilities away
            try:
                os.setxattr(copy, name, value, follow_symlinks=follow)
            except OSError as error:
                # As promised, as cp(1) does. Without its list the mode would let more people in.
                is_list = name.startswith(_ACL)
                if not may_lack or is_list or error.errno != errno.EOPNOTSUPP:
                    raise
    # After the owner, which takes setuid away, and the access control list, which has a mode too.
    is_settled = is_owned and wanted == found and present.st_mode == status.st_mode
    if not is_settled and not stat.S_ISLNK(status.st_mode):
        os.chmod(copy, stat.S_IMODE(status.st_mode))
    times = status.st_atime_ns, status.st_mtime_ns
    os.utime(copy, ns=times, follow_symlinks=follow)


def _path(directory: int, name: str) -> str:
    return f"/proc/self/fd/{directory}/{name}"
