# SPDX-License-Identifier: GPL-2.0-or-later
"""What was changed in a subvolume since a generation (a transaction number of the filesystem).

Unlike times, generations follow no clock and cannot be set; unlike the extents that
btrfs-subvolume(8) find-new lists, they show deletions and changes of mode too.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import NamedTuple, Optional

from ...core.comparison import inodes
from ...core.formats.mountinfo import is_within
from ...errors import kernel_errors
from ..linux import files, tree_search
from .host import Host

_MOST_ITEMS = 64  # of an inode, for its names: more than any but a few files have
_LONGEST_PATH = 1 << 16  # in bytes: any user can make longer ones, and thousands of them


class Reads(NamedTuple):
    """How to recognize that something newer was only read, not changed.

    Its last change is before `before_s` (since 1970), and the subvolume at the path `copy`, which
    is a copy from before that, has the same. Either alone is not enough: a clock may have been set
    back, and a change may leave size and time as they were.
    """

    copy: str
    before_s: float


def is_touched(host: Host, subvolume: str, since: int, reads: Optional[Reads] = None) -> bool:
    """Whether anything in a subvolume (a path from the top level) is newer than `since`.

    What was only read counts too, where `reads` does not tell. Subvolumes nested in it do not
    count. What is not on the disk yet does not show. Raises KernelError.
    """
    return any(True for _ in _newer(host, subvolume, since, reads))


def is_changed(
    host: Host,
    subvolume: str,
    since: int,
    origins: Iterable[str],
    leave_out: Iterable[str] = (),
    made: Optional[tuple[float, float]] = None,
) -> bool:
    """Whether anything in a subvolume was changed after the generation `since`, whatever the clock.

    `origins` are the paths of what it is a copy of: an inode that has the same time of change in
    one of them was only read, and one that is alike there by all its names has nothing of its own.
    What lies in the paths of `leave_out` does not count, nor what was changed last between the two
    times `made` (seconds since 1970) and so was only read since. Raises KernelError.
    """
    left_out = tuple(leave_out)
    with ExitStack() as stack:
        tree = stack.enter_context(files.opened(host.path(subvolume)))
        copies = [stack.enter_context(files.opened(host.path(origin))) for origin in origins]
        stack.enter_context(kernel_errors("read the generations of", f"/{subvolume}"))
        paths = _Paths(tree)
        for inode, changed_s in tree_search.touched_inodes(tree, since):
            if made is not None and made[0] <= changed_s <= made[1]:
                continue
            if any(tree_search.inode_changed_s(copy, inode) == changed_s for copy in copies):
                continue
            places = paths.of(inode)
            if places is None:
                return True
            counted = [p for p in places if not any(is_within(p, out) for out in left_out)]
            if counted and not any(_are_alike(tree, copy, counted) for copy in copies):
                return True
    return False


def touched(
    host: Host, subvolume: str, since: int, paths: Iterable[str], reads: Optional[Reads] = None
) -> set[str]:
    """Return which of the `paths` (from the root of the subvolume) have anything newer in them.

    What was only read counts too, where `reads` does not tell. Where a file's many names cannot all
    be told, all paths count. Raises KernelError.
    """
    return _touched(_newer(host, subvolume, since, reads), paths, moved=False)


def touched_or_moved(
    host: Host, subvolume: str, since: int, paths: Iterable[str], reads: Reads
) -> set[str]:
    """Return the same, and the paths with anything newer above them.

    Another directory may have been moved there, or it has only got another entry. The root
    directory cannot have been moved.
    """
    return _touched(_newer(host, subvolume, since, reads), paths, moved=True)


def _touched(
    newer: Iterable[Optional[list[str]]], paths: Iterable[str], *, moved: bool
) -> set[str]:
    left, found = set(paths), set[str]()
    for places in newer:
        if places is None:
            return found | left
        hit = {path for path in left for place in places if _concerns(place, path, moved)}
        found |= hit
        left -= hit
        if not left:
            break
    return found


def _newer(
    host: Host, subvolume: str, since: int, reads: Optional[Reads]
) -> Iterator[Optional[list[str]]]:
    """Give the paths of each inode that is newer and was not only read; None if not all are known.

    The root directory is ".", which no other path lies in.
    """
    with ExitStack() as stack:
        tree = stack.enter_context(files.opened(host.path(subvolume)))
        copy = stack.enter_context(files.opened(host.path(reads.copy))) if reads else None
        stack.enter_context(kernel_errors("read the generations of", f"/{subvolume}"))
        paths = _Paths(tree)
        for inode, changed_s in tree_search.touched_inodes(tree, since):
            places = paths.of(inode)
            is_old = copy is not None and reads is not None and changed_s < reads.before_s
            if is_old and places is not None and _are_alike(tree, copy, places):
                continue
            yield places


class _Paths:
    """The paths of inodes in an open subvolume, longer ones than the kernel tells too."""

    def __init__(self, tree: int) -> None:
        self._tree = tree
        self._links: tree_search.Links = {}
        self._last = (0, "")  # what is changed often lies in one directory

    def of(self, number: int) -> Optional[list[str]]:
        """Return the paths of an inode; None where they are too many, or too long. Raises OSError.

        The root directory is ".", which no other path lies in.
        """
        if number == inodes.ROOT_INODE:
            return ["."]
        found = tree_search.inode_paths(self._tree, number)
        if found is not None:
            return found
        kinds = inodes.INODE_ITEM, inodes.INODE_EXTREF
        items = tree_search.InodeReader(self._tree).items(number, *kinds, _MOST_ITEMS)
        inode, paths = inodes.inode(number, items), list[str]()
        for directory, name in inode.names if inode else ():
            try:
                paths.append(os.path.join(self._directory(directory), os.fsdecode(name)))
            except OSError as error:
                if error.errno == errno.ENAMETOOLONG:  # as promised
                    return None
                if error.errno != errno.ENOENT:  # it was moved meanwhile
                    raise
        return paths if len(items) < _MOST_ITEMS else None

    def _directory(self, number: int) -> str:
        if self._last[0] != number:
            way = tree_search.directory_names(self._tree, 0, number, self._links, _LONGEST_PATH)
            self._last = number, "/".join(map(os.fsdecode, way))
        return self._last[1]


def _are_alike(tree: int, copy: Optional[int], places: Sequence[str]) -> bool:
    """Whether two trees have the same at each of some paths, as far as lstat(2) tells."""
    return copy is not None and all(
        _looks(files.status_of(tree, place, follow=False))
        == _looks(files.status_of(copy, place, follow=False))
        for place in places
    )


def _looks(status: Optional[os.stat_result]) -> object:
    if status is None:
        return None
    return (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns)


def _concerns(place: str, path: str, moved: bool) -> bool:
    return is_within(place, path) or (moved and is_within(path, place))
