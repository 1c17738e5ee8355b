# SPDX-License-Identifier: GPL-2.0-or-later
"""Copies paths of a snapshot with all that is in them, as cp(1) would, in two threads.

Most of the time is the kernel's, and for a small file cp makes twice the calls that are needed.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from contextlib import nullcontext, suppress

from ...core.progress import Progress, untold
from ..execute import clones
from ..execute.executor import signals_held_back
from ..linux import btrfs
from ..linux.files import opened_down

_LONGEST_PATH = 3900  # PATH_MAX less what stands before it; what lies deeper has no flags
_LOOK_S = 0.1
Path = tuple[str, ...]


def copy_paths(
    tree: int, copy: int, wanted: Sequence[str], told: Progress = untold
) -> dict[str, int]:
    """Copy paths of an open tree, which nobody changes, to the same places in a directory.

    Hard links between them stay. A directory that another filesystem, or subvolume, is at stays
    empty. Directories above them are only root's. Returns the flags of chattr(1), which are not
    copied, of each path that has any. `told` is told how many files are copied. Raises OSError,
    ProcessError.
    """
    work = _Work(tree, copy)
    for path in wanted:
        work.begin(tuple(path.split("/")))
    other = threading.Thread(target=work.help)
    other.start()
    try:
        work.copy_files(told)
        while other.is_alive():
            other.join(_LOOK_S)
            told(work.done, work.total)
    except BaseException:  # a signal, say: what is copied is of no use
        work.end.set()
        other.join()
        raise
    if work.failures:
        raise work.failures[0]
    work.settle_directories()
    return work.flags


class _Work:
    def __init__(self, tree: int, copy: int) -> None:
        self._tree, self._copy = tree, copy
        self._directories, self._left = list[Path](), list[Path]()
        self.done = self.total = 0
        self._first_names, self._linking = dict[int, Path](), threading.Lock()
        self.flags, self.failures = dict[str, int](), list[BaseException]()
        self.end = threading.Event()

    def begin(self, path: Path) -> None:
        """Copy what is at a path but the files in it if it is a directory: those are left."""
        for depth in range(1, len(path)):
            with opened_down(self._copy, path[: depth - 1]) as above, suppress(FileExistsError):
                os.mkdir(path[depth - 1], 0o700, dir_fd=above)  # two paths may have it above them
        with opened_down(self._tree, path[:-1]) as source:
            status = os.lstat(path[-1], dir_fd=source)
            if not stat.S_ISDIR(status.st_mode):
                with opened_down(self._copy, path[:-1]) as directory:
                    self._copy_file(source, directory, path)
                return
        pending = [path]
        while pending:
            path = pending.pop()
            with opened_down(self._copy, path[:-1]) as above:
                os.mkdir(path[-1], 0o700, dir_fd=above)
            self._directories.append(path)
            with opened_down(self._tree, path) as source:
                if os.fstat(source).st_dev == status.st_dev:
                    self._left.append(path)
                    self._note(path, btrfs.inode_flags(source))
                    with os.scandir(source) as found:
                        entries = list(found)
                        below = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
                    self.total += len(entries) - len(below)
                    pending += ((*path, name) for name in below)

    def copy_files(self, told: Progress) -> None:
        """Copy the files that are left, together with whoever else does."""
        while self._left and not self.end.is_set():
            try:
                path = self._left.pop()
            except IndexError:  # the other was faster
                return
            with (
                opened_down(self._tree, path) as source,
                opened_down(self._copy, path) as directory,
            ):
                with os.scandir(source) as found:
                    names = [e.name for e in found if not e.is_dir(follow_symlinks=False)]
                for name in names:
                    if self.end.is_set():
                        return
                    self._copy_file(source, directory, (*path, name))
                    self.done += 1  # one is missed if the other thread does this now: no matter
                    told(self.done, self.total)

    def help(self) -> None:
        """Do the same in a thread of its own, to which no signal comes."""
        try:
            with signals_held_back():
                self.copy_files(untold)
        except BaseException as error:  # noqa: BLE001 - raised by copy_paths
            self.failures.append(error)
            self.end.set()

    def _copy_file(self, source: int, directory: int, path: Path) -> None:
        status, name = os.lstat(path[-1], dir_fd=source), path[-1]
        has_more = status.st_nlink > 1
        with self._linking if has_more else nullcontext():
            first = self._first_names.setdefault(status.st_ino, path) if has_more else path
            if first != path:
                with opened_down(self._copy, first[:-1]) as there:
                    ends = {"src_dir_fd": there, "dst_dir_fd": directory}
                    os.link(first[-1], name, **ends, follow_symlinks=False)
                    return
            self._note(path, clones.copy_file(source, directory, name, status))

    def settle_directories(self) -> None:
        """Give all directories their attributes, which what came into them has changed."""
        for path in reversed(self._directories):
            with (
                opened_down(self._tree, path) as original,
                opened_down(self._copy, path) as directory,
            ):
                clones.copy_attributes(original, directory, os.fstat(original))

    def _note(self, path: Path, flags: int) -> None:
        joined = "/".join(path)
        if flags and len(os.fsencode(joined)) < _LONGEST_PATH:
            self.flags[joined] = flags
