# SPDX-License-Identifier: GPL-2.0-or-later
"""The files that differ between two subvolumes, read from the filesystem's own trees."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack
from typing import Optional

from ...core.comparison import inodes
from ...core.comparison.ancestry import parted
from ...core.comparison.files import FileChange, file_changes
from ...core.comparison.inodes import Inode
from ...core.formats.mountinfo import is_within
from ...core.progress import Progress, untold
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID, Subvolume
from ...errors import kernel_errors
from ..linux import files, tree_search
from ..machine.host import Host
from .touched import touched

_PIECE_BYTES = 1 << 20
_FEW = 16  # items: more than most files have


class SubvolumeTree:
    """A subvolume that is compared: core.comparison.files.Tree, and that of mirror.py."""

    def __init__(self, descriptor: int) -> None:
        self._reader = tree_search.InodeReader(descriptor)
        self._inodes: dict[int, Optional[Inode]] = {}
        self._later: Optional[SubvolumeTree] = None
        self._touched: Collection[int] = ()

    def inode(self, number: int) -> Optional[Inode]:
        """Return an inode, as the protocol has it."""
        try:
            return self._inodes[number]
        except KeyError:  # it is read now
            found = self._inodes[number] = self._shared(number) or self._read(number)
            return found

    def share(self, later: SubvolumeTree, touched: Collection[int]) -> None:
        """Share what was read with `later`, which differs only in the inodes `touched`."""
        self._later, self._touched = later, touched

    def _shared(self, number: int) -> Optional[Inode]:
        if self._later is None or number in self._touched:
            return None
        return self._later.inode(number)

    def read_runs(self, numbers: Iterable[int]) -> None:
        """Read the inodes with these numbers, each row of successive ones in one search.

        What a package brings was made one after another.
        """
        for first, last in _runs(numbers):
            if last > first:
                self._inodes.update(dict.fromkeys(range(first, last + 1)))
                for number, rows in self._reader.of_all(first, last):
                    self._inodes[number] = _named(inodes.inode(number, rows))

    def _read(self, number: int) -> Optional[Inode]:
        read = self._reader.items
        items = read(number, inodes.INODE_ITEM, inodes.EXTENT_DATA, _FEW)
        inode = inodes.inode(number, items)
        # Not all of them? A directory's entries, which come last, are not wanted here.
        is_file = inode is not None and not inode.is_directory
        last = inodes.EXTENT_DATA if is_file else inodes.XATTR_ITEM
        if len(items) >= _FEW and items[-1][0] <= last:
            inode = inodes.inode(number, read(number, inodes.INODE_ITEM, last))
        return _named(inode)

    def listing(self, number: int) -> Iterable[bytes]:
        """Return what lies in a directory, as the protocol has it."""
        kinds = inodes.DIR_INDEX, inodes.DIR_INDEX
        return [data for _, _, data in self._reader.items(number, *kinds)]


def _named(inode: Optional[Inode]) -> Optional[Inode]:
    """Return an inode if it has a name, or needs none: one without is deleted, and open still."""
    has_name = inode is not None and (inode.names or inode.number == inodes.ROOT_INODE)
    return inode if has_name else None


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Give the first and last of each row of successive numbers."""
    ordered = sorted(numbers)
    starts = [0, *(n for n in range(1, len(ordered)) if ordered[n] != ordered[n - 1] + 1)]
    for start, end in zip(starts, [*starts[1:], len(ordered)]):
        if ordered:
            yield ordered[start], ordered[end - 1]


def changed_files(
    host: Host, old: Subvolume, new: Subvolume, progress: Progress = untold
) -> Iterator[FileChange]:
    """Yield the differences between two subvolumes, in the order of their paths.

    Nested subvolumes and the store are not compared. Changes that are not on the disk yet are not
    seen. Raises KernelError.
    """
    if old.id == new.id:
        return
    with ExitStack() as stack:
        trees = [stack.enter_context(files.opened(host.path(s.path))) for s in (old, new)]
        stack.enter_context(kernel_errors("compare", f"/{old.path} and /{new.path}"))
        since = parted(old, new, host.subvolumes)
        in_old, in_new = (
            touched(host, subvolume, tree, since or 0) for subvolume, tree in zip((old, new), trees)
        )
        numbers = in_old.keys() | in_new.keys()

        def same_content(before: Inode, source: str, after: Inode, path: str) -> bool:
            pieces = inodes.differing(before, after)
            return _is_same(trees[0], source, trees[1], path, pieces)

        first, second = sides = SubvolumeTree(trees[0]), SubvolumeTree(trees[1])
        for side in sides:
            side.read_runs(numbers)
        if not in_old:  # as a snapshot that nobody has written to
            first.share(second, numbers)
        elif not in_new:
            second.share(first, numbers)
        changes = file_changes(first, second, (in_old, in_new), since, same_content, progress)
        if TOP_LEVEL_ID in (old.id, new.id):  # the store lies in that root, and is no part of it
            changes = (found for found in changes if not is_within(found.path, f"/{STORE}"))
        yield from changes


def _is_same(old: int, source: str, new: int, path: str, pieces: list[tuple[int, int]]) -> bool:
    with files.regular_file(old, source) as first, files.regular_file(new, path) as second:
        if first is None or second is None:
            return False
        for start, end in pieces:
            for place in range(start, end, _PIECE_BYTES):
                length = min(end - place, _PIECE_BYTES)
                if os.pread(first, length, place) != os.pread(second, length, place):
                    return False
    return True
