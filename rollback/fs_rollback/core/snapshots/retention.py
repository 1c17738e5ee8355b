# SPDX-License-Identifier: GPL-2.0-or-later
"""Which snapshots stay and which may go: a pure function that says why."""

from __future__ import annotations

import enum
from collections.abc import Container, Sequence
from datetime import datetime, timedelta
from typing import Callable, NamedTuple, Optional

from .age import Age, ages
from .record import Kind
from .snapshot import Roots, Snapshot
from .space import Amount

IS_MOUNTED = "it is mounted"  # where, the caller may know


class Action(enum.Enum):
    """The two verdicts."""

    KEEP = "keep"
    DELETE = "delete"


class Policy(NamedTuple):
    """What is kept; the fields are keys of the configuration, and explained in its manual page."""

    keep_last: int
    keep_days: int
    keep_replaced_days: int
    keep_important: int = 0
    important_packages: tuple[str, ...] = ()
    min_free: Amount = Amount()


class Verdict(NamedTuple):
    """What retention decided for one snapshot, and the reason in words.

    `may_yield`: only a count or an age keeps it, which `min_free` overrides.
    """

    snapshot: Snapshot
    action: Action
    reason: str
    may_yield: bool = False


class _Places(NamedTuple):
    """Where a snapshot stands, counted from the newest, 0 where it does not count.

    `among` is in words what was counted for `rank`. `package` is what makes it important.
    """

    rank: int = 0
    among: str = ""
    important: int = 0
    package: str = ""
    is_newest_pre: bool = False


def _not_important(_: Snapshot) -> str:
    return ""


def protection(snapshot: Snapshot, roots: Roots) -> str:
    """Return why the snapshot must not be deleted now, "" if it may be."""
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
        return "undoing the waiting rollback would go back to it"
    if snapshot.id == roots.way_back:
        return "a guarded boot goes back to it if it fails"
    if snapshot.pinned:
        return "it is pinned"
    if snapshot.id in roots.mounted:
        return IS_MOUNTED
    if snapshot.record is not None and not snapshot.record.writable:
        return "a newer version of this program wrote its record"
    return ""


def retention(
    snapshots: Sequence[Snapshot],
    policy: Policy,
    roots: Roots,
    now: datetime,
    important: Callable[[Snapshot], str] = _not_important,
) -> tuple[Verdict, ...]:
    """Return the verdict on every snapshot, in the order given (oldest first).

    Replaced roots, and what was taken in a trial, are judged by age alone; the others are kept if
    they are among the newest `keep_last` or younger than `keep_days`, where those that somebody
    took by hand are counted by themselves; or among the newest `keep_important` before or after a
    transaction that changed what `important` returns. The newest by hand, and the newest of the
    others, always stay. An age that may come only from setting the clock deletes nothing (age.py).
    """
    places = _counted(snapshots, policy, important)
    return tuple(
        _judge(s, places.get(s.name, _Places()), age, policy, roots)
        for s, age in zip(snapshots, ages(snapshots, now))
    )


def _counted(
    snapshots: Sequence[Snapshot], policy: Policy, important: Callable[[Snapshot], str]
) -> dict[str, _Places]:
    """Return where those stand that count, by name."""
    ordinary = [s for s in snapshots if s.exists and not (s.is_replaced or s.of_trial)]
    newest_pre = next((s.name for s in reversed(ordinary) if s.kind is Kind.PRE), "")
    found = {}
    counts = {"newest": 0, "newest manual": 0}
    important_count: dict[Optional[Kind], int] = {}
    for snapshot in reversed(ordinary):
        kind = snapshot.kind
        among = "newest manual" if kind is Kind.MANUAL else "newest"
        counts[among] += 1
        rank, package = 0, ""
        if important_count.get(kind, 0) < policy.keep_important:  # the others are not looked at
            package = important(snapshot)
        if package:
            rank = important_count[kind] = important_count.get(kind, 0) + 1
        is_pre = snapshot.name == newest_pre
        found[snapshot.name] = _Places(counts[among], among, rank, package, is_pre)
    return found


