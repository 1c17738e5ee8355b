# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes paths of a new root equal to those of the old one, copying only what differs.

The differences are read from the filesystem's own trees (core/comparison/mirror.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import NamedTuple

from ...core.comparison.ancestry import parted
from ...core.comparison.mirror import Edits, History, Part, edits
from ...core.formats.mountinfo import is_within, is_within_any
from ...core.progress import Progress, untold
from ...core.snapshots.snapshot import Subvolume
from ...errors import kernel_errors
from ..comparison.touched import touched
from ..comparison.trees import SubvolumeTree
from ..linux import btrfs, chattr, files, removal, syscalls
from ..machine.host import Host
from . import clones, roots


class Difference(NamedTuple):
    """The changes to a tree, see Edits. Stand-ins of nested subvolumes become directories."""

    edits: Edits
    stand_ins: tuple[str, ...] = ()


def difference(
    host: Host, source: str, tree: str, paths: Sequence[str], place: str = ""
) -> Difference:
    """Return the changes that make `paths` of the subvolume `tree` equal to those in `source`.

    Subvolumes are given by their paths from the top level. `place` is the directory of `tree` that
    the paths have been moved into. What is not on the disk yet does not show: `source` is a
    snapshot that was made after the last change in `tree`, so all of that is. Raises KernelError.
    """
    host.forget()
    old, new = host.by_path(tree), host.by_path(source)
    since = parted(old, new, host.subvolumes) if old is not None and new is not None else None
    if old is None or new is None or since is None:
        return Difference(Edits(whole=tuple(paths)))
    with ExitStack() as stack:
        one, other = (stack.enter_context(roots.opened(host, p)) for p in (tree, source))
        stack.enter_context(kernel_errors("compare", f"/{tree} and /{source}"))
        places = [os.path.join(place, path) for path in paths]
        parts = [
            Part(path, files.inode_of(one, moved) or 0, files.inode_of(other, path) or 0)
            for path, moved in zip(paths, places)
        ]
        stand_ins = _stand_ins(host, new, other, paths)
        holders = frozenset(files.inode_of(other, os.path.dirname(p)) or 0 for p in stand_ins)
        both = touched(host, old, one, since), touched(host, new, other, since)
        found = edits(
            (SubvolumeTree(one), SubvolumeTree(other)),
            parts,
            History(since, both, holders),
        )
    told = [path for path in paths if path not in found.whole]
    return Difference(found, tuple(s for s in stand_ins if is_within_any(s, told)))


def _stand_ins(host: Host, snapshot: Subvolume, tree: int, paths: Sequence[str]) -> list[str]:
    """Return where in `paths` a snapshot, open as `tree`, has stand-ins of nested subvolumes."""
    root = host.by_uuid(snapshot.parent_uuid)
    if root is None:
        return []
    nested = (s.path for s in host.subvolumes if is_within("/" + s.path, "/" + root.path))
    found = (path[len(root.path) :].strip("/") for path in nested)
    inside = [path for path in found if is_within_any(path, paths)]
    return [path for path in inside if files.inode_of(tree, path) == btrfs.STUB_INODE]


def make(host: Host, source: str, tree: str, wanted: Difference, told: Progress = untold) -> None:
    """Make the changes in the tree, or where it was moved to; `told` is called before each.

    Raises KernelError, and ProcessError where a file cannot be copied.
    """
    with ExitStack() as stack:
        new, old = (stack.enter_context(roots.opened(host, p)) for p in (source, tree))
        work = _Work(
            f"/{tree}", stack.enter_context(_opened(new)), stack.enter_context(_opened(old))
        )
        work.do(wanted, told)


