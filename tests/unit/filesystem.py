# SPDX-License-Identifier: GPL-2.0-or-later
"""A model of a btrfs filesystem: names, IDs, UUIDs, read-only flags, files and stand-ins.

It is core.rollback.operations.Operations as a real filesystem answers: what the kernel refuses
is refused here.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import NamedTuple, Optional

from fs_rollback.core.snapshots.snapshot import OFFLINE_UPDATE, STAGING, TOP_LEVEL_ID, Subvolume
from fs_rollback.errors import KernelError
from tests.unit.samples import NOW, uuid_of


class Cut(Exception):  # noqa: N818 - no error: it is what a test wants
    """The process is killed here: before the change, which is not made."""


class Tree(NamedTuple):
    """A subvolume. Files are by path from its root; stubs stand in for nested subvolumes."""

    id: int
    read_only: bool
    files: dict[str, str]
    stubs: frozenset[str] = frozenset()
    origin: int = 0  # the ID of what it is a snapshot of


State = tuple[dict[str, Tree], int, dict[str, str]]


class Filesystem:
    """Subvolumes by their path from the top level. `changes_left` is when the process dies."""

    def __init__(self) -> None:
        self.trees: dict[str, Tree] = {"": Tree(TOP_LEVEL_ID, False, {})}
        self.records: dict[str, str] = {}
        self.boot: dict[str, str] = {}
        self.settings: dict[tuple[str, str], Optional[str]] = {}
        self.default = TOP_LEVEL_ID
        self.running = ("", "")
        self.changes_left = 10**9
        self.synced: State = self.state()
        self._next_id = 256

    # What a test does to it and reads from it.

    def add(self, path: str, files: dict[str, str], *, read_only: bool = False) -> int:
        self._next_id += 1
        self.trees[path] = Tree(self._next_id, read_only, dict(files))
        return self._next_id

    def state(self) -> State:
        trees = {path: t._replace(files=dict(t.files)) for path, t in self.trees.items()}
        return trees, self.default, dict(self.records)

    def subvolumes(self) -> tuple[Subvolume, ...]:
        return tuple(
            Subvolume(tree.id, path, uuid_of(tree.id), 5, "", tree.read_only, NOW, tree.id)
            for path, tree in self.trees.items()
        )

    def path_of(self, number: int) -> str:
        return next(path for path, tree in self.trees.items() if tree.id == number)

    def visible(self, root: str) -> dict[str, str]:
        """Return the files of a subvolume and of all that are nested in it."""
        found = dict(self.trees[root].files)
        for path in self._nested(root):
            below = path[len(root) :].strip("/")
            found.update({f"{below}/{name}": text for name, text in self.trees[path].files.items()})
        return found

    # Operations.

    def snapshot(self, source: str, destination: str, *, read_only: bool) -> None:
        self._change()
        tree = self._tree(source)
        parent, name = self._parent_of(destination)
        self._refuse(self.trees[parent].read_only, errno.EROFS, destination)
        taken = destination in self.trees or name in self.trees[parent].files
        self._refuse(taken or name in self.trees[parent].stubs, errno.EEXIST, destination)
        nested = (path[len(source) :].strip("/") for path in self._nested(source))
        tops = frozenset(
            n for n in nested if self._parent_of(f"{source}/{n}".strip("/"))[0] == source
        )
        self._next_id += 1
        stubs = tree.stubs | tops
        self.trees[destination] = Tree(self._next_id, read_only, dict(tree.files), stubs, tree.id)

    def delete(self, path: str) -> None:
        if path not in self.trees:
            return
        self._change()
        self._refuse(self.trees[path].id in (self.default, TOP_LEVEL_ID), errno.EPERM, path)
        for doomed in [*self._nested(path), path]:
            del self.trees[doomed]

    def set_read_only(self, path: str, *, read_only: bool) -> None:
        self._change()
        if path in self.trees:
            self.trees[path] = self._tree(path)._replace(read_only=read_only)

    def subvolume(self, path: str) -> tuple[int, str]:
        tree = self.trees.get(path)
        return (tree.id, uuid_of(tree.id)) if tree else (0, "")

    def origin(self, path: str) -> str:
        tree = self.trees.get(path)
        return uuid_of(tree.origin) if tree and tree.origin else ""

    def locate(self, uuid: str) -> Optional[str]:
        return next((p for p, tree in self.trees.items() if uuid_of(tree.id) == uuid), None)

    def exchange(self, one: str, other: str) -> None:
        self._change()
        self._tree(one)
        self._tree(other)
        self._refuse("" in (one, other), errno.EBUSY, one)
        # Neither lies in the other, so the three moves disturb nothing.
        for old, new in ((one, "?"), (other, one), ("?", other)):
            self.trees = {_moved(path, old, new): tree for path, tree in self.trees.items()}

    def rename(self, old: str, new: str) -> None:
        self._change()
        self._refuse(old == "" or new in self.trees, errno.EBUSY, new)
        self._refuse(self._tree(old).read_only, errno.EROFS, old)
        self.trees = {_moved(path, old, new): tree for path, tree in self.trees.items()}

    def default_id(self) -> int:
        return self.default

    def set_default(self, subvolume_id: int) -> None:
        self._change()
        known = any(tree.id == subvolume_id for tree in self.trees.values())
        self._refuse(not known, errno.ENOENT, str(subvolume_id))
        self.default = subvolume_id

    def sync(self) -> None:
        self._change()
        self.synced = self.state()

    def make_room(self, model: str, tree: str, path: str) -> None:
        self._change()
        self._tree(model)
        found = self._writable(tree)
        files = {n: t for n, t in found.files.items() if n != path and not n.startswith(path + "/")}
        self.trees[tree] = found._replace(files=files, stubs=found.stubs - {path})
        parent, name = self._parent_of(f"{tree}/{path}".strip("/"))
        if parent != tree:
            below = self._writable(parent)
            self.trees[parent] = below._replace(stubs=below.stubs - {name})

    def remove(self, tree: str, path: str) -> None:
        self._change()
        found = self._writable(tree)
        files = {n: t for n, t in found.files.items() if n != path and not n.startswith(path + "/")}
        self.trees[tree] = found._replace(files=files)

    def end_unfinished(self, tree: str) -> None:
        for path in (*OFFLINE_UPDATE, STAGING):
            self.remove(tree, path)

    def make_directory(self, model: str, tree: str, path: str) -> None:
        if path not in self.trees[tree].files:
            self.make_room(model, tree, path)
            self.trees[tree].files[path] = "directory"

    def copy(self, source: str, tree: str, path: str) -> None:
        self.make_room(source, tree, path)
        found = self._tree(source).files
        wanted = {n: t for n, t in found.items() if n == path or n.startswith(path + "/")}
        self._writable(tree).files.update(wanted)

    def keep(self, source: str, tree: str, paths: Sequence[str]) -> None:
        for path in paths:
            self.copy(source, tree, path)

    def renew_swap(self, tree: str, path: str) -> None:
        self._change()
        self._writable(tree).files[path] = "swap"

    def read_file(self, tree: str, path: str) -> str:
        return self._tree(tree).files.get(path, "")

    def write_file(self, tree: str, path: str, text: str) -> None:
        self._change()
        self._writable(tree).files[path] = text

    def label_at_boot(self, tree: str) -> None:
        self._change()
        self._writable(tree).files[".autorelabel"] = ""

    def write_record(self, name: str, text: str) -> None:
        self._change()
        self.records[name] = text

    def remove_record(self, name: str) -> None:
        self._change()
        self.records.pop(name, None)

    def kernels(self, path: str) -> tuple[str, ...]:
        prefix = "usr/lib/modules/"
        files = (name for name in self._tree(path).files if name.startswith(prefix))
        return tuple(sorted({name[len(prefix) :].split("/")[0] for name in files}))

    def runs(self, path: str, kernel: str) -> bool:
        return (path, kernel) == self.running

    def put_file(self, source: str, destination: str) -> None:
        if destination not in self.boot:
            self._change()
            self.boot[destination] = source

    def remove_copy(self, source: str, destination: str) -> None:
        self._change()
        if self.boot.get(destination) == source:
            del self.boot[destination]

    def setting(self, file: str, key: str) -> Optional[str]:
        return self.settings.get((file, key))

    def write_setting(self, file: str, key: str, value: Optional[str]) -> None:
        self._change()
        self.settings[file, key] = value

    def _change(self) -> None:
        if self.changes_left <= 0:
            raise Cut
        self.changes_left -= 1

    def _tree(self, path: str) -> Tree:
        self._refuse(path not in self.trees, errno.ENOENT, path)
        return self.trees[path]

    def _writable(self, path: str) -> Tree:
        self._refuse(self._tree(path).read_only, errno.EROFS, path)
        return self.trees[path]

    def _nested(self, path: str) -> list[str]:
        return [p for p in self.trees if p != path and (not path or p.startswith(path + "/"))]

    def _parent_of(self, path: str) -> tuple[str, str]:
        """Return the subvolume that a path lies in, and the path from there."""
        around = [p for p in self.trees if p != path and (not p or path.startswith(p + "/"))]
        parent = max(around, key=len)
        return parent, path[len(parent) :].strip("/")

    @staticmethod
    def _refuse(condition: bool, number: int, path: str) -> None:
        if condition:
            raise KernelError("change", f"/{path}", OSError(number, ""))


def _moved(path: str, old: str, new: str) -> str:
    return new + path[len(old) :] if path == old or path.startswith(old + "/") else path
