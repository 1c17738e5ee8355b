# SPDX-License-Identifier: GPL-2.0-or-later
"""The order in which snapshots were made, and how old they are by it.

A clock may be wrong, and be set. The order of subvolume IDs does not depend on the clock: a date is
believed only if it fits the dates before and after it, and a long time without any snapshot may
only mean that the clock was set.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple, Optional

from .names import REPLACED_PREFIX, SHELL_PREFIX, SNAPSHOT_PREFIX, TRIAL_PREFIX
from .snapshot import STORE, Snapshot, Subvolume


class Age(NamedTuple):
    """How old a snapshot is: `total` by the dates that are believed, its own or a later one.

    `longest` is the longest time since without a snapshot. `doubt` is why its own date is not
    believed, "" if it is.
    """

    total: timedelta
    longest: timedelta
    doubt: str = ""

    def has_reached(self, limit: timedelta) -> bool:
        """Whether the snapshot is that old, and not only by one reading of the clock.

        The longest time without a snapshot does not count if it is more than half of the limit plus
        a day. So a clock that was set forward makes nothing old at once; a machine that is rarely
        updated needs one more transaction.
        """
        counts = self.longest <= min(limit / 2 + timedelta(days=1), limit)
        return self.total - (timedelta() if counts else self.longest) >= limit


def ages(snapshots: Sequence[Snapshot], now: datetime) -> list[Age]:
    """Return the age of each snapshot; they are in the order in which they were made.

    A snapshot whose date does not fit gets the age of the next one whose date does, or 0 without
    one: never more than its true age, and it grows from then on.
    """
    believed = _in_order(snapshots, now)
    found: list[Age] = []
    following, longest = now, timedelta()
    for place in range(len(snapshots) - 1, -1, -1):
        snapshot = snapshots[place]
        doubt = ""
        if place in believed:
            longest = max(longest, following - snapshot.created)
            following = snapshot.created
        elif not snapshot.gone:
            is_ahead = snapshot.created > now
            doubt = "is in the future" if is_ahead else "does not fit the order of snapshots"
        found.append(Age(now - following, longest, doubt))
    return found[::-1]


def _in_order(snapshots: Sequence[Snapshot], now: datetime) -> set[int]:
    """Return the places of the most snapshots whose dates are in order, none later than `now`."""
    # Patience sorting from the newest on. Of rows of one length the latest dates win: younger is
    # the safe mistake. A record without its subvolume has no place in the order.
    ends: list[timedelta] = []  # how long before now the oldest of a row of each length is
    places: list[int] = []
    before: dict[int, Optional[int]] = {}
    for place in range(len(snapshots) - 1, -1, -1):
        past = now - snapshots[place].created
        if snapshots[place].gone or past < timedelta():
            continue
        length = bisect.bisect_right(ends, past)
        before[place] = places[length - 1] if length else None
        ends[length : length + 1] = [past]
        places[length : length + 1] = [place]
    believed = set()
    at = places[-1] if places else None
    while at is not None:
        believed.add(at)
        at = before[at]
    return believed


def last_before_set_aside(
    root: Subvolume, subvolumes: Sequence[Subvolume], root_id: int
) -> Optional[Subvolume]:
    """Return the last subvolume known to be made while an old root was still the root.

    That is the root that replaced it, or a snapshot that was taken of it later; None while it runs
    and waits for the reboot. `root_id` is the present root.
    """
    roots = (s for s in subvolumes if s.id == root_id or _is_in_store(s, REPLACED_PREFIX))
    successor = min((s for s in roots if s.id > root.id), key=_id, default=None)
    if successor is None:
        return None
    taken = (s for s in subvolumes if s.parent_uuid == root.uuid)
    return max([successor, *(s for s in taken if _is_in_store(s, SNAPSHOT_PREFIX))], key=_id)


def _replaced_by(snapshot: Snapshot, subvolumes: Sequence[Subvolume]) -> Optional[Subvolume]:
    """Return the new root for which a rollback set an old root aside: a copy of its target.

    None where the target is not known, or is gone.
    """
    by = snapshot.record.replaced_by if snapshot.record else None
    if by is None:
        return None
    path = f"{STORE}/{by.name}"
    target = next((s for s in subvolumes if s.path == path and by.id in (None, s.id)), None)
    if target is None:
        return None
    copies = (s for s in subvolumes if s.parent_uuid == target.uuid and s.id > snapshot.id)
    others = (SHELL_PREFIX, TRIAL_PREFIX)
    roots = (s for s in copies if not (s.read_only or any(_is_in_store(s, o) for o in others)))
    return min(roots, key=_id, default=None)


def _id(subvolume: Subvolume) -> int:
    return subvolume.id


def _is_in_store(subvolume: Subvolume, prefix: str) -> bool:
    start = f"{STORE}/{prefix}"
    return subvolume.path.startswith(start) and "/" not in subvolume.path[len(start) :]


def in_order(
    snapshots: Sequence[Snapshot], subvolumes: Sequence[Subvolume], root_id: int
) -> list[Snapshot]:
    """Return the snapshots in the order in which they were taken or set aside, oldest first.

    By ID: a subvolume's time has whole seconds, and a clock can be wrong. A replaced root, whose ID
    is older than it is as a snapshot, stands where the rollback made the root that replaced it;
    where that is not known, after what was taken of it. Only a record whose subvolume is gone
    stands where its date puts it.
    """
    last = max((s.id for s in subvolumes), default=0)

    def place(snapshot: Snapshot) -> tuple[int, int]:
        if snapshot.subvolume is None or not snapshot.is_replaced:
            return snapshot.id, 0
        found = _replaced_by(snapshot, subvolumes) or last_before_set_aside(
            snapshot.subvolume, subvolumes, root_id
        )
        return (found.id if found else last), snapshot.id

    ordered = sorted((s for s in snapshots if s.exists), key=place)
    for gone in sorted((s for s in snapshots if s.gone), key=lambda s: (s.created, s.name)):
        at = next((i for i, s in enumerate(ordered) if s.created > gone.created), len(ordered))
        ordered.insert(at, gone)
    return ordered
