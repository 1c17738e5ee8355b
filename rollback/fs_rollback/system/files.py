# SPDX-License-Identifier: GPL-2.0-or-later
"""Files: written durably, and read in a tree without following a link out of it."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ..errors import KernelError, kernel_errors
from . import syscalls

# A file's name has this behind it while it is written: no name that anybody else would give one.
TEMPORARY = ".fs-rollback.new"
_READ_LIMIT_BYTES = 16 << 20


def write_durably(directory: int, name: str, text: str, *, mode: int = 0o600) -> None:
    """Replace a file: temporary file beside it, fsync, rename, fsync of the directory.

    After a crash it holds the old text or the new one. Raises KernelError.
    """
    try:
        _write_temporary(directory, name, _encoded(text), mode=mode, durable=True)
        os.rename(name + TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
        os.fsync(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name + TEMPORARY, dir_fd=directory)
        raise KernelError("write", name, error) from error


def write_for_next_commit(directory: int, name: str, text: str, *, mode: int = 0o600) -> None:
    """Replace a file of a btrfs; that one's next commit makes it durable, there is none of its own.

    After a crash it holds the old text or the new one. tests/kernel/test_crash_images.py holds
    this against crash images. Raises KernelError.
    """
    try:
        _write_temporary(directory, name, _encoded(text), mode=mode, durable=False)
        os.rename(name + TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name + TEMPORARY, dir_fd=directory)
        raise KernelError("write", name, error) from error


def _write_temporary(
    directory: int, name: str, data: Iterable[bytes], *, mode: int, durable: bool
) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(name + TEMPORARY, flags, mode, dir_fd=directory)
    try:
        with _left_where_vfat_refuses():
            os.fchmod(descriptor, mode)
        for chunk in data:
            left = chunk
            while left:
                left = left[os.write(descriptor, left) :]
        if durable:
            os.fsync(descriptor)
        else:
            leave_to_next_commit(descriptor)
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
    except PermissionError:
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
    except (FileNotFoundError, IsADirectoryError):
        return False
    except OSError as error:
        raise KernelError("remove", name, error) from error
    return True


@contextmanager
def opened(path: str) -> Iterator[int]:
    """Open a directory for the calls that take a descriptor. Raises KernelError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", path, error) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def read_in_tree(tree: int, path: str) -> str | None:
    """Return a text file of the tree, None if there is none.

    No symbolic link leads out of the tree: it is resolved as if the tree were /. Bytes that are
    not UTF-8 come as surrogates. Raises KernelError on anything but absence.
    """
    try:
        file = _open_regular(tree, path, follow=True)
        if file is None:
            return None
        with file:
            return file.read(_READ_LIMIT_BYTES).decode("utf-8", "surrogateescape")
    except OSError as error:
        # A link in a circle leads to nothing, as a dangling one does.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise KernelError("read", path, error) from error


def read_entry(directory: int, name: str) -> str | None:
    """Return a text file of an open directory; None if there is none, or anything but a file.

    Made for the store, where thousands are read. Raises UnicodeError, and KernelError.
    """
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, dir_fd=directory)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                return None
            return os.read(descriptor, min(status.st_size, _READ_LIMIT_BYTES)).decode()
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise KernelError("read", name, error) from error


def _open_regular(tree: int, path: str, *, follow: bool) -> BinaryIO | None:
    """Open a file of the tree; None if it is anything but a regular one. Raises OSError."""
    flags = os.O_RDONLY | os.O_NONBLOCK
    descriptor = syscalls.open_in_root(tree, path, flags, follow=follow)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    return os.fdopen(descriptor, "rb")