class _Directories:
    """Directories of a tree. The last one stays open: what comes next is often there too."""

    def __init__(self, tree: int) -> None:
        self.tree = tree
        self._path, self._descriptor = "", -1

    def opened(self, path: str) -> int:
        """Return a descriptor of a directory, valid until the next call."""
        if path != self._path or self._descriptor < 0:
            flags, above, way = os.O_RDONLY | os.O_DIRECTORY, self.tree, path
            if self._descriptor >= 0 and path.startswith(f"{self._path}/"):
                above, way = self._descriptor, path[len(self._path) + 1 :]
            descriptor = syscalls.open_in_root(above, way or ".", flags, follow=False)
            self.forget()
            self._path, self._descriptor = path, descriptor
        return self._descriptor

    def holding(self, path: str) -> tuple[int, str]:
        """Return a descriptor of the directory that a path lies in, and its name there."""
        directory, _, name = path.rpartition("/")
        return self.opened(directory), name

    @contextmanager
    def apart(self, path: str) -> Iterator[tuple[int, str]]:
        """Yield the same as `holding`, valid within the block, in addition to what is open."""
        directory, _, name = path.rpartition("/")
        flags = os.O_PATH | os.O_DIRECTORY
        descriptor = syscalls.open_in_root(self.tree, directory or ".", flags, follow=False)
        try:
            yield descriptor, name
        finally:
            os.close(descriptor)

    def rename(self, path: str, place: str) -> None:
        """Give something another path in the tree."""
        with self.apart(path) as (above, name), self.apart(place) as (other, new):
            os.rename(name, new, src_dir_fd=above, dst_dir_fd=other)

    def forget(self) -> None:
        """Close the directory: another one may take its path."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = -1


@contextmanager
def _opened(tree: int) -> Iterator[_Directories]:
    directories = _Directories(tree)
    try:
        yield directories
    finally:
        directories.forget()


class _Work:
    """A tree that is made equal to another one; `named` is its name in messages."""

    def __init__(self, named: str, new: _Directories, old: _Directories) -> None:
        self._named, self._new, self._old = named, new, old
        self._told: Progress = untold
        self._done, self._total = 0, 0

    def do(self, wanted: Difference, told: Progress) -> None:
        """Do it; `told` as in `make`."""
        edits = wanted.edits
        self._told, self._done = told, 0
        # A directory is made and removed for those that move.
        self._total = edits.steps + len(wanted.stand_ins) + 2 * bool(edits.detached)
        settled = {*edits.settled, *map(os.path.dirname, wanted.stand_ins)}
        for path in edits.changeable:
            with self._at(path):
                syscalls.unprotect(_path(*self._old.holding(path)))
        self._place(edits)
        for path in wanted.stand_ins:
            with self._at(path):
                self._make_directory(path)
        for names in edits.copied:
            with self._at(names[0]):
                self._copy(*names)
        for paths, data in ((edits.updated, True), (edits.retouched, False)):
            for path in paths:
                with self._at(path):
                    if not self._update(path, data=data):
                        settled.add(os.path.dirname(path))
        for path in edits.flagged:
            with self._at(path):
                source, name = self._new.holding(path)
                clones.copy_file_flags(source, self._old.holding(path)[0], name)
        for path in sorted(settled):
            with self._at(path):
                clones.copy_directory_attributes(self._new.opened(path), self._old.opened(path))
        told(self._total, self._total)

    def _place(self, edits: Edits) -> None:
        """Bring all directories to where they belong, and remove what is not to be there."""
        tree = self._old
        meanwhile = os.path.dirname(edits.detached[0][1]) if edits.detached else ""
        if meanwhile:
            with self._at(meanwhile):
                os.mkdir(meanwhile, 0o700, dir_fd=tree.tree)
        for path, place in edits.detached:
            with self._at(path):
                tree.rename(path, place)
        tree.forget()
        for path in edits.removed:
            with self._at(path):
                _remove(*tree.holding(path))
        for place, path in edits.placed:
            with self._at(path):
                if place:
                    tree.rename(place, path)
                    continue
                directory, name = tree.holding(path)
                os.mkdir(name, 0o700, dir_fd=directory)
        if meanwhile:
            with self._at(meanwhile):
                os.rmdir(meanwhile, dir_fd=tree.tree)
        tree.forget()

    def _copy(self, first: str, *others: str) -> None:
        source, name = self._new.holding(first)
        directory, _ = self._old.holding(first)
        clones.copy_file(source, directory, name)
        for other in others:
            with self._old.apart(other) as (place, new):
                os.link(name, new, src_dir_fd=directory, dst_dir_fd=place, follow_symlinks=False)

    def _update(self, path: str, *, data: bool) -> bool:
        """Update a file in its place; False if it had to be replaced: it is protected, say."""
        source, name = self._new.holding(path)
        directory, _ = self._old.holding(path)
        try:
            clones.update_file(source, directory, name, data=data)
        except OSError:  # what is wrong is said where no copy can be made either
            _remove(directory, name)
            clones.copy_file(source, directory, name)
            return False
        return True

    def _make_directory(self, path: str) -> None:
        """Put a directory in the place of a stand-in, which nobody could write to."""
        directory, name = self._old.holding(path)
        with suppress(FileNotFoundError):  # the old tree had none there
            os.rmdir(name, dir_fd=directory)
        os.mkdir(name, dir_fd=directory)
        os.chmod(name, 0o755, dir_fd=directory)  # noqa: S103 - as the stand-in showed it
        chattr.label_like_directory(directory, name)

    def _at(self, path: str) -> AbstractContextManager[None]:
        """Say where one thing is done."""
        # More of them where a file that should be updated had to be replaced.
        self._told(min(self._done, self._total), self._total)
        self._done += 1
        return kernel_errors("update", f"{self._named}/{path}")


def _remove(directory: int, name: str) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except (IsADirectoryError, PermissionError):  # a directory, or protected from changes
        removal.remove(_path(directory, name))


def _path(directory: int, name: str) -> str:
    return f"/proc/self/fd/{directory}/{name}"
