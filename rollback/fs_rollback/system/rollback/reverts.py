# SPDX-License-Identifier: GPL-2.0-or-later
"""What a rollback would revert: packages, and files that were changed since its target.

The present state of the running root is compared with the target.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import NamedTuple, Optional, TypeVar

from ...core.comparison.ancestry import parted
from ...core.comparison.files import FileChange
from ...core.comparison.places import place
from ...core.comparison.upkeep import is_generated, is_of_system
from ...core.formats.mountinfo import is_within_any
from ...core.packages.changes import between
from ...core.snapshots.age import last_before_set_aside
from ...core.snapshots.record import PackageChange
from ...core.snapshots.snapshot import STORE, Snapshot, Subvolume
from ...errors import kernel_errors
from ..comparison.roots import Comparison
from ..linux import chattr, files, syscalls, tree_search
from ..machine.host import Host
from .propose import Proposal

_Told = TypeVar("_Told")


class LostFile(NamedTuple):
    """What was changed since the target, and reverts; `status` is that of the file now, if any."""

    change: FileChange
    status: Optional[os.stat_result]


class Data(NamedTuple):
    """What reverts in one directory: how much there is now in how many files.

    `owner` is the package that the directory is of, "" for none. `written_s` is the time of the
    last write, in seconds since 1970; None where all were deleted. `option` is what keeps it.
    """

    path: str
    owner: str
    files: int
    size: int
    written_s: Optional[float]
    option: str


def packages(comparison: Comparison) -> tuple[PackageChange, ...]:
    """Return what a rollback does to the packages. Raises ProcessError."""
    then, now = comparison.installed
    return between(now, then)


def lost_files(host: Host, comparison: Comparison, proposal: Proposal) -> list[LostFile]:
    """Return the files that were changed since the target was in use, and revert, by their paths.

    Left out is what is kept or carried over, and what belongs to packages: those speak for it, and
    edits() for what somebody changed of it. Raises KernelError.
    """
    rows = (row for row in comparison.files if not _is_of_packages(row.path))
    return _lost(host, comparison, proposal, rows)


def _lost(
    host: Host, comparison: Comparison, proposal: Proposal, rows: Iterable[FileChange]
) -> list[LostFile]:
    """Return those of the changes that were made since the target was in use, and revert."""
    carried = ("/" + path for path in proposal.carried)
    stays = {*proposal.situation.keep, *carried, f"/{STORE}"}
    base = _base(host, proposal.target)
    with files.opened(host.path(base.path)) if base else nullcontext() as tree:
        since = _Since(host, comparison, proposal.target, tree)
        return list(_reverting(rows, since, stays))


def _reverting(
    rows: Iterable[FileChange], since: _Since, stays: Container[str]
) -> Iterator[LostFile]:
    for row in rows:
        # A directory that came or went is told of by what is in it.
        if row.kind == "directory" and row.action in ("added", "removed"):
            continue
        if row.what == (chattr.LABEL,) or is_within_any(row.path, stays):
            continue
        is_since, status = since.look(row)
        if is_since:
            yield LostFile(row, status)


def _is_of_packages(path: str) -> bool:
    return path.startswith("/usr/") and not path.startswith("/usr/local/")


class _Since:
    """Tells what was changed after the target was in use from what a rollback in between changed.

    By generations: an inode has that of its last change, and a directory that of its entries. What
    is as it was in `base` was not changed, even if it was read.
    """

    def __init__(
        self, host: Host, comparison: Comparison, target: Snapshot, base: Optional[int]
    ) -> None:
        self._now = comparison.sides[1].tree
        self._tree = _Statuses(self._now)
        self._base = None if base is None else _Statuses(base)
        self._end = _end_of_its_time(host, target)
        common = parted(comparison.old, comparison.new, host.subvolumes)
        # The root has come from what the target was at its end: then all is later.
        self._is_all = common is not None and common >= self._end

    @cached_property
    def _touched(self) -> frozenset[int]:
        with kernel_errors("read the generations of", "the root"):
            return frozenset(tree_search.touched_parents(self._now, self._end))

    def look(self, row: FileChange) -> tuple[bool, Optional[os.stat_result]]:
        """Return whether this was changed since then, and what is there now."""
        if row.action == "removed":
            return self._is_all or self._was_deleted(row.path), None
        status = self._tree.status(row.path)
        if status is None:  # deleted meanwhile
            return False, None
        return self._is_all or self._is_touched(row.path, status), status

    def _was_deleted(self, path: str) -> bool:
        if self._base is not None and self._base.status(path) is None:
            return False
        while path := path.rpartition("/")[0]:
            status = self._tree.status(path)
            if status is not None:
                return self._is_touched(path, status)
        return True

    def _is_touched(self, path: str, status: os.stat_result) -> bool:
        if status.st_ino not in self._touched:
            return False
        before = self._base.status(path) if self._base is not None else None
        # The time of change is set by no one.
        same = ("st_ino", "st_ctime_ns")
        return before is None or any(getattr(before, n) != getattr(status, n) for n in same)


def _base(host: Host, target: Snapshot) -> Optional[Subvolume]:
    """Return the latest snapshot that shows what the root was when the target's time ended."""
    end, subvolume = _end_of_its_time(host, target), host.root_subvolume
    while subvolume.parent_uuid.strip("0"):
        above = host.by_uuid(subvolume.parent_uuid)
        if above is None:
            return None
        if above.read_only and above.born <= end:
            return above
        subvolume = above
    return None


