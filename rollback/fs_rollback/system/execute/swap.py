# SPDX-License-Identifier: GPL-2.0-or-later
"""Swap files: which ones a system names, why the kernel would refuse one, how to recreate it.

The kernel swaps to no file on btrfs that is copy-on-write, compressed, has holes, or shares its
data with a snapshot; btrfs(5), SWAPFILE SUPPORT. So a copy that a rollback makes is of no use.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ...core.formats.mountinfo import is_within
from ...errors import KernelError, kernel_errors
from ..linux import chattr, files, syscalls
from ..machine.host import Host
from ..root import stand_ins

_UNITS = ("etc/systemd/system", "usr/lib/systemd/system")
_SIGNATURE = b"SWAPSPACE2"  # at the end of the first page, mkswap(8)
_HIBERNATED = (b"S1SUSPEND", b"S2SUSPEND", b"LINHIB0001")  # what takes its place then
_PAGES = (4096, 8192, 16384, 65536)
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MARGIN_BYTES = 64 << 20
# What says that there is no file at a path: nothing, a link, a socket, or no name of a file.
_NO_FILE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.ENAMETOOLONG)
# linux/fiemap.h
_ENCODED, _INLINE, _SHARED = 0x0008, 0x0200, 0x2000


class SwapFile(NamedTuple):
    """A swap file: its path from the root, without a slash in front, and its size."""

    path: str
    size_bytes: int


def named(host: Host, tree: int) -> tuple[str, ...]:
    """Return the files that the fstab and the systemd units of a tree swap to, from its root."""
    found = [entry.spec for entry in host.fstab_entries(tree) if entry.fstype == "swap"]
    for directory in _UNITS:
        for name in files.list_in_tree(tree, directory) or []:
            if name.endswith(".swap"):
                text = files.read_in_tree(tree, f"{directory}/{name}") or ""
                found += [line[5:].strip() for line in text.split("\n") if line[:5] == "What="]
    paths = (os.path.normpath(path) for path in found if path.startswith("/"))
    return tuple(dict.fromkeys(p.lstrip("/") for p in paths if not is_within(p, "/dev")))


def problem(descriptor: int) -> str:
    """Return why the kernel would not swap to an open file on btrfs, "" if it would."""
    size = os.fstat(descriptor).st_size
    if not chattr.is_nocow(descriptor):
        return "is copy-on-write"
    extents = syscalls.mapped(descriptor)
    for flag, why in (
        (_ENCODED | _INLINE, "is compressed or inline"),
        (_SHARED, "shares its data with a snapshot or a copy"),
    ):
        if any(flags & flag for *_, flags in extents):
            return why
    if sum(length for _, _, length, _ in extents) < size:
        return "has holes"
    return ""


def status(tree: int, path: str) -> tuple[str, int]:
    """Return why the kernel would not swap to a file of a tree on btrfs, "" if it would; its size.

    Raises KernelError.
    """
    with kernel_errors("access", f"/{path}"):
        try:
            descriptor = syscalls.open_in_root(tree, path, os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:  # what the answer is
            return "is missing", 0
        try:
            if not _header(descriptor):
                return "is not a swap file", 0
            return problem(descriptor), os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)


def renew(place: str) -> None:
    """Replace a swap file that the kernel would refuse by a new one, as mkswap(8) made it.

    Size, mode, owner, label and UUID stay the same; the swapped data is useless after a reboot.
    A file that is not a swap file is not changed. Raises OSError.
    """
    old = os.open(place, _READ)
    try:
        status, header = os.fstat(old), _header(old)
        if not header or not problem(old):
            return
        attributes = {n: v for n, v in chattr.extended(old).items() if n[:6] != "btrfs."}
    finally:
        os.close(old)
    syscalls.unprotect(place)
    os.unlink(place)
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    new = os.open(place, flags, 0o600)
    try:
        chattr.make_nocow(new)
        os.fchown(new, status.st_uid, status.st_gid)
        os.fchmod(new, stat.S_IMODE(status.st_mode))
        for name, value in attributes.items():
            os.setxattr(new, name, value)
        os.posix_fallocate(new, 0, status.st_size)
        os.pwrite(new, header, 0)
        os.fsync(new)
    finally:
        os.close(new)


def _header(descriptor: int) -> bytes:
    """Return the first page of a swap file as mkswap(8) wrote it, b"" if it is none."""
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return b""
    start = os.pread(descriptor, _PAGES[-1], 0)
    for size in _PAGES:
        if start[size - 10 : size].startswith((_SIGNATURE, *_HIBERNATED)):
            return start[: size - 10] + _SIGNATURE
    return b""


def in_new_root(host: Host, root: str, tree: int, theirs: Sequence[str]) -> Iterator[SwapFile]:
    """Yield the swap files of which a new root gets copies.

    The new root is a copy of `tree`, except at the absolute paths `theirs`, where it is a copy of
    `root`, the present root. Swap files outside both are not touched.
    """
    with files.opened(host.path(root)) as today:
        for path in dict.fromkeys((*named(host, host.root_fd), *named(host, tree))):
            comes = any(is_within(f"/{path}", place) for place in theirs)
            if stand_ins.covered(host, path):
                continue
            try:
                descriptor = syscalls.open_in_root(
                    today if comes else tree, path, _READ, follow=False
                )
            except OSError as error:
                if error.errno not in _NO_FILE:
                    raise KernelError("access", f"/{path}", error) from error
                continue  # the new root has none
            try:
                if _header(descriptor):
                    yield SwapFile(path, os.fstat(descriptor).st_size)
            finally:
                os.close(descriptor)


def has_room(host: Host, found: Sequence[SwapFile]) -> bool:
    """Whether the filesystem has room for new files of these sizes."""
    free = os.statvfs(host.top)
    return sum(f.size_bytes for f in found) + _MARGIN_BYTES < free.f_bavail * free.f_frsize
