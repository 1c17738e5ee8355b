# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies paths of a tree with all that is in them, as cp(1) would, but of any length.

In one thread: two would wait for each other, since what is made at one time lies in the same leaves
of the filesystem's tree. With two 10,000 small files took a third longer, and twice the processor.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from contextlib import suppress

from ...core.progress import Progress, untold
from ..linux import chattr
from ..linux.files import Way
from ..linux.syscalls import is_on_btrfs
from . import clones, flags

_LONGEST_PATH = 3900  # PATH_MAX less what stands before it; what lies deeper has no flags
Path = tuple[str, ...]


def copy_paths(
    tree: int, copy: int, wanted: Sequence[str], told: Progress = untold
) -> dict[str, int]:
    """Copy paths of an open tree, which nobody changes, to the same places in a directory.

    Hard links between them stay. A directory that another filesystem, or subvolume, is at stays
    empty. Directories above them are only root's. Returns flags.KEPT, which are not copied, of each
    path that has any. `told` is told how many files are copied. Raises OSError,
    ProcessError.
    """
    with Way(tree) as source, Way(copy) as place, Way(copy) as first:
        work = _Work(source, place, first)
        for path in wanted:
            work.begin(tuple(path.split("/")))
        work.copy_files(told)
        work.settle_directories(may_lack=not is_on_btrfs(copy))
        return work.flags


class _Work:
    """From where to where it is copied, and the way to first names of files, which others link."""

    def __init__(self, source: Way, place: Way, first: Way) -> None:
        self._source, self._place, self._first = source, place, first
        self._directories, self._left = list[Path](), list[Path]()
        self._done = self._total = 0
        self._first_names, self.flags = dict[int, Path](), dict[str, int]()

    def begin(self, path: Path) -> None:
        """Copy what is at a path but the files in it if it is a directory: those are left."""
        for depth in range(1, len(path)):
            with suppress(FileExistsError):  # two paths may have it above them
                self._make(path[:depth])
        source = self._source.opened(path[:-1])
        status = os.lstat(path[-1], dir_fd=source)
        if not stat.S_ISDIR(status.st_mode):
            self._copy_file(source, self._place.opened(path[:-1]), path[:-1], path[-1])
            return
        pending = [path]
        while pending:
            path = pending.pop()
            self._make(path)
            self._directories.append(path)
            source = self._source.opened(path)
            if os.fstat(source).st_dev == status.st_dev:
                self._left.append(path)
                self._note(path, chattr.inode_flags(source))
                with os.scandir(source) as found:
                    entries = list(found)
                    below = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
                self._total += len(entries) - len(below)
                pending += ((*path, name) for name in below)

    def _make(self, path: Path) -> None:
        os.mkdir(path[-1], 0o700, dir_fd=self._place.opened(path[:-1]))

    def copy_files(self, told: Progress) -> None:
        """Copy the files that are left."""
        for path in self._left:
            source, directory = self._source.opened(path), self._place.opened(path)
            with os.scandir(source) as found:
                names = [e.name for e in found if not e.is_dir(follow_symlinks=False)]
            for name in names:
                self._copy_file(source, directory, path, name)
                self._done += 1
                told(self._done, self._total)

    def _copy_file(self, source: int, directory: int, above: Path, name: str) -> None:
        status = os.lstat(name, dir_fd=source)
        if status.st_nlink > 1:
            first = self._first_names.setdefault(status.st_ino, (*above, name))
            if first != (*above, name):
                ends = {"src_dir_fd": self._first.opened(first[:-1]), "dst_dir_fd": directory}
                os.link(first[-1], name, **ends, follow_symlinks=False)
                return
        all_flags = clones.copy_file(source, directory, name, status)
        if all_flags:
            self._note((*above, name), all_flags)

    def settle_directories(self, *, may_lack: bool) -> None:
        """Give all directories their attributes, which what came into them has changed.

        With `may_lack` without what another filesystem than btrfs has not, as it is of files.
        """
        for path in reversed(self._directories):
            original, directory = self._source.opened(path), self._place.opened(path)
            status = os.fstat(original)
            clones.copy_attributes(original, directory, status, may_lack=may_lack)

    def _note(self, path: Path, all_flags: int) -> None:
        joined, kept = "/".join(path), all_flags & flags.KEPT
        if kept and len(os.fsencode(joined)) < _LONGEST_PATH:
            self.flags[joined] = kept
