# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds which paths of a snapshot can be restored, and what prevents that."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from ...core.formats import mountinfo
from ...core.formats.mountinfo import is_within
from ...core.snapshots.names import label
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID, Snapshot
from ...errors import KernelError, RefusedError, UsageError, kernel_errors
from ..linux import btrfs, files, syscalls
from ..machine import host as machine
from ..machine.host import Host
from ..machine.rpmdb import RPMDB_PLACES, rpmdb_path
from ..packages import dnf4_state, dnf5_state
from ..root import stand_ins

# Directories that the databases of packages lie in, beside rpm's.
_HISTORIES = ("var/lib/dnf", "usr/lib/sysimage/libdnf5")
_NO_WAY = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symbolic link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


class Item(NamedTuple):
    """A path to restore, relative to the root; no symbolic link is in it.

    `kind` is what the snapshot has there. `inode` is the inode number of what the root has there
    now, 0 if nothing. `left_out` are the nested subvolumes in it, which snapshots do not contain.
    """

    path: str
    kind: str
    inode: int
    left_out: tuple[str, ...]


def find(host: Host, snapshot: Snapshot, given: Sequence[str], *, is_aside: bool) -> list[Item]:
    """Return the items that the given paths name, without duplicates or paths inside others.

    With `is_aside` nothing in the root is replaced. Raises UsageError and RefusedError.
    """
    found: dict[str, Item] = {}
    with files.opened(host.path(snapshot.path)) as tree:
        stubs = stand_ins.recorded(snapshot, tree)
        for text in given:
            path, kind = _in_snapshot(host, snapshot, tree, text)
            inode = 0
            if not is_aside:
                _refuse_package_databases(host, tree, path)
                inode = _present(host, path)
            left_out = tuple(stub for stub in stubs if is_within(stub, path))
            found[path] = Item(path, kind, inode, left_out)
    return [i for i in found.values() if not any(_is_below(i.path, other) for other in found)]


def _is_below(path: str, other: str) -> bool:
    return path != other and is_within(path, other)