def read_bytes(tree: int, path: str, most: int) -> bytes:
    """Return what a regular file of the tree begins with, b"" if there is none.

    Raises KernelError on anything but absence.
    """
    with kernel_errors("read", path):
        try:
            file = _open_regular(tree, path, follow=True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return b""
            raise
        if file is None:
            return b""
        with file:
            return file.read(most)


def list_in_tree(tree: int, path: str) -> list[str] | None:
    """Return the names in a directory of the tree, sorted; None if there is no such directory."""
    try:
        descriptor = syscalls.open_in_root(tree, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise KernelError("list", path, error) from error
    try:
        return sorted(os.listdir(descriptor))
    except OSError as error:
        raise KernelError("list", path, error) from error
    finally:
        os.close(descriptor)


def device_of(tree: int, path: str) -> int | None:
    """Return st_dev of a path in the tree, None if there is none: each subvolume has its own."""
    status = status_of(tree, path)
    return status.st_dev if status else None


def inode_of(tree: int, path: str) -> int | None:
    """Return st_ino of a path in the tree, None if there is none or a symbolic link is on it."""
    status = status_of(tree, path, follow=False)
    return status.st_ino if status else None


def status_of(tree: int, path: str, *, follow: bool = True) -> os.stat_result | None:
    """Return what stat(2) says of a path in the tree, None if there is none.

    Without `follow` a symbolic link anywhere on the path counts as nothing there, and one that
    leads in a circle always does.
    """
    try:
        descriptor = syscalls.open_in_root(tree, path, os.O_PATH, follow=follow)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise KernelError("look at", path, error) from error
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def is_beyond_mount(tree: int, path: str) -> bool:
    """Whether something is mounted in the tree on the way to a path, or there. It is not entered.

    To look at what is mounted may take for ever: its server may be gone.
    """
    try:
        os.close(syscalls.open_in_root(tree, path, os.O_PATH, cross=False))
    except OSError as error:
        return error.errno == errno.EXDEV
    return False


def real_path(tree: int, path: str, *, cross: bool = True) -> str | None:
    """Return the absolute path of something in the tree without symbolic links; None if absent.

    Resolved as if the tree were /: what is returned lies in it, or on what is mounted in it. With
    `cross` false what is mounted in it counts as absent.
    """
    absent = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, *(() if cross else (errno.EXDEV,)))
    try:
        descriptor = syscalls.open_in_root(tree, path, os.O_PATH, cross=cross)
    except OSError as error:
        if error.errno in absent:
            return None
        raise KernelError("look at", path, error) from error
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


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
        before = status_of(directory, name, follow=False)
        wanted = stat.S_IMODE(before.st_mode) if before else mode
        _write_temporary(directory, name, data, mode=wanted, durable=True)
        if before is not None:
            make_alike(directory, name, before)
        if for_loader:  # before its name, or that would lead to what was there before
            syscalls.sync_for_loader(directory)
        os.rename(name + TEMPORARY, name, src_dir_fd=directory, dst_dir_fd=directory)
        _sync_file(directory, name)  # before the name is on the disk, see above
        os.fsync(directory)
        if for_loader:
            syscalls.sync_for_loader(directory)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name + TEMPORARY, dir_fd=directory)
        raise _failure(directory, name, error) from error


def _failure(directory: int, name: str, cause: OSError) -> KernelError:
    """Return what says that a file cannot be written, and on which filesystem."""
    error = KernelError("write", name, cause)
    with contextlib.suppress(OSError):
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
        for attribute in os.listxattr(old, follow_symlinks=False):
            value = os.getxattr(old, attribute, follow_symlinks=False)
            os.setxattr(new, attribute, value, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.ENOTSUP, errno.EPERM):
            raise
    _sync_file(directory, name + TEMPORARY)


def _sync_file(directory: int, name: str) -> None:
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def chunks(path: str, *, size_bytes: int = 1 << 20) -> Iterator[bytes]:
    """Give the bytes of a file piece by piece. Raises KernelError, also where it is no file."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with kernel_errors("read", path):
        descriptor = os.open(path, flags)
        with os.fdopen(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "not a regular file")
            while chunk := file.read(size_bytes):
                yield chunk


def are_equal(one: str, other: str) -> bool:
    """Whether two files have the same content. Raises KernelError."""
    with kernel_errors("compare", other):
        if os.stat(one).st_size != os.stat(other).st_size:
            return False
    return all(a == b for a, b in zip(chunks(one), chunks(other)))


def copy_from_tree(tree: int, path: str, destination: str) -> None:
    """Copy the bytes of a regular file of the tree to a new file; anything else is passed over.

    Raises KernelError.
    """
    import shutil

    try:
        source = _open_regular(tree, path, follow=False)
        if source is None:
            return
        with source, open(destination, "xb") as copy:
            shutil.copyfileobj(source, copy, 1 << 20)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise KernelError("copy", path, error) from error