class _Statuses:
    """What lstat(2) and readlink(2) say in a tree, where no link on the way is followed."""

    def __init__(self, tree: int) -> None:
        self._tree = tree

    def status(self, path: str) -> Optional[os.stat_result]:
        """Return what lstat(2) says, None where nothing is."""
        return self._ask(path, lambda at, name: os.stat(name, dir_fd=at, follow_symlinks=False))

    def leads_to(self, path: str) -> str:
        """Return the absolute path that a link names, "" where no link is."""
        target = self._ask(path, lambda at, name: os.readlink(name, dir_fd=at))
        return os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else ""

    def _ask(self, path: str, ask: Callable[[int, str], _Told]) -> Optional[_Told]:
        directory, _, name = path.rpartition("/")
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            above = syscalls.open_in_root(self._tree, directory or ".", flags, follow=False)
        except OSError:
            return None  # it is there no more, or is something else now
        try:
            return ask(above, name or ".")
        except OSError:
            return None  # as above
        finally:
            os.close(above)


def _end_of_its_time(host: Host, target: Snapshot) -> int:
    """Return the generation after which the target was no longer what the machine used.

    A replaced root was used until it was set aside; the last subvolume made before that tells the
    generation of then, or an earlier one. Its own last generation does not: a later boot removes
    the files that were open and deleted in it, as it does in a read-only snapshot.
    """
    if target.subvolume is None:
        return 0
    last = None
    if target.is_replaced:
        last = last_before_set_aside(target.subvolume, host.subvolumes, host.root_id)
    return (last or target.subvolume).born


def edits(
    host: Host, comparison: Comparison, proposal: Proposal, lost: Iterable[LostFile]
) -> list[FileChange]:
    """Return what somebody changed in /etc, and of packages in /usr, by their paths.

    Not what packages or their scripts changed. Raises DatabaseError, KernelError.
    """
    rows = [file.change for file in lost if file.change.path.startswith("/etc/")]
    rows = [row for row in rows if not is_generated(row.path)]
    found = [row.change for row in comparison.owned(rows) if row.is_edited]
    in_etc = _without_links_to_new_files(comparison, found)
    return [*in_etc, *_edits_in_usr(host, comparison, proposal)]


def _edits_in_usr(host: Host, comparison: Comparison, proposal: Proposal) -> list[FileChange]:
    # What is new in /usr, and of no package, is what scripts of packages generate.
    rows = [
        row
        for row in comparison.files
        if _is_of_packages(row.path) and row.action != "added" and not is_generated(row.path)
    ]
    edited = [row.change for row in comparison.owned(rows) if row.package and row.is_edited]
    return [file.change for file in _lost(host, comparison, proposal, edited)] if edited else []


def _without_links_to_new_files(
    comparison: Comparison, rows: Sequence[FileChange]
) -> list[FileChange]:
    """Leave out the links to what a package brought, as those by which systemd enables a unit."""
    then, now = comparison.sides
    tree = _Statuses(now.tree)
    links = {row.path: tree.leads_to(row.path) for row in rows if row.kind == "link"}
    was, owners = (side.packages.owners(links.values()) for side in (then, now))
    brought = {path for path, place in links.items() if place in owners.keys() - was.keys()}
    return [row for row in rows if row.path not in brought]


def data(comparison: Comparison, lost: Iterable[LostFile]) -> list[Data]:
    """Return what reverts of services and people, the largest first; not what is in /etc.

    Raises DatabaseError.
    """
    places: defaultdict[str, list[LostFile]] = defaultdict(list)
    for file in lost:
        path = file.change.path
        if not path.startswith("/etc/") and not is_of_system(path):
            places[place(path)].append(file)
    owners = comparison.sides[1].packages.owners(places)
    found = []
    for where, inside in places.items():
        present = [s for s in (file.status for file in inside) if s and stat.S_ISREG(s.st_mode)]
        size = sum(status.st_size for status in present)
        written_s = max((status.st_mtime for status in present), default=None)
        owner = owners[where].package.name if where in owners else ""
        # What packages own, as all of /usr, cannot be kept: kept_paths.py.
        option = "" if where.startswith("/usr/") else f"--keep {shlex.quote(where)}"
        found.append(Data(where, owner, len(inside), size, written_s, option))
    return sorted(found, key=lambda one: (-one.size, one.path))
