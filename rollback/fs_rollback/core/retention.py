# SPDX-License-Identifier: GPL-2.0-or-later
"""Which snapshots stay and which may go: a pure function that says why."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from .snapshot import Roots, Snapshot


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
    if snapshot.id == roots.default:
        return "it is the default subvolume"
    if snapshot.pinned:
        return "it is pinned"
    if snapshot.id in roots.mounted:
        return "it is mounted"
    if snapshot.record is not None and not snapshot.record.writable:
        return "its record is of a newer version of this program"
    return ""


def retention(
    snapshots: Sequence[Snapshot], policy: Policy, roots: Roots, now: datetime
) -> tuple[Verdict, ...]:
    """Return the verdict on every snapshot, in the order given (oldest first).

    Replaced roots are judged by age alone; the others are kept if they are among the newest
    `keep_last` or younger than `keep_days`. The newest snapshot always stays.
    """
    ordinary = [s for s in snapshots if s.exists and not s.is_replaced]
    rank = {s.name: place for place, s in enumerate(reversed(ordinary), start=1)}
    return tuple(_judge(s, rank.get(s.name, 0), policy, roots, now) for s in snapshots)


def _judge(snapshot: Snapshot, rank: int, policy: Policy, roots: Roots, now: datetime) -> Verdict:
    keep = _reason_to_keep(snapshot, rank, policy, roots, now)
    if keep:
        return Verdict(snapshot, Action.KEEP, keep)
    if snapshot.gone:
        return Verdict(snapshot, Action.DELETE, "its subvolume is gone, only the record is left")
    days = (now - snapshot.created).days
    if snapshot.is_replaced:
        return Verdict(snapshot, Action.DELETE, f"a root replaced {days} days ago")
    return Verdict(snapshot, Action.DELETE, f"number {rank} from the newest, {days} days old")


def _reason_to_keep(
    snapshot: Snapshot, rank: int, policy: Policy, roots: Roots, now: datetime
) -> str:
    if snapshot.gone:
        return ""
    protected = protection(snapshot, roots)
    if protected:
        return protected
    if snapshot.incomplete:
        return f"it is incomplete ({snapshot.problem})"
    if snapshot.pending:
        return "its transaction has no known end"
    age = now - snapshot.created
    if snapshot.is_replaced:
        young = age < timedelta(days=policy.keep_replaced_days)
        return f"replaced less than {policy.keep_replaced_days} days ago" if young else ""
    if rank == 1:
        return "it is the newest"
    if rank <= policy.keep_last:
        return f"among the newest {policy.keep_last}"
    if age < timedelta(days=policy.keep_days):
        return f"younger than {policy.keep_days} days"
    return ""
