# SPDX-License-Identifier: GPL-2.0-or-later
"""What was changed in a subvolume since a generation (a transaction number of the filesystem).

Unlike times, generations follow no clock and cannot be set; unlike the extents that
btrfs-subvolume(8) find-new lists, they show deletions and changes of mode too.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from ..core.mountinfo import is_within
from ..errors import kernel_errors
from . import files, tree_search
from .host import Host

_ROOT_INODE = 256  # BTRFS_FIRST_FREE_OBJECTID, linux/btrfs_tree.h: the subvolume's own directory


def is_touched(host: Host, subvolume: str, since: int, *, changed_after_s: float = -1e18) -> bool:
    """Whether anything in a subvolume (a path from the top level) is newer than `since`.

    `changed_after_s` as below. Subvolumes nested in it do not count. What is not on the disk yet
    does not show. Raises KernelError.
    """
    with (
        files.opened(host.path(subvolume)) as tree,
        kernel_errors("read the generations of", f"/{subvolume}"),
    ):
        return any(
            changed >= changed_after_s for _, changed in tree_search.touched_inodes(tree, since)
        )


def is_changed(
    host: Host, subvolume: str, since: int, origin: str | None, leave_out: Iterable[str]
) -> bool:
    """Whether anything in a subvolume was changed after the generation `since`, whatever the clock.

    `origin` is the path of the snapshot that it is a copy of, None for none: an inode with the
    same time of change there was only read. What lies in the paths of `leave_out` does not count,
    nor does the root directory. Raises KernelError.
    """
    places = tuple(leave_out)
    with ExitStack() as stack:
        tree = stack.enter_context(files.opened(host.path(subvolume)))
        before = stack.enter_context(files.opened(host.path(origin))) if origin else None
        stack.enter_context(kernel_errors("read the generations of", f"/{subvolume}"))
        for inode, changed_s in tree_search.touched_inodes(tree, since):
            if inode == _ROOT_INODE:
                continue
            if before is not None and tree_search.inode_changed_s(before, inode) == changed_s:
                continue
            paths = tree_search.inode_paths(tree, inode)
            if paths is None or not all(any(is_within(p, q) for q in places) for p in paths):
                return True
    return False


def touched(
    host: Host, subvolume: str, since: int, paths: Iterable[str], *, changed_after_s: float = -1e18
) -> set[str]:
    """Return which of the `paths` (from the root of the subvolume) have anything newer in them.

    What was only read counts too; `changed_after_s` (since 1970) leaves out what was not changed
    after that moment: for clocks that went back meanwhile it has to lie well before the generation.
    Where a file's many names cannot all be told, all paths count. Raises KernelError.
    """
    return _touched(host, subvolume, since, paths, changed_after_s, moved=False)


def touched_or_moved(
    host: Host, subvolume: str, since: int, paths: Iterable[str], *, changed_after_s: float
) -> set[str]:
    """Return the same, and the paths with anything newer above them.

    Another directory may have been moved there, or it has only got another entry. The root
    directory cannot have been moved.
    """
    return _touched(host, subvolume, since, paths, changed_after_s, moved=True)


def _touched(
    host: Host,
    subvolume: str,
    since: int,
    paths: Iterable[str],
    changed_after_s: float,
    *,
    moved: bool,
) -> set[str]:
    left, found = set(paths), set[str]()
    with (
        files.opened(host.path(subvolume)) as tree,
        kernel_errors("read the generations of", f"/{subvolume}"),
    ):
        for inode, changed_s in tree_search.touched_inodes(tree, since):
            if not left:
                break
            if inode == _ROOT_INODE or changed_s < changed_after_s:
                continue
            places = tree_search.inode_paths(tree, inode)
            if places is None:
                return found | left
            hit = {path for path in left for place in places if _concerns(place, path, moved)}
            found |= hit
            left -= hit
    return found


def _concerns(place: str, path: str, moved: bool) -> bool:
    return is_within(place, path) or (moved and is_within(path, place))
