# SPDX-License-Identifier: GPL-2.0-or-later
"""What the steps of a plan do, on a real filesystem. Paths are from the top level."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from ...core.progress import Watch, unwatched
from ...core.rollback.steps import join
from ...core.snapshots.snapshot import OFFLINE_UPDATE, STAGING, STORE
from ...errors import KernelError, StoreError, kernel_errors
from ..linux import btrfs, chattr, durable, files, removal, syscalls
from ..loader import places, settings
from ..machine import kernels
from ..machine.host import Host
from ..root import labels
from . import arrivals, clones, copying, flags, kept, roots, swap


class Operations:
    """core.rollback.operations.Operations on the filesystem of a host; `watch` may show copies."""

    def __init__(self, host: Host, watch: Watch = unwatched) -> None:
        self._host, self._watch = host, watch

    def snapshot(self, source: str, destination: str, *, read_only: bool) -> None:
        """Make a snapshot of a subvolume."""
        # Parts of both paths may belong to users, who could put a link where a directory was.
        flags = os.O_RDONLY | os.O_DIRECTORY
        with kernel_errors("open", f"/{source}"):
            origin = syscalls.open_in_root(self._host.top_fd, source or ".", flags, follow=False)
        try:
            with self._parent("", destination) as place:
                btrfs.create_snapshot(f"/proc/self/fd/{origin}", place, read_only=read_only)
        finally:
            os.close(origin)

    def delete(self, path: str) -> None:
        """Delete a subvolume and all that are nested in it; nothing to do if there is none."""
        # What is nested in the top level is all there is.
        if not path:
            raise StoreError("the top level cannot be deleted")
        if found := self._subvolume(path):
            btrfs.delete_subvolume(found, recursive=True)

    def set_read_only(self, path: str, *, read_only: bool) -> None:
        """Make a subvolume read-only or writable; nothing to do if there is none."""
        if found := self._subvolume(path):
            btrfs.set_read_only(found, read_only=read_only)

    def subvolume(self, path: str) -> tuple[int, str]:
        """Return ID and UUID of the subvolume at `path`, or (0, "") if there is none."""
        found = self._subvolume(path)
        return (btrfs.subvolume_id(found), btrfs.subvolume_uuid(found)) if found else (0, "")

    def origin(self, path: str) -> str:
        """Return the UUID of what the subvolume at `path` is a snapshot of, "" if of nothing."""
        found = self._subvolume(path)
        parent = btrfs.btrfsutil_info(found).parent_uuid.hex() if found else ""
        return parent if parent.strip("0") else ""

    def locate(self, uuid: str) -> str | None:
        """Return the path of the subvolume with this UUID, None if there is none."""
        self._host.forget()
        return next((s.path for s in self._host.subvolumes if s.uuid == uuid), None)

    def exchange(self, one: str, other: str) -> None:
        """Exchange two names in one atomic step."""
        try:
            _move(syscalls.exchange, self._path(one), self._path(other))
        except OSError as error:
            raise KernelError(f"exchange /{one} and", f"/{other}", error) from error

    def rename(self, old: str, new: str) -> None:
        """Give a subvolume a name that is free."""
        try:
            # rename(2) would replace a file, or an empty directory.
            _move(syscalls.rename_to_free, self._path(old), self._path(new))
        except OSError as error:
            raise KernelError(f"rename /{old} to", f"/{new}", error) from error

    def default_id(self) -> int:
        """Return the ID of the default subvolume."""
        return btrfs.default_subvolume(self._host.top)

    def set_default(self, subvolume_id: int) -> None:
        """Make a subvolume the default one."""
        btrfs.set_default_subvolume(self._host.top, subvolume_id)

    def sync(self) -> None:
        """Bring everything to the disk."""
        try:
            syscalls.sync_filesystem(self._host.top_fd)
        except OSError as error:
            raise KernelError("sync", self._host.mount.source, error) from error

    def make_room(self, model: str, tree: str, path: str) -> None:
        """Free the place `path` in `tree`; directories above it that it lacks are as in `model`."""
        self.make_parents(model, tree, path)
        with self._parent(tree, path) as place, kernel_errors("make room at", f"/{tree}/{path}"):
            if os.path.lexists(place):
                removal.remove(place)

    def remove(self, tree: str, path: str) -> None:
        """Remove what is at `path` in `tree`; nothing to do if there is none, nor a way to it."""
        try:
            with self._parent(tree, path, follow=True) as place, kernel_errors("remove", path):
                if os.path.lexists(place):
                    removal.remove(place)
        except KernelError as error:  # as promised: nor a way to it
            if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise

    def end_unfinished(self, tree: str) -> None:
        """Take out of a copy of a root, which nobody uses yet, what would go on there."""
        for trigger in OFFLINE_UPDATE:
            self.remove(tree, trigger)
        # Its marks would be taken for those of the first boot of the copy.
        for path, _ in [*arrivals.marks(self._host, tree)]:
            if arrivals.has_stand_in(self._host, tree, path):
                self.remove(tree, path.path)
            # What somebody has put there since stays.
            is_free = not os.path.lexists(self._path(join(tree, path.path)))
            if is_free and arrivals.is_away(self._host, tree, path):
                self.rename(join(tree, path.moved), join(tree, path.path))
        self.remove(tree, STAGING)

    def make_directory(self, model: str, tree: str, path: str) -> None:
        """Put an empty directory in the place of a stand-in, with the mode and owner in `model`.

        What else is at `path` in `tree` stays: a kept path has come to its place, for instance.
        """
        with self._parent(tree, path) as place:
            if os.path.lexists(place) and not btrfs.is_stub(place):
                return
        self.make_room(model, tree, path)
        self._make_like(model, tree, path.split("/"))

    def copy(self, source: str, tree: str, path: str) -> None:
        """Replace what is at `path` in `tree` by a copy of what `source` has there.

        Copies share their data with the original where the filesystem allows it (reflinks). What
        protects what is in a directory from changes, chattr(1), is left out: some may come yet.
        """
        self.make_room(source, tree, path)
        with self._parent(source, path) as origin, self._parent(tree, path) as place:
            if not os.path.lexists(origin):
                return
            there, here = (int(p.split("/")[4]) for p in (origin, place))
            ends = there, here, os.path.basename(path)
            with kernel_errors("copy", f"/{path}"):
                if not stat.S_ISDIR(os.lstat(origin).st_mode):
                    if clones.copy_file(*ends):
                        clones.copy_file_flags(*ends)
                    return
                with self._watch(f"copying /{path}", "files") as told:
                    found = copying.copy_paths(there, here, ends[2:], told)
                masked = ((name, bits & ~flags.PROTECTED) for name, bits in found.items())
                flags.put(f"/proc/self/fd/{here}", {name: bits for name, bits in masked if bits})

    def keep(self, source: str, tree: str, paths: Sequence[str]) -> None:
        """Make each of `paths` in `tree` as `source` has it, by copies of what is different."""
        wanted = kept.difference(self._host, source, tree, paths)
        with self._watch("copying kept files", "files") as told:
            kept.make(self._host, source, tree, wanted, told)
        for path in wanted.edits.whole:
            self.copy(source, tree, path)

    def renew_swap(self, tree: str, path: str) -> None:
        """Make a swap file anew that the kernel would not use as it is."""
        with self._parent(tree, path) as place, kernel_errors("recreate", f"/{tree}/{path}"):
            swap.renew(place)

    def read_file(self, tree: str, path: str) -> str:
        """Return a text file of a tree, "" if there is none."""
        with roots.opened(self._host, tree) as root:
            return files.read_in_tree(root, path) or ""

    def write_file(self, tree: str, path: str, text: str) -> None:
        """Replace the text of a file, durable with the next sync; owner, mode, attributes stay.

        In place, not by rename: the tree is one that nothing boots yet. It is the file that
        `read_file` reads: links lead to it in the tree, where /etc is one for instance. Raises
        KernelError, also where they lead to another subvolume.
        """
        with roots.opened(self._host, tree) as root, kernel_errors("write", f"/{tree}/{path}"):
            descriptor = syscalls.open_in_root(root, path, os.O_WRONLY | os.O_NONBLOCK)
            with os.fdopen(descriptor, "wb") as file:
                if os.fstat(descriptor).st_dev != os.fstat(root).st_dev:
                    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
                file.truncate()
                file.write(text.encode("utf-8", "surrogateescape"))
                file.flush()
                durable.leave_to_next_commit(file.fileno())
        self._host.fstabs.clear()  # it may be one of these

    def label_at_boot(self, tree: str) -> None:
        """Have the next boot of a root label all its files for SELinux, durable."""
        with files.opened(self._path(tree)) as root:
            durable.write_text(root, labels.AUTORELABEL, "")

    def write_record(self, name: str, text: str) -> None:
        """Write a record into the store durably."""
        with roots.opened(self._host, STORE) as directory:
            durable.write_text(directory, name + ".json", text)

    def remove_record(self, name: str) -> None:
        """Remove a record from the store; nothing to do if there is none."""
        with roots.opened(self._host, STORE) as directory:
            durable.remove_durably(directory, name + ".json")

    def kernels(self, path: str) -> tuple[str, ...]:
        """Return the kernel versions that have modules in the subvolume at `path`."""
        with roots.opened(self._host, path) as tree:
            return kernels.with_modules(tree)

    def runs(self, path: str, kernel: str) -> bool:
        """Whether the subvolume at `path` is the running root, and this its kernel."""
        if not self._host.is_running or self.subvolume(path)[0] != self._host.root_id:
            return False
        return kernels.running() == kernel

    def put_file(self, source: str, destination: str) -> None:
        """Copy a file durably to where there is none; both as places.py names them."""
        origin, place = (places.path_of(self._host, where) for where in (source, destination))
        if os.path.lexists(place) and os.lstat(place).st_size:
            return
        with kernel_errors("make", destination):
            _make_directories(os.path.dirname(place))
            mode = stat.S_IMODE(os.lstat(origin).st_mode)
        with files.opened(os.path.dirname(place)) as directory:
            name, data = os.path.basename(place), files.chunks(origin)
            durable.replace(directory, name, data, mode=mode, for_loader=True)

    def remove_copy(self, source: str, destination: str) -> None:
        """Remove what `put_file` made; anything else there, or nothing, is left."""
        origin, place = (places.path_of(self._host, where) for where in (source, destination))
        if os.path.isfile(place) and files.are_equal(origin, place):
            self.remove_file(destination)
        self.remove_file(destination + durable.TEMPORARY)  # what a power cut left of a copy

    def remove_file(self, where: str) -> None:
        """Remove a file; nothing to do if there is none."""
        directory, name = os.path.split(places.path_of(self._host, where))
        if os.path.isdir(directory):
            with files.opened(directory) as opened:
                durable.remove_durably(opened, name)

    def setting(self, file: str, key: str) -> str | None:
        """Return what a boot loader is told by its default entry's `key`, None if nothing."""
        return settings.setting_value(self._host, file, key)

    def write_setting(self, file: str, key: str, value: str | None) -> None:
        """Tell it something else, durably."""
        settings.write_setting(self._host, file, key, value)

    def _path(self, relative: str) -> str:
        return roots.place(self._host, relative)

    def _subvolume(self, path: str) -> str:
        return roots.subvolume(self._host, path)

    @contextmanager
    def _parent(self, tree: str, path: str, *, follow: bool = False) -> Iterator[str]:
        """Give a path whose directory is pinned by a descriptor.

        No link was followed to it or, with `follow`, none that leads out of the tree.
        """
        head, tail = os.path.split(path)
        with roots.opened(self._host, tree) as root:
            with kernel_errors("open", f"/{tree}/{head}"):
                flags = os.O_RDONLY | os.O_DIRECTORY
                directory = syscalls.open_in_root(root, head or ".", flags, follow=follow)
            try:
                yield f"/proc/self/fd/{directory}/{tail}"
            finally:
                os.close(directory)

    def make_parents(self, model: str, tree: str, path: str) -> None:
        """Make the directories above `path` that `tree` lacks, as they are in `model`."""
        self._make_like(model, tree, path.split("/")[:-1])

    def _make_like(self, model: str, tree: str, names: Sequence[str]) -> None:
        """Make the directory to which `names` lead, and those above it, if `tree` lacks them."""
        with (
            roots.opened(self._host, tree) as root,
            roots.opened(self._host, model) as original,
            files.Way(root) as way,
            files.Way(original) as like,
        ):
            with kernel_errors("open", f"/{tree}"):
                is_whole = _directory(way, tuple(names)) is not None
            if is_whole:
                return
            # The last one that is there may be a stand-in.
            for depth in range(max(way.depth, 1), len(names) + 1):
                path = tuple(names[:depth])
                with kernel_errors("make", f"/{tree}/{'/'.join(path)}"):
                    _make_like(way, like, path)


