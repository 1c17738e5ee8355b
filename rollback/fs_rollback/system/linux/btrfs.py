# SPDX-License-Identifier: GPL-2.0-or-later
"""Subvolumes through libbtrfsutil, as functions that raise KernelError with path and reason.

The Python names are the old ones, which versions 6.2 to 7 all have.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import sys
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import btrfsutil

from ...core.snapshots.snapshot import LONGEST_PATH, TOP_LEVEL_ID, Subvolume
from ...errors import KernelError, kernel_errors
from . import files, syscalls, tree_search

if TYPE_CHECKING:
    from ...core.snapshots.space import BlockGroups, Device, Space

_LONGEST_PATH = LONGEST_PATH + 384  # with what may stand before it, from the top level
SUBVOLUME_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID, linux/btrfs_tree.h
_READ_ONLY = 1  # BTRFS_ROOT_SUBVOL_RDONLY
_FICLONE = 0x40049409  # linux/fs.h
# linux/btrfs.h: BTRFS_IOC_SPACE_INFO, _DEV_INFO, _FS_INFO, and their structures; of a device its
# bytes_used, total_bytes and the first byte of its path, which a missing one has not.
_SPACE_INFO, _DEV_INFO, _FS_INFO = 0xC0109414, 0xD000941E, 0x8400941F
_SPACES, _SPACE_OF_GROUPS = struct.Struct("=QQ"), struct.Struct("=QQQ")
_DEVICE, _DEVICE_BYTES = struct.Struct("=24xQQ3032xB1023x"), 4096
STUB_INODE = 2  # BTRFS_EMPTY_SUBVOL_DIR_OBJECTID: where a snapshot has no nested subvolume


def is_subvolume(path: str) -> bool:
    """Whether `path` is the root of a btrfs subvolume; False on any other filesystem."""
    try:
        return bool(btrfsutil.is_subvolume(path))
    except OSError as error:
        # Nothing is there; nor can anything be at a path longer than any.
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
            return False
        raise KernelError("access", path, error) from error


def subvolume_id(path: str) -> int:
    """Return the ID of the subvolume that `path` (a file, a directory) lies in."""
    with kernel_errors("find the subvolume of", path):
        return int(btrfsutil.subvolume_id(path))


def subvolume_uuid(path: str) -> str:
    """Return the UUID of the subvolume at `path` as 32 hexadecimal digits."""
    with kernel_errors("read the subvolume", path):
        return str(btrfsutil.subvolume_info(path).uuid.hex())


def generation(path: str) -> int:
    """Return the generation of the last change of the subvolume at `path`."""
    with kernel_errors("read the subvolume", path):
        return int(btrfsutil.subvolume_info(path).generation)


def subvolume_path(path: str) -> str:
    """Return the path from the top level of the subvolume at `path`, "" for the top level."""
    with kernel_errors("find the subvolume of", path):
        return str(btrfsutil.subvolume_path(path))


def subvolumes(top: str) -> tuple[Subvolume, ...]:
    """Return all subvolumes of the filesystem whose top level is at `top`, that one included.

    Subvolumes with paths longer than _LONGEST_PATH are left out: any user can create one, and that
    must not prevent a rollback.
    """
    # Not through libbtrfsutil, which asks the kernel several times for each of them.
    with kernel_errors("list the subvolumes of", top):
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            roots = list(tree_search.subvolume_roots(descriptor))
            paths = _paths(descriptor, roots)
        finally:
            os.close(descriptor)
    found = (_subvolume(os.fsdecode(paths[r.id]), r) for r in roots if r.id in paths)
    return (subvolume(top, ""), *found)


def parents(top: str) -> dict[int, int]:
    """Return the IDs of all subvolumes with those of what they lie in, the deepest included."""
    with files.opened(top) as descriptor, kernel_errors("list the subvolumes of", top):
        return {root.id: root.parent_id for root in tree_search.subvolume_roots(descriptor)}


def _paths(descriptor: int, roots: Sequence[tree_search.Root]) -> dict[int, bytes]:
    """Return the paths of subvolumes from the top level, by their IDs, without the deepest."""
    found = {TOP_LEVEL_ID: b""}
    directories: dict[tuple[int, int], bytes | None] = {}
    links: tree_search.Links = {}
    left = {root.id: root for root in roots}
    for first in roots:
        number, chain = first.id, []  # up to what has a path: a parent may be younger
        while number in left:
            chain.append(left.pop(number))
            number = chain[-1].parent_id
        for root in reversed(chain):
            place = root.parent_id, root.directory
            if place not in directories:
                directories[place] = _directory(descriptor, found.get(root.parent_id), root, links)
            directory = directories[place]
            if directory is not None and len(directory) + len(root.name) <= _LONGEST_PATH:
                found[root.id] = directory + root.name
    return found


def _directory(
    descriptor: int, parent: bytes | None, root: tree_search.Root, links: tree_search.Links
) -> bytes | None:
    """Return the path, up to its name, of a subvolume in `parent`; None where that is too long."""
    if parent is None:
        return None
    parent = parent and parent + b"/"
    if root.directory == SUBVOLUME_INODE:
        return parent
    place = root.parent_id, root.directory
    try:
        try:
            return parent + tree_search.directory_path(descriptor, *place)
        except OSError as error:  # longer than the kernel tells at once
            if error.errno != errno.ENAMETOOLONG:
                raise
        names = tree_search.directory_names(descriptor, *place, links, _LONGEST_PATH)
        return b"".join((parent, *(name + b"/" for name in names)))
    except OSError as error:  # too deep, or deleted meanwhile
        if error.errno in (errno.ENAMETOOLONG, errno.ENOENT):
            return None
        raise


def btrfsutil_info(path: str) -> btrfsutil.SubvolumeInfo:
    """Return what the kernel knows of the subvolume at `path`."""
    with kernel_errors("read the subvolume", path):
        return btrfsutil.subvolume_info(path)


def subvolume(place: str, path: str) -> Subvolume:
    """Return the subvolume at `place`; `path` is its path from the top level."""
    info = btrfsutil_info(place)
    return Subvolume(
        id=info.id,
        path=path,
        uuid=info.uuid.hex(),
        parent_id=info.parent_id,
        parent_uuid=info.parent_uuid.hex(),
        read_only=bool(info.flags & _READ_ONLY),
        created=datetime.fromtimestamp(int(info.otime), timezone.utc),
        born=info.otransid,
    )


def _subvolume(path: str, root: tree_search.Root) -> Subvolume:
    created = datetime.fromtimestamp(root.made_s, timezone.utc)
    uuid, parent_uuid = root.uuid.hex(), root.parent_uuid.hex()
    # By place and not by name, which takes twice as long: there may be thousands.
    return Subvolume(
        root.id, path, uuid, root.parent_id, parent_uuid, root.read_only, created, root.made_in
    )


def nested(path: str) -> tuple[str, ...]:
    """Return the paths of the subvolumes nested in the one at `path`, not those nested deeper."""
    found: list[str] = []
    with (
        kernel_errors("list the subvolumes in", path),
        btrfsutil.SubvolumeIterator(path, btrfsutil.subvolume_id(path)) as iterator,
    ):
        while True:
            try:
                below, _ = next(iterator)
            except StopIteration:  # the end of the list
                break
            except OSError as error:  # see above
                if error.errno != errno.ENAMETOOLONG:
                    raise
                continue
            # What lies in another one follows that.
            if not found or not below.startswith(f"{found[-1]}/"):
                found.append(below)
    return tuple(sorted(found))


def stand_ins(tree: int) -> tuple[str, ...]:
    """Return where a snapshot of `tree` (an open subvolume) has empty stand-ins: paths in it.

    Those are all entries that lead to another subvolume, which is no part of a snapshot, and those
    that have led nowhere since `tree` was made by a snapshot itself. A path that is too long to be
    told is left out. All directories are read: half a second for some 200 000 files that are in
    memory. What is not on the disk yet does not show. Raises KernelError.
    """
    with kernel_errors("look for subvolumes in", "the snapshot"):
        return tuple(sorted(_subvolume_entries(tree)))


def _subvolume_entries(tree: int) -> Iterator[str]:
    # From directory to directory: what files have is most of a tree, and costs the kernel more.
    reader, pending = tree_search.InodeReader(tree), [(SUBVOLUME_INODE, b"")]
    for directory, path in pending:
        for number, is_subvolume, name in reader.directories(directory):
            below = path + name
            if len(below) > LONGEST_PATH:
                continue
            if is_subvolume:
                yield os.fsdecode(below)
            else:
                pending.append((number, below + b"/"))


def create_snapshot(source: str, destination: str, *, read_only: bool) -> None:
    """Make a snapshot. The ioctl commits the filesystem: the snapshot is then on disk."""
    sys.audit("fs-rollback.changed", "snapshot", source, "to", destination)
    with kernel_errors("make the snapshot", destination):
        btrfsutil.create_snapshot(source, destination, read_only=read_only)


def create_subvolume(path: str) -> None:
    """Make an empty subvolume."""
    sys.audit("fs-rollback.changed", "make subvolume", path)
    with kernel_errors("make the subvolume", path):
        btrfsutil.create_subvolume(path)


def set_read_only(path: str, *, read_only: bool) -> None:
    """Change the read-only flag of a subvolume."""
    sys.audit("fs-rollback.changed", "make read-only" if read_only else "make writable", path)
    with kernel_errors("change the read-only flag of", path):
        btrfsutil.set_subvolume_read_only(path, read_only)


def delete_subvolume(path: str, *, recursive: bool) -> None:
    """Delete a subvolume, with the nested ones if `recursive`."""
    sys.audit("fs-rollback.changed", "delete subvolume", path)
    with kernel_errors("delete the subvolume", path):
        try:
            btrfsutil.delete_subvolume(path, recursive=recursive)
        except OSError as error:
            # What is nested in a read-only subvolume cannot be taken out of it, nor one out of an
            # immutable directory (chattr(1)), nor one whose own directory is; and libbtrfsutil
            # stops at one to which no path leads, which any user can make.
            if not (recursive and error.errno in (errno.EROFS, errno.EPERM, errno.ENAMETOOLONG)):
                raise
            _delete_nested(path)
            btrfsutil.delete_subvolume(path)


def _delete_nested(path: str) -> None:
    """Delete all that is nested in a subvolume, and take off what protects it, and them.

    What is nested is what the kernel has as such. Each is deleted by its name in its directory, to
    which one name after the other leads: BTRFS_IOC_SNAP_DESTROY_V2 takes an ID, but makes a path of
    it, and fails. Raises OSError, KernelError.
    """
    with files.opened(path) as top, files.Way(top) as way:
        found = tree_search.nested_roots(top, btrfsutil.subvolume_id(top))
        roots, links = {root.id: root for root in found}, tree_search.Links()
        _make_deletable(way, ())
        for root in found:
            _make_deletable(way, _place(top, root, roots, links))
        for root in reversed(found):
            *above, name = _place(top, root, roots, links)
            if btrfsutil.subvolume_id(way.opened((*above, name))) != root.id:  # moved meanwhile
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            sys.audit("fs-rollback.changed", "delete subvolume ID", root.id, "in", path)
            btrfsutil.delete_subvolume(f"/proc/self/fd/{way.opened(tuple(above))}/{name}")


def _place(
    top: int, root: tree_search.Root, roots: dict[int, tree_search.Root], links: tree_search.Links
) -> tuple[str, ...]:
    """Return the way to one of the nested `roots`. Raises OSError."""
    parts = list[tuple[bytes, ...]]()
    one: tree_search.Root | None = root
    while one is not None:
        names = tree_search.directory_names(top, one.parent_id, one.directory, links)
        parts.append((*names, one.name))
        one = roots.get(one.parent_id)
    return tuple(os.fsdecode(name) for part in reversed(parts) for name in part)


def _make_deletable(way: files.Way, place: tuple[str, ...]) -> None:
    """Take off what protects a subvolume on a way, and its directory. Raises OSError."""
    own = way.opened(place)
    if btrfsutil.get_subvolume_read_only(own):
        btrfsutil.set_subvolume_read_only(own, False)
    syscalls.unprotect(f"/proc/self/fd/{own}/.")
    syscalls.unprotect(f"/proc/self/fd/{way.opened(place[:-1])}/.")


def data_space(top: str) -> Space:
    """Return the space for data. Raises KernelError.

    This is the state of the last commit: space that was deleted since is not free yet.
    """
    from ...core.snapshots.space import space

    with kernel_errors("read the free space of", top):
        descriptor = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return space(block_groups(descriptor), devices(descriptor))
        finally:
            os.close(descriptor)


def block_groups(descriptor: int) -> list[BlockGroups]:
    """Return what is allocated for data, metadata and the rest. Raises OSError."""
    from ...core.snapshots.space import BlockGroups

    count = 16  # more than there can be profiles in use at once, by any normal use
    while True:
        answer = bytearray(_SPACES.size + count * _SPACE_OF_GROUPS.size)
        _SPACES.pack_into(answer, 0, count, 0)
        fcntl.ioctl(descriptor, _SPACE_INFO, answer)
        found = _SPACES.unpack_from(answer)[1]
        if found < count:
            rows = _SPACE_OF_GROUPS.iter_unpack(answer[_SPACES.size :])
            return [BlockGroups(*row) for row, _ in zip(rows, range(found))]
        count *= 2


def devices(descriptor: int) -> list[Device]:
    """Return the devices of a filesystem, without missing ones. Raises OSError."""
    from ...core.snapshots.space import Device

    answer = bytearray(1024)
    fcntl.ioctl(descriptor, _FS_INFO, answer)
    highest, _ = struct.unpack_from("=QQ", answer)
    found = []
    for number in range(1, highest + 1):
        answer = bytearray(_DEVICE_BYTES)
        struct.pack_into("=Q", answer, 0, number)
        try:
            fcntl.ioctl(descriptor, _DEV_INFO, answer)
        except OSError as error:
            if error.errno != errno.ENODEV:  # one with this number was removed
                raise
            continue
        allocated, size, path = _DEVICE.unpack(answer)
        if path:
            found.append(Device(size, allocated))
    return found


def commit(top: str, *, flush: bool) -> None:
    """Commit the filesystem, with all data that is not written yet if `flush`.

    After it, what btrfs has freed before is available, and btrfs starts to free what was deleted.
    Without `flush`, if there is nothing to commit, btrfs starts that only later by itself.
    """
    with kernel_errors("commit", top):
        if flush:
            btrfsutil.sync(top)
        else:
            btrfsutil.wait_sync(top, btrfsutil.start_sync(top))


def being_freed(top: str) -> tuple[int, ...]:
    """Return the IDs of the deleted subvolumes whose space is not free yet. Raises KernelError."""
    with kernel_errors("list the deleted subvolumes of", top):
        return tuple(btrfsutil.deleted_subvolumes(top))


def default_subvolume(top: str) -> int:
    """Return the ID of the default subvolume."""
    with kernel_errors("read the default subvolume of", top):
        return int(btrfsutil.get_default_subvolume(top))


def set_default_subvolume(top: str, subvolume: int) -> None:
    """Make the subvolume with this ID the default."""
    sys.audit("fs-rollback.changed", "make default subvolume ID", subvolume, "on", top)
    with kernel_errors("set the default subvolume of", top):
        btrfsutil.set_default_subvolume(top, subvolume)


def clone(source: int, descriptor: int) -> None:
    """Let an empty file share all the data of another one, ioctl_ficlone(2). Raises OSError."""
    fcntl.ioctl(descriptor, _FICLONE, source)


def is_stub(path: str) -> bool:
    """Whether `path` is the empty stand-in of a nested subvolume."""
    try:
        return os.lstat(path).st_ino == STUB_INODE
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):  # nothing is there
            return False
        raise KernelError("access", path, error) from error
