# SPDX-License-Identifier: GPL-2.0-or-later
"""What snapshots hold that nothing else has, from the filesystem's own list of data.

The extent tree tells who references each piece of data. Data that the root or another subvolume
surely has is passed over at once. For the rest the kernel tells which subvolumes have it, so that
copies by reflink count too, wherever they are. Counted is data as it lies on the disk: compressed,
and one copy of it. Metadata is not, nor are the files of up to 2 KiB that lie in it.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Optional, TypeVar

from ...core.comparison.ancestry import parted
from ...core.comparison.inodes import EXTENT_DATA
from ...core.progress import Progress, untold
from ...core.snapshots.names import trial_name
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID, Snapshot, Subvolume
from ...core.space import extents
from ...core.space.held import Held
from ...errors import kernel_errors
from ..linux import syscalls, tree_search
from ..machine.host import Host
from .known import Holders, Known, Made

_ITEMS_A_LOOK = 1 << 12  # at the clock
_T = TypeVar("_T")


def held(
    host: Host,
    snapshots: Sequence[Snapshot],
    *,
    limit_s: Optional[float] = None,
    progress: Progress = untold,
) -> Optional[Held]:
    """Return what the snapshots hold; None where that takes longer than `limit_s`.

    `progress` is told which part of the places of data was looked at, in bytes.

    With a snapshot counts all that `fs-rollback delete` deletes with it: the subvolumes nested in
    it, and its copy for the boot menu. With a limit what is not on the disk yet does not count.
    Raises KernelError.
    """
    with kernel_errors("find out what snapshots hold on", host.mount.source):
        if limit_s is None:  # the extent tree lags behind until the next commit
            syscalls.sync_filesystem(host.top_fd)
        host.forget()
        by_id = {snapshot.id: snapshot for snapshot in snapshots if snapshot.exists}
        try:
            return _Reading(host, by_id, limit_s).held(progress)
        except TimeoutError:  # as promised
            return None


class _Reading:
    """One reading of a filesystem."""

    def __init__(self, host: Host, by_id: dict[int, Snapshot], limit_s: Optional[float]) -> None:
        self._host, self._fd = host, host.top_fd
        self._end = time.monotonic() + limit_s if limit_s is not None else None
        self._names = _names(host.subvolumes, by_id)
        roots = list(tree_search.subvolume_roots(self._fd))
        self._present = frozenset({root.id for root in roots} | {TOP_LEVEL_ID})
        self._others = self._present - self._names.keys()
        self._generation = syscalls.filesystem_generation(self._fd)
        top = next(s for s in host.subvolumes if s.id == TOP_LEVEL_ID)
        made = [Made(r.id, r.uuid.hex(), r.parent_uuid.hex()) for r in roots]
        made.append(Made(top.id, top.uuid, top.parent_uuid))
        self._known = Known(host.uuid, made)

    def held(self, progress: Progress) -> Held:
        """Raises OSError, TimeoutError where the time is up."""
        shares: defaultdict[frozenset[str], int] = defaultdict(int)
        relatives = self._relatives()
        passed = self._passed(progress)
        living = self._living(relatives, lambda _: passed(0))
        items = tree_search.extent_items(self._fd, self._oldest(relatives))
        timed = self._timed(items, lambda item: passed(item[0]))
        for extent in extents.data_extents(timed, self._others):
            if extent.place in living or not self._others.isdisjoint(extent.owners):
                continue
            found = self._known.holders(extent, self._ask)
            # One that is deleted, and not cleaned up yet, holds nothing for long.
            mine = found & self._present if found is not None else self._others
            if mine and mine <= self._names.keys():
                shares[frozenset(self._names[number] for number in mine)] += extent.size
        self._known.write(self._generation)
        return Held(dict(shares))

    def _ask(self, place: int) -> Holders:
        self._look_at_clock()
        found = tree_search.holders(self._fd, place)
        return frozenset(number for number, _ in found) if found is not None else None

    def _timed(self, items: Iterator[_T], looked: Callable[[_T], object]) -> Iterator[_T]:
        """Give the items, and look at the clock now and then; then `looked` gets one, too."""
        for number, item in enumerate(items):
            if not number % _ITEMS_A_LOOK:
                self._look_at_clock()
                looked(item)
            yield item

    def _passed(self, progress: Progress) -> Callable[[int], object]:
        """Return what tells how much of the places of data lies before one of them."""
        chunks = tree_search.data_chunks(self._fd)
        total = sum(length for _, length in chunks)

        def tell(place: int) -> None:
            progress(sum(min(max(place - start, 0), size) for start, size in chunks), total)

        return tell

    def _look_at_clock(self) -> None:
        if self._end is not None and time.monotonic() > self._end:
            raise TimeoutError

    def _relatives(self) -> list[Subvolume]:
        """Return what has its content from where the snapshots have theirs, and is none of them."""
        lines = _lines(self._host.subvolumes)
        ours = set[str]().union(*(lines[number] for number in self._names if number in lines))
        return [
            s
            for s in self._host.subvolumes
            if s.id in self._others and not ours.isdisjoint(lines[s.id])
        ]

    def _oldest(self, relatives: Sequence[Subvolume]) -> int:
        """Return a generation before which nothing happened to what only snapshots hold.

        What a snapshot has and one of its relatives has not, either has got or lost since they
        parted.
        """
        if not relatives:
            return 0
        root = self._host.root_id
        one = next((s for s in relatives if s.id == root), relatives[0])
        ours = (s for s in self._host.subvolumes if s.id in self._names)
        return min((parted(s, one, self._host.subvolumes) or 0 for s in ours), default=0)

    def _living(
        self, relatives: Sequence[Subvolume], looked: Callable[[object], object]
    ) -> set[int]:
        """Return the places of data that stays, where the extent tree does not say so.

        It does as far as a subvolume is the first owner of its tree: not where that began as a
        snapshot. And what lies in the store stays where the rest of the top level goes.
        """
        found: set[int] = set()
        for subvolume in relatives:
            if subvolume.parent_uuid.strip("0"):
                items = tree_search.tree_items(self._fd, 0, tree=subvolume.id)
                for _, kind, answer, at in self._timed(items, looked):
                    if kind == EXTENT_DATA:
                        found.add(extents.place_of(answer, at))
        if TOP_LEVEL_ID in self._names:
            reader = tree_search.InodeReader(self._fd)
            for number in _inodes_of_store(self._host):
                rows = reader.items(number, EXTENT_DATA, EXTENT_DATA)
                found.update(extents.place_of(data) for _, _, data in rows)
        return found


def _names(subvolumes: Sequence[Subvolume], by_id: dict[int, Snapshot]) -> dict[int, str]:
    """Return the name of the snapshot that each subvolume goes with."""
    places = {s.path: s.name for s in by_id.values() if not s.is_top_level}
    trials = (s for s in by_id.values() if not (s.is_replaced or s.is_top_level))
    places.update({f"{STORE}/{trial_name(s.name)}": s.name for s in trials})
    found = {s.id: s.name for s in by_id.values()}
    for subvolume in subvolumes:
        above = "/".join(subvolume.path.split("/")[:2])
        if above in places:
            found[subvolume.id] = places[above]
    return found


def _lines(subvolumes: Sequence[Subvolume]) -> dict[int, set[str]]:
    """Return the UUIDs that each subvolume's content was under."""
    by_uuid = {s.uuid: s for s in subvolumes}
    found = {}
    for subvolume in subvolumes:
        line, one = set[str](), subvolume
        while one.uuid not in line:
            line.add(one.uuid)
            if one.parent_uuid.strip("0"):
                line.add(one.parent_uuid)
            one = by_uuid.get(one.parent_uuid, one)
        found[subvolume.id] = line
    return found


def _inodes_of_store(host: Host) -> Iterator[int]:
    """Give the inodes of the files that lie in the store itself, in no subvolume."""
    for place, directories, names in os.walk(host.path(STORE)):
        directories[:] = [d for d in directories if os.lstat(f"{place}/{d}").st_ino != 256]
        for name in names:
            yield os.lstat(f"{place}/{name}").st_ino
