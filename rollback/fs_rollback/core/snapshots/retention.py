# SPDX-License-Identifier: GPL-2.0-or-later
"""Which snapshots stay and which may go: a pure function that says why."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from .age import Age, ages
from .snapshot import Roots, Snapshot

IS_MOUNTED = "it is mounted"  # where, the caller may know


class Action(enum.Enum):
    """The two verdicts."""

    KEEP = "keep"
    DELETE = "delete"


class Policy(NamedTuple):
    """The newest `keep_last`, those younger than `keep_days`; replaced roots on their own."""

    keep_last: int
    keep_days: int
    keep_replaced_days: int


class Verdict(NamedTuple):
    """What retention decided for one snapshot, and the reason in words."""

    snapshot: Snapshot
    action: Action
    reason: str


def protection(snapshot: Snapshot, roots: Roots) -> str:
    """Return why nobody may delete the snapshot now, "" if one may."""
    if snapshot.gone:
        return ""
    if snapshot.id == roots.running:
        return "it is the running root"
    if snapshot.id == roots.next:
        return "it is the root of the next boot"
    if snapshot.id in roots.named:
        return "a boot entry, the command line or /etc/fstab names it as the root"
    if snapshot.id == roots.default:
        return "it is the default subvolume"
    if snapshot.id == roots.waiting:
        return "the undo of a rollback that waits would go back to it"
    if snapshot.pinned:
        return "it is pinned"
    if snapshot.id in roots.mounted:
        return IS_MOUNTED
    if snapshot.record is not None and not snapshot.record.writable:
        return "its record is of a newer version of this program"
    return ""


def retention(
    snapshots: Sequence[Snapshot], policy: Policy, roots: Roots, now: datetime
) -> tuple[Verdict, ...]:
    """Return the verdict on every snapshot, in the order given (oldest first).

    Replaced roots, and what was taken in a trial, are judged by age alone; the others are kept if
    they are among the newest `keep_last` or younger than `keep_days`. The newest of these always
    stays. Nothing goes by its age that is old only if the clock was never set (age.py).
    """
    ordinary = [s for s in snapshots if s.exists and not (s.is_replaced or s.of_trial)]
    rank = {s.name: place for place, s in enumerate(reversed(ordinary), start=1)}
    return tuple(
        _judge(s, rank.get(s.name, 0), age, policy, roots)
        for s, age in zip(snapshots, ages(snapshots, now))
    )


def _judge(snapshot: Snapshot, rank: int, age: Age, policy: Policy, roots: Roots) -> Verdict:
    keep = _reason_to_keep(snapshot, rank, age, policy, roots)
    if keep:
        return Verdict(snapshot, Action.KEEP, keep)
    if snapshot.gone:
        return Verdict(snapshot, Action.DELETE, "its subvolume is gone, only the record is left")
    if snapshot.is_replaced:
        return Verdict(snapshot, Action.DELETE, f"a root replaced {age.total.days} days ago")
    if snapshot.of_trial:
        return Verdict(snapshot, Action.DELETE, f"taken in a trial {age.total.days} days ago")
    reason = f"number {rank} from the newest, {age.total.days} days old"
    return Verdict(snapshot, Action.DELETE, reason)


def _reason_to_keep(snapshot: Snapshot, rank: int, age: Age, policy: Policy, roots: Roots) -> str:
    if snapshot.gone:
        return ""
    protected = protection(snapshot, roots)
    if protected:
        return protected
    if snapshot.incomplete:
        return f"it is incomplete ({snapshot.problem})"
    if snapshot.pending:
        return "its transaction has no known end"
    if snapshot.is_replaced:
        young = f"replaced less than {policy.keep_replaced_days} days ago"
        return _reason_of_age(age, policy.keep_replaced_days, young)
    source = snapshot.record.source.id if snapshot.of_trial and snapshot.record else 0
    if source and source in {roots.running, *roots.mounted}:
        return "the trial that it was taken in runs"
    if rank == 1:
        return "it is the newest"
    if rank and rank <= policy.keep_last:
        return f"among the newest {policy.keep_last}"
    return _reason_of_age(age, policy.keep_days, f"younger than {policy.keep_days} days")


def _reason_of_age(age: Age, days: int, young: str) -> str:
    """Return why a snapshot has not reached an age beyond doubt, "" if it has."""
    limit = timedelta(days=days)
    if age.has_reached(limit):
        return ""
    if age.total >= limit:
        return (
            f"that it is {days} days old is only what the clock says: in {age.longest.days} of its"
            f" {age.total.days} days no snapshot was taken, so the clock may have been set forward"
        )
    if age.doubt:
        return f"its date {age.doubt}, and no later snapshot shows that it is {days} days old"
    return young