@contextmanager
def opened_parent(tree: int, path: str) -> Iterator[int]:
    """Open the directory above a path of an open tree; no link is followed. Raises OSError."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    parent = syscalls.open_in_root(tree, os.path.dirname(path) or ".", flags, follow=False)
    try:
        yield parent
    finally:
        os.close(parent)


def status_in(tree: int, path: str) -> os.stat_result | None:
    """Return lstat(2) of a path of an open tree, None if nothing is there or a link is before it.

    Raises KernelError.
    """
    try:
        with opened_parent(tree, path) as parent:
            return os.stat(os.path.basename(path), dir_fd=parent, follow_symlinks=False)
    except OSError as error:
        if error.errno in _NO_WAY:  # as promised
            return None
        raise KernelError("access", f"/{path}", error) from error


def _in_snapshot(host: Host, snapshot: Snapshot, tree: int, text: str) -> tuple[str, str]:
    """Return the path that is meant, without links on its way, and what the snapshot has there."""
    head, name = os.path.split(_from_root(host, text))
    real = files.real_path(tree, head or ".")
    base = files.real_path(tree, ".")
    if real is None or base is None:
        raise _absent(host, snapshot, tree, os.path.join(head, name))
    path = os.path.join(os.path.relpath(real, base), name).removeprefix("./")
    status = status_in(tree, path)
    if status is None or status.st_ino == btrfs.STUB_INODE:
        raise _absent(host, snapshot, tree, path)
    if status.st_dev != os.fstat(tree).st_dev:
        raise RefusedError(
            f"/{path} in {label(snapshot)} lies in a nested subvolume",
            hint=f"Mount the snapshot with 'fs-rollback mount {snapshot.name}', and copy it from"
            " there.",
        )
    return path, _KINDS.get(stat.S_IFMT(status.st_mode), "file")


def _from_root(host: Host, text: str) -> str:
    """Return a path as it was given, from the root and without a slash in front."""
    if not text.startswith("/"):
        if host.root != "/" or not text:
            raise UsageError(
                f"{text!r} is not an absolute path",
                hint="Give the path from the root of that system, starting with a slash.",
            )
        text = os.path.join(os.getcwd(), text)
    parts = [part for part in text.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError(f"{text} contains '..'", hint="Give the path without it.")
    if not parts:
        raise RefusedError(
            "restore does not replace / itself; a rollback does",
            hint="'fs-rollback rollback' makes a snapshot the root of the next boot.",
        )
    return "/".join(parts)


def _absent(host: Host, snapshot: Snapshot, tree: int, path: str) -> RefusedError:
    """Return what says that the snapshot has no such path, and why, as far as that shows."""
    parts = path.split("/")
    above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
    what = f"{label(snapshot)} has no /{path}"
    for place in above:
        if files.inode_of(tree, place) == btrfs.STUB_INODE:
            return RefusedError(
                f"{what}: /{place} is a separate subvolume, which snapshots of the root do not"
                " contain",
                hint="A rollback does not revert it either: all that was written there is still"
                " there.",
            )
    mount = mountinfo.containing(host.mounts, os.path.join(host.root, path))
    if mount is not None and mount.point not in (host.root, "/"):
        return RefusedError(
            f"{what}: {mount.point} ({mount.source}) is a separate mount, which snapshots of the"
            " root do not contain",
            hint="Look for a backup of that filesystem or subvolume.",
        )
    return RefusedError(
        what,
        hint=f"'fs-rollback mount {snapshot.name}' shows its files; 'fs-rollback list' shows other"
        " snapshots.",
    )


def _refuse_package_databases(host: Host, tree: int, path: str) -> None:
    """Refuse what is, is in, or holds a database of packages, in the root or in the snapshot."""
    places = {*RPMDB_PLACES, *_HISTORIES}
    # A dnf.conf that cannot be read names no other place.
    with suppress(dnf4_state.BrokenFileError, KernelError):
        places.add(dnf5_state.history_directory(host.root_fd).strip("/"))
    for root in (host.root_fd, tree):
        places.add(rpmdb_path(root) or RPMDB_PLACES[0])
        base = files.real_path(root, ".")
        for place in tuple(places):
            real = files.real_path(root, place)
            if real is not None and base is not None:
                places.add(os.path.relpath(real, base))
    for place in sorted(places):
        if is_within(path, place) or is_within(place, path):
            how = "is part of" if is_within(path, place) else "holds"
            raise RefusedError(
                f"/{path} {how} the package database in /{place}, which would no longer match the"
                " installed files",
                hint="Name other paths; 'fs-rollback rollback' reverts packages together with"
                " their database. --aside DIR puts the old database elsewhere.",
            )


def _present(host: Host, path: str) -> int:
    """Return the inode number of what the root has at a path now, 0 if it has nothing there.

    Raises RefusedError where nothing can be put there, or nothing taken away.
    """
    _refuse_elsewhere(host, path)
    if host.root_id == TOP_LEVEL_ID and is_within(path, STORE):
        raise RefusedError(f"/{path} is the snapshot store", hint="Choose other paths.")
    status = status_in(host.root_fd, path)
    if status is None:
        return 0
    for mount in machine.read_mounts():
        if is_within(mount.point, os.path.join(host.root, path)):
            raise RefusedError(
                f"/{path} cannot be replaced: {mount.point} is a mount point ({mount.source})",
                hint="Name the paths that you want from it one by one, or unmount it first.",
            )
    for nested in btrfs.nested(host.root):
        if is_within(nested, path):
            raise RefusedError(
                f"/{path} cannot be replaced: /{nested} is a subvolume",
                hint="Name the paths beside that subvolume one by one.",
            )
    with opened_parent(host.root_fd, path) as parent:
        name = os.path.basename(path)
        _refuse_protected(parent, name, status, path)
    return status.st_ino


def _refuse_protected(parent: int, name: str, status: os.stat_result, path: str) -> None:
    """Refuse what somebody has protected with chattr(1): it cannot be renamed."""
    if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
        return  # a device's driver would be asked
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with kernel_errors("look at", f"/{path}"):
        descriptor = os.open(name, flags, dir_fd=parent)
        try:
            is_protected = syscalls.is_protected(descriptor)
        finally:
            os.close(descriptor)
    if is_protected:
        raise RefusedError(
            f"/{path} is immutable or append-only",
            hint=f"To allow replacing it: chattr -i -a /{path}",
        )


def _refuse_elsewhere(host: Host, path: str) -> None:
    """Refuse a path whose directory is not one of the root subvolume, by its plain name."""
    parts = path.split("/")
    device = os.fstat(host.root_fd).st_dev
    for depth in range(1, len(parts)):
        above = "/".join(parts[:depth])
        if files.is_beyond_mount(host.root_fd, above):
            mount = mountinfo.containing(host.mounts, os.path.join(host.root, above))
            what = f"{mount.source}, mounted on {mount.point}" if mount else "another filesystem"
            raise _elsewhere(path, f"on {what}")
        status = status_in(host.root_fd, above)
        if status is None:
            return
        if stat.S_ISLNK(status.st_mode) or not stat.S_ISDIR(status.st_mode):
            kind = _KINDS.get(stat.S_IFMT(status.st_mode), "file")
            raise RefusedError(
                f"/{path} cannot be restored: /{above} was a directory and is now a {kind}",
                hint=f"Restore /{above} itself, or use --aside DIR.",
            )
        if status.st_dev != device:
            raise _elsewhere(path, f"in the subvolume /{above}")


def _elsewhere(path: str, where: str) -> RefusedError:
    return RefusedError(
        f"/{path} is now {where}, not in the root subvolume",
        hint="Use --aside DIR to restore it elsewhere, then copy it into place by hand.",
    )