def _make_like(way: files.Way, like: files.Way, path: tuple[str, ...]) -> None:
    """Make a directory on one way, if there is none, as it is on another.

    Where that has no such directory it is one that the owner of the one above may use. Raises
    OSError.
    """
    directory = way.opened(path[:-1])
    place = f"/proc/self/fd/{directory}/{path[-1]}"
    is_there = os.path.lexists(place)
    if is_there and stat.S_ISDIR(os.lstat(place).st_mode) and not btrfs.is_stub(place):
        return
    if is_there:  # a stand-in; or a file, or a link, where there is a directory today
        removal.remove(place)
    os.mkdir(place, 0o700)
    original = _directory(like, path)
    if original is None:
        above = os.fstat(directory)
        os.chown(place, above.st_uid, above.st_gid, follow_symlinks=False)
        os.chmod(place, 0o755)  # noqa: S103 - as the stand-in showed it
        chattr.label_like_directory(directory, path[-1])
        return
    status = os.fstat(original)
    os.chown(place, status.st_uid, status.st_gid, follow_symlinks=False)
    os.chmod(place, stat.S_IMODE(status.st_mode))
    for name, value in chattr.extended(original).items():
        os.setxattr(place, name, value, follow_symlinks=False)


def _directory(way: files.Way, path: tuple[str, ...]) -> int | None:
    """Return a descriptor of a directory, as `way` has it; None if there is none, or a stand-in."""
    try:
        found = way.opened(path)
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):  # as promised
            raise
        return None
    return found if os.fstat(found).st_ino != btrfs.STUB_INODE else None


def _move(how: Callable[[str, str], None], one: str, other: str) -> None:
    """Exchange or rename files, which what protects them from changes forbids: not for long."""
    try:
        how(one, other)
    except PermissionError:  # raised again where nothing protects them
        with chattr.movable(one, other):
            how(one, other)


def _make_directories(path: str) -> None:
    """Make the directories of a path that are not there, with the mode of the one above them."""
    if os.path.isdir(path):
        return
    above = os.path.dirname(path)
    _make_directories(above)
    os.mkdir(path, stat.S_IMODE(os.stat(above).st_mode) & 0o777)
    with files.opened(above) as directory:
        chattr.label_like_directory(directory, os.path.basename(path))
