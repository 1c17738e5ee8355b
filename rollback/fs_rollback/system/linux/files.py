# SPDX-License-Identifier: GPL-2.0-or-later
"""Files: written durably, and read in a tree without following a link out of it."""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from ...errors import KernelError, kernel_errors
from . import syscalls

_READ_LIMIT_BYTES = 16 << 20
_MOST_OF_ENTRY = 256 << 20
_LONGEST_PATH = 3900  # PATH_MAX less what stands before and behind it
NO_PLACE = "/proc/self/fd/-1"  # where nothing is and nothing can be made


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


class Places:
    """Paths of what lies below an open directory, of any length, for calls that take a path.

    Of a long one the directory is opened, and is open until `_MOST` others were asked for.
    """

    _MOST = 8

    def __init__(self, top: int) -> None:
        self._top, self._opened = top, deque[int]()

    def path(self, relative: str) -> str:
        """Return the path of something; no symbolic link is followed to it if it is a long one."""
        if len(os.fsencode(relative)) < _LONGEST_PATH:
            return f"/proc/self/fd/{self._top}/{relative}".rstrip("/")
        directory, name = os.path.split(relative)
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            opened = syscalls.open_in_root(self._top, directory, flags, follow=False)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise KernelError("open", relative, error) from error
            return f"{NO_PLACE}/{name}"  # whoever uses it is told that nothing is there
        self._opened.append(opened)
        self.close(self._MOST)
        return f"/proc/self/fd/{opened}/{name}"

    def close(self, most: int = 0) -> None:
        """Close open directories, except this many of those used last."""
        while len(self._opened) > most:
            os.close(self._opened.popleft())


class Way:
    """Directories below an open one, however deep. The last stays open: the next is often near it.

    No symbolic link is followed.
    """

    def __init__(self, top: int) -> None:
        self._top, self._here = top, os.dup(top)
        self._path = list[str]()
        self._above = list[tuple[int, int]]()  # st_dev and st_ino

    def __enter__(self) -> Way:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._here)

    @property
    def depth(self) -> int:
        """How many directories the last call has descended, even if it failed."""
        return len(self._path)

    def opened(self, path: tuple[str, ...]) -> int:
        """Return a descriptor of the directory `path` below the top, valid until the next call.

        Raises OSError.
        """
        pairs = enumerate(zip(self._path, path))
        common = next((n for n, (one, other) in pairs if one != other), len(path))
        while len(self._path) > common:
            self._go_up()
        for name in path[len(self._path) :]:
            status = os.fstat(self._here)
            self._go(name)
            self._path.append(name)
            self._above.append((status.st_dev, status.st_ino))
        return self._here

    def _go_up(self) -> None:
        self._go("..")
        self._path.pop()
        status = os.fstat(self._here)
        if (status.st_dev, status.st_ino) != self._above.pop():
            # Somebody has moved it meanwhile, maybe out of the tree: once more from the top.
            os.close(self._here)
            self._here = os.dup(self._top)
            self._path.clear()
            self._above.clear()

    def _go(self, name: str) -> None:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        directory = os.open(name, flags, dir_fd=self._here)
        os.close(self._here)
        self._here = directory


def walked(
    top: int, path: tuple[str, ...]
) -> Iterator[tuple[int, tuple[str, ...], Iterator[os.DirEntry[str]]]]:
    """Give each directory at and below a path: open, its path, and all in it but directories.

    It is open until the next one is asked for; where not all in it was asked for, what lies below
    is passed over. No symbolic link is followed, no depth is too much, and left out are what is
    deleted meanwhile, other subvolumes, and what is mounted there. Raises OSError.
    """
    pending, device = [path], -1
    with Way(top) as way:
        while pending:
            place = pending.pop()
            try:
                directory = way.opened(place)
                with os.scandir(directory) as entries:
                    device = os.fstat(directory).st_dev if device < 0 else device
                    below: list[os.DirEntry[str]] = []
                    yield directory, place, _others(entries, below)
                    # By its status, without being opened: that would make autofs mount something.
                    pending += [(*place, e.name) for e in reversed(below) if _device(e) == device]
            except OSError as error:  # as promised; a link lies in its place
                if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                    raise


def _others(
    entries: Iterator[os.DirEntry[str]], directories: list[os.DirEntry[str]]
) -> Iterator[os.DirEntry[str]]:
    """Give all entries but directories, which are added to a list."""
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry)
        else:
            yield entry


