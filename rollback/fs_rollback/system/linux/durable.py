# SPDX-License-Identifier: GPL-2.0-or-later
"""Files written and removed so that a crash leaves the old or the new, whole."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Callable

from ...errors import KernelError, kernel_errors
from . import chattr, files, syscalls

# A file's name has this behind it while it is written: no name that anybody else would give one.
TEMPORARY = ".fs-rollback.new"


def write_text(
    directory: int, name: str, text: str, *, mode: int = 0o600, for_loader: bool = False
) -> None:
    """Write a text file durably, as `replace` does. Raises KernelError."""
    replace(directory, name, _encoded(text), mode=mode, for_loader=for_loader)


def write_for_next_commit(directory: int, name: str, text: str, *, mode: int = 0o600) -> None:
    """Replace a file on a btrfs; the next commit of the filesystem makes it durable.

    After a crash it has the old text or the new one. tests/kernel/test_crash_images.py holds
    this against crash images. Raises KernelError.
    """
    try:
        _write_temporary(directory, name, _encoded(text), mode, leave_to_next_commit)
        os.rename(name + TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        with contextlib.suppress(OSError):  # the error above is raised; tidying removes a leftover
            os.unlink(name + TEMPORARY, dir_fd=directory)
        raise KernelError("write", name, error) from error


def _write_temporary(
    directory: int, name: str, data: Iterable[bytes], mode: int, finish: Callable[[int], None]
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(name + TEMPORARY, flags, mode, dir_fd=directory)
    try:
        with _left_where_vfat_refuses():
            os.fchmod(descriptor, mode)
        chattr.label_like_directory(directory, name + TEMPORARY)
        for chunk in data:
            left = chunk
            while left:
                left = left[os.write(descriptor, left) :]
        finish(descriptor)
    finally:
        os.close(descriptor)


def leave_to_next_commit(descriptor: int) -> None:
    """Have the next commit of a btrfs make a file durable with what was written to it.

    Small files lie in the metadata of btrfs (inline extents, at most 2048 bytes by default):
    writing them out puts them into the running transaction. One that has data of its own, which no
    commit waits for, is fsynced: a larger one, or any with nodatacow or max_inline=0. Raises
    OSError.
    """
    syscalls.write_out(descriptor)
    if os.fstat(descriptor).st_size and not syscalls.is_inline(descriptor):
        os.fsync(descriptor)


@contextmanager
def _left_where_vfat_refuses() -> Iterator[None]:
    """Pass over EPERM: vfat has no modes or owners but those that it was mounted with."""
    try:
        yield
    except PermissionError:  # see above
        return


def _encoded(text: str) -> tuple[bytes]:
    return (text.encode("utf-8", "surrogateescape"),)


def remove_durably(directory: int, name: str) -> None:
    """Remove a file if it is there; a directory of that name stays. Raises KernelError."""
    if remove(directory, name):
        with kernel_errors("remove", name):
            os.fsync(directory)


def remove(directory: int, name: str) -> bool:
    """Remove a file, durable with the next sync; whether it was there. Raises KernelError.

    A directory of that name stays.
    """
    try:
        os.unlink(name, dir_fd=directory)
    except (FileNotFoundError, IsADirectoryError):  # as promised: no such file was there
        return False
    except OSError as error:
        raise KernelError("remove", name, error) from error
    return True


def replace(
    directory: int,
    name: str,
    data: Iterable[bytes],
    *,
    mode: int = 0o600,
    for_loader: bool = False,
) -> None:
    """Write a file durably; it is whole, old or new, at any time, and absent or whole if new.

    The mode, owner and attributes (a label of SELinux is one) of one that is there stay, `mode` is
    for a new one. For the boot loader's filesystems:
    on vfat a file has the mode that the mount gives it, and a new name leads to an empty file until
    the inode is written (vfat_rename() in fs/fat/namei_vfat.c). With `for_loader` that is true for
    GRUB as well, which replays no journal: fsync leaves the change in that of ext4 or XFS. Raises
    KernelError.
    """
    try:
        before = files.status_of(directory, name, follow=False)
        if before is None:
            _write_temporary(directory, name, data, mode, os.fsync)
        else:
            wanted = stat.S_IMODE(before.st_mode)
            _write_temporary(directory, name, data, wanted, lambda _: None)
            make_alike(directory, name, before)  # syncs it
        if for_loader:  # before its name, or that would lead to what was there before
            syscalls.sync_for_loader(directory)
        os.rename(name + TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
        _sync_file(directory, name)  # before the name is on the disk, see above
        os.fsync(directory)
        if for_loader:
            syscalls.sync_for_loader(directory)
    except OSError as error:
        with contextlib.suppress(OSError):  # the error above is raised; tidying removes a leftover
            os.unlink(name + TEMPORARY, dir_fd=directory)
        raise _failure(directory, name, error) from error


def _failure(directory: int, name: str, cause: OSError) -> KernelError:
    """Return what says that a file cannot be written, and on which filesystem."""
    error = KernelError("write", name, cause)
    with contextlib.suppress(OSError):  # it is raised all the same, with less advice
        error.directory = os.readlink(f"/proc/self/fd/{directory}")
        error.filesystem = syscalls.filesystem_uuid(directory)
    return error


def make_alike(directory: int, name: str, like: os.stat_result) -> None:
    """Give the temporary file the owner and the attributes of the one that it replaces.

    It is synced after that. Raises OSError.
    """
    old, new = (f"/proc/self/fd/{directory}/{n}" for n in (name, name + TEMPORARY))
    with _left_where_vfat_refuses():
        os.chown(new, like.st_uid, like.st_gid, follow_symlinks=False)
        os.chmod(new, stat.S_IMODE(like.st_mode))
    try:
        for attribute, value in chattr.extended(old).items():
            os.setxattr(new, attribute, value, follow_symlinks=False)
    except OSError as error:
        # The filesystem has none, or none of that kind: the loader's does not need them.
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
    _sync_file(directory, name + TEMPORARY)


def _sync_file(directory: int, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(full: str, text: str, mode: int) -> None:
    """Replace a text file durably by its path, as a boot loader may read it. Raises KernelError."""
    directory, name = os.path.split(full)
    with files.opened(directory) as opened:
        write_text(opened, name, text, mode=mode, for_loader=True)


def overwrite(full: str, text: str) -> bool:
    """Overwrite a text file in place, durably, if it has the same length; return whether it has.

    This needs no space on a filesystem without copy on write. A power cut may leave parts of it, so
    use it only for files that the boot loader also writes like this. Raises KernelError.
    """
    directory, name = os.path.split(full)
    (data,) = _encoded(text)
    with files.opened(directory) as opened, kernel_errors("write", name):
        flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=opened)
        try:
            if os.fstat(descriptor).st_size != len(data):
                return False
            os.pwrite(descriptor, data, 0)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        syscalls.sync_for_loader(opened)
    return True


def remove_file(full: str, *endings: str) -> None:
    """Remove the files whose names end like this, durably, if they exist. Raises KernelError."""
    directory, name = os.path.split(full)
    if os.path.isdir(directory):
        with files.opened(directory) as opened:
            for ending in endings:
                remove_durably(opened, name + ending)
