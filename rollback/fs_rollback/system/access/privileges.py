# SPDX-License-Identifier: GPL-2.0-or-later
"""Files that run with the rights of others: setuid, setgid, or with capabilities.

Old versions have security holes that were fixed since. Only root may reach them, as in the store.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from ...core.snapshots.snapshot import Snapshot
from ...errors import kernel_errors
from ..linux import files, namespaces
from ..machine.host import Host
from .paths import Item

_BITS = stat.S_ISUID | stat.S_ISGID
_EXECUTABLE = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH
_CAPABILITIES = "security.capability"  # capabilities(7)


class _Privileged(NamedTuple):
    """A regular file with privileges: its open directory, and whether it has capabilities."""

    directory: int
    name: str
    mode: int
    is_capable: bool


def only_root_enters(status: os.stat_result) -> bool:
    """Whether only root can enter a directory."""
    return status.st_uid == 0 and not status.st_mode & (stat.S_IXGRP | stat.S_IXOTH)


def are_kept(aside: str) -> bool:
    """Whether a restore to a directory leaves files theirs. Raises KernelError."""
    with files.opened(aside) as directory, kernel_errors("access", aside):
        return is_private(directory)


def is_private(directory: int) -> bool:
    """Whether only root can come to an open directory, wherever its filesystem is mounted.

    It lies in one that keeps others out, in the same subvolume: what is above that holds for one
    mount only, and so does what is above the root of a bind mount. Raises OSError.
    """
    device, above = os.fstat(directory).st_dev, os.dup(directory)
    mount = namespaces.mount_id(directory)
    try:
        status = os.fstat(above)
        # The device alone does not tell: a bind mount may lie in the subvolume that it shows.
        while status.st_dev == device and namespaces.mount_id(above) == mount:
            if only_root_enters(status):
                return True
            below, above = above, os.open("..", os.O_PATH | os.O_DIRECTORY, dir_fd=above)
            os.close(below)
            here, status = status, os.fstat(above)
            if os.path.samestat(here, status):
                break
        return False
    finally:
        os.close(above)


class Found(NamedTuple):
    """The number of privileged files in an item, and in its present version that is kept."""

    come: int
    stay: int


def of_items(
    host: Host, snapshot: Snapshot, items: Sequence[Item], *, all_files: bool
) -> dict[str, Found]:
    """Return what each item's path has of them; a present one counts where it is replaced.

    Without `all_files` one that nobody can execute does not count. Raises KernelError.
    """
    with (
        files.opened(host.path(snapshot.path)) as tree,
        kernel_errors("look for setuid files in", snapshot.name),
    ):
        return {
            item.path: Found(
                _count(tree, item.path, all_files=all_files),
                _count(host.root_fd, item.path, all_files=all_files) if item.inode else 0,
            )
            for item in items
        }


def _count(tree: int, path: str, *, all_files: bool) -> int:
    return sum(1 for _ in _privileged(tree, path, all_files=all_files))


def take_off(tree: int, path: str) -> None:
    """Remove the privileges of all files at or below a path of an open tree.

    Owner, group and the rest of the mode stay. Raises OSError.
    """
    for file in _privileged(tree, path, all_files=True):
        if file.is_capable:
            place = f"/proc/self/fd/{file.directory}/{file.name}"
            os.removexattr(place, _CAPABILITIES, follow_symlinks=False)
        if file.mode & _BITS:
            # No link: it was a regular file, and only root comes to where it is.
            os.chmod(file.name, file.mode & ~_BITS, dir_fd=file.directory)


def _privileged(tree: int, path: str, *, all_files: bool) -> Iterator[_Privileged]:
    """Give them, each by all of its names; setgid of a directory is none."""
    for directory, name, mode in _regular_files(tree, path):
        if not all_files and not mode & (_BITS | _EXECUTABLE):
            continue  # asking for the attribute of each file takes most of the time
        is_capable = _is_capable(f"/proc/self/fd/{directory}/{name}")
        if is_capable or mode & _BITS:
            yield _Privileged(directory, name, stat.S_IMODE(mode), is_capable)


def _regular_files(tree: int, path: str) -> Iterator[tuple[int, str, int]]:
    """Give each regular file at or below a path: its open directory, its name, its mode."""
    head, name = os.path.split(path)
    above = tuple(head.split("/")) if head else ()
    with files.Way(tree) as way:
        directory = way.opened(above)
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if stat.S_ISREG(status.st_mode):
            yield directory, name, status.st_mode
    if not stat.S_ISDIR(status.st_mode):
        return
    for directory, _, entries in files.walked(tree, (*above, name)):
        for entry in entries:
            with suppress(FileNotFoundError):  # deleted meanwhile
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode):
                    yield directory, entry.name, found.st_mode


def _is_capable(place: str) -> bool:
    try:
        os.getxattr(place, _CAPABILITIES, follow_symlinks=False)
    except OSError as error:
        # It has none; a filesystem knows none; the file was deleted meanwhile.
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP, errno.ENOENT):
            raise
        return False
    return True