def _device(entry: os.DirEntry[str]) -> int:
    """Return st_dev, -1 of what was deleted meanwhile. Raises OSError."""
    try:
        return entry.stat(follow_symlinks=False).st_dev
    except FileNotFoundError:  # as promised
        return -1


def read_in_tree(tree: int, path: str, most: int = _READ_LIMIT_BYTES) -> str | None:
    """Return `most` bytes of a text file of the tree, None if there is none.

    No symbolic link leads out of the tree: it is resolved as if the tree were /. Bytes that are
    not UTF-8 come as surrogates. Raises KernelError on anything but absence.
    """
    try:
        file = _open_regular(tree, path, follow=True)
        if file is None:
            return None
        with file:
            return _read(file, most).decode("utf-8", "surrogateescape")
    except OSError as error:
        # A link in a circle leads to nothing, as a dangling one does.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise KernelError("read", path, error) from error


def _read(file: BinaryIO, most: int) -> bytes:
    """Read a file to its end, or so much; Python makes room for all that is asked for at once."""
    return file.read(min(most, os.fstat(file.fileno()).st_size or _READ_LIMIT_BYTES))


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
            return os.read(descriptor, min(status.st_size, _MOST_OF_ENTRY)).decode()
        finally:
            os.close(descriptor)
    except OSError as error:
        # Absent, a link, a socket: no file.
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


@contextmanager
def regular_file(tree: int, path: str) -> Iterator[int | None]:
    """Open a file of the tree to be read; None if it is anything but a regular one, or not there.

    No link is followed. Raises KernelError.
    """
    try:
        file = _open_regular(tree, path, follow=False)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise KernelError("read", path, error) from error
        file = None  # as promised: not there, or a link
    if file is None:
        yield None
        return
    with file:
        yield file.fileno()


def read_bytes(tree: int, path: str, most: int) -> bytes:
    """Return what a regular file of the tree begins with, b"" if there is none.

    Raises KernelError on anything but absence.
    """
    with kernel_errors("read", path):
        try:
            file = _open_regular(tree, path, follow=True)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # as in read_in_tree
                return b""
            raise
        if file is None:
            return b""
        with file:
            return _read(file, most)


def list_in_tree(tree: int, path: str, *, follow: bool = True) -> list[str] | None:
    """Return the names in a directory of the tree, sorted; None if there is no such directory.

    Without `follow` a symbolic link on the path leads to none, and it may be of any length.
    """
    flags = os.O_RDONLY | os.O_DIRECTORY
    try:
        descriptor = syscalls.open_in_root(tree, path, flags, follow=follow)
    except OSError as error:
        # Absent; a link in a circle leads to nothing.
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

    Without `follow`, a path with a symbolic link in it counts as absent; a circular link always
    does.
    """
    try:
        descriptor = syscalls.open_in_root(tree, path, os.O_PATH, follow=follow)
    except OSError as error:
        # As promised: absent.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return None
        raise KernelError("access", path, error) from error
    try:
        return os.fstat(descriptor)
    finally:
        os.close(descriptor)


def link_in_tree(tree: int, path: str) -> str | None:
    """Return where a symbolic link in the tree leads, as it says it; None if there is none.

    Links on the way are resolved as if the tree were /. Raises KernelError on anything but absence.
    """
    head, name = os.path.split(path)
    try:
        directory = syscalls.open_in_root(tree, head or ".", os.O_PATH | os.O_DIRECTORY)
        try:
            return os.readlink(name, dir_fd=directory)
        finally:
            os.close(directory)
    except OSError as error:
        # EINVAL: it is something else.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL):
            return None
        raise KernelError("read the link", path, error) from error


def is_beyond_mount(tree: int, path: str) -> bool:
    """Whether something is mounted in the tree on the way to a path, or there. It is not entered.

    To look at what is mounted may take for ever: its server may be gone.
    """
    try:
        os.close(syscalls.open_in_root(tree, path, os.O_PATH, cross=False))
    except OSError as error:  # anything else is told by who looks at the path itself
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
        if error.errno in absent:  # as promised
            return None
        raise KernelError("access", path, error) from error
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
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
        if error.errno != errno.ELOOP:  # a link is anything else
            raise KernelError("copy", path, error) from error
