# SPDX-License-Identifier: GPL-2.0-or-later
"""Subvolumes as a plan names them, by paths from the top level. No symbolic link is followed.

A plan may be read from the journal of a disk that somebody else has filled, and which a rescue
system has attached: a link there could lead to the files of the rescue system.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import kernel_errors
from ..linux import btrfs, files, syscalls
from ..machine.host import Host


@contextmanager
def opened(host: Host, path: str) -> Iterator[int]:
    """Open a directory. Raises KernelError, also where a link is on the way or there."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    with kernel_errors("open", f"/{path}"):
        directory = syscalls.open_in_root(host.top_fd, path or ".", flags, follow=False)
    try:
        yield directory
    finally:
        os.close(directory)


def place(host: Host, path: str) -> str:
    """Return a path for calls that do not follow a link that is there; nothing is behind one."""
    directory, name = os.path.split(path)
    return f"{files.NO_PLACE}/{name}" if _has_link(host, directory) else host.path(path)


def subvolume(host: Host, path: str) -> str:
    """Return a path of the subvolume that is there, "" if there is none. Raises KernelError."""
    found = "" if _has_link(host, path) else host.path(path)
    return found if found and btrfs.is_subvolume(found) else ""


def _has_link(host: Host, path: str) -> bool:
    """Whether a symbolic link is at a path, or on the way to it."""
    try:
        os.close(syscalls.open_in_root(host.top_fd, path or ".", os.O_PATH, follow=False))
    except OSError as error:  # whatever else is in the way is told by who uses the path
        return error.errno == errno.ELOOP
    return False