def _judge(snapshot: Snapshot, places: _Places, age: Age, policy: Policy, roots: Roots) -> Verdict:
    if snapshot.gone:
        return Verdict(snapshot, Action.DELETE, "its subvolume is gone, only the record is left")
    never = _reason_never_to_delete(snapshot, places, roots)
    if never:
        return Verdict(snapshot, Action.KEEP, never)
    days = age.total.days
    if snapshot.is_replaced:
        # `min_free` leaves it: what was written to it last is nowhere else.
        reason = (
            f"a root replaced {days} days ago (keep_replaced_days = {policy.keep_replaced_days})"
        )
        keep = _reason_of_age(age, policy.keep_replaced_days, reason)
        return Verdict(snapshot, Action.KEEP if keep else Action.DELETE, keep or reason)
    keep = _reason_to_keep(places, age, policy)
    if keep:
        return Verdict(snapshot, Action.KEEP, keep, may_yield=not places.is_newest_pre)
    if snapshot.of_trial:
        return Verdict(snapshot, Action.DELETE, f"taken in a trial {days} days ago")
    return Verdict(snapshot, Action.DELETE, f"{_rank(places, policy)}, {days} days old")


def _rank(places: _Places, policy: Policy) -> str:
    return f"{ordinal(places.rank)} {places.among} (keep_last = {policy.keep_last})"


def ordinal(number: int) -> str:
    """Return a number as an ordinal: 1st, 2nd, 3rd, 4th, 11th, 21st."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if number % 100 in (11, 12, 13) else ending}"


def _reason_never_to_delete(snapshot: Snapshot, places: _Places, roots: Roots) -> str:
    """Return what keeps a snapshot whatever the policy says, "" if nothing does."""
    protected = protection(snapshot, roots)
    if protected:
        return protected
    if snapshot.incomplete:
        return f"it is incomplete ({snapshot.problem})"
    if snapshot.pending:
        return "how its transaction ended is not known"
    source = snapshot.record.source.id if snapshot.of_trial and snapshot.record else 0
    if source and source in {roots.running, *roots.mounted}:
        return "the trial in which it was taken is running"
    if places.rank == 1:
        return f"it is the {places.among} snapshot"
    return ""


def _reason_to_keep(places: _Places, age: Age, policy: Policy) -> str:
    """Return which count or age keeps a snapshot, "" if none does."""
    if places.rank and places.rank <= policy.keep_last:
        return _rank(places, policy)
    if places.important:
        return (
            f"{ordinal(places.important)} newest important: its transaction changed"
            f" {places.package} (keep_important = {policy.keep_important})"
        )
    days = f"{age.total.days} days old (keep_days = {policy.keep_days})"
    return _reason_of_age(age, policy.keep_days, days)


def next_for_room(verdicts: Sequence[Verdict], passed: Container[str]) -> Optional[Snapshot]:
    """Return the snapshot that `min_free` deletes next, the oldest that may go; None without one.

    `passed` has the names of those that could not be deleted.
    """
    return next((s for s in all_for_room(verdicts) if s.name not in passed), None)


def all_for_room(verdicts: Sequence[Verdict]) -> list[Snapshot]:
    """Return all that `min_free` may delete, the oldest first."""
    return [v.snapshot for v in verdicts if v.action is Action.KEEP and v.may_yield]


def _reason_of_age(age: Age, days: int, young: str) -> str:
    """Return why a snapshot has not reached an age beyond doubt, "" if it has."""
    limit = timedelta(days=days)
    if age.has_reached(limit):
        return ""
    if age.total >= limit:
        return (
            f"only the clock says that it is {days} days old: no snapshot was taken in"
            f" {age.longest.days} of its {age.total.days} days, so the clock may have been set"
            " forward"
        )
    if age.doubt:
        return f"its date {age.doubt}, and no later snapshot shows that it is {days} days old"
    return young
