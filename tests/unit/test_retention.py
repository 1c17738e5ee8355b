# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from fs_rollback.core.snapshots.record import Kind, Outcome
from fs_rollback.core.snapshots.retention import Action, Policy, protection, retention
from fs_rollback.core.snapshots.snapshot import Roots, Snapshot
from tests.unit.samples import NOW, gone, incomplete, snapshot

DAY = timedelta(days=1)
ROOTS = Roots(running=256, next=256, default=5)
NOTHING = Policy(keep_last=0, keep_days=0, keep_replaced_days=0)


def _kept(
    snapshots: list[Snapshot], policy: Policy, roots: Roots = ROOTS, now: datetime = NOW
) -> list[int]:
    verdicts = retention(snapshots, policy, roots, now)
    assert [verdict.snapshot for verdict in verdicts] == snapshots
    assert all(verdict.reason for verdict in verdicts)
    return [v.snapshot.id for v in verdicts if v.action is Action.KEEP]


def _live(policy: Policy, *, days: int, a_day: int) -> list[list[Snapshot]]:
    """Return what a machine has after each day of transactions and a prune in the evening."""
    start = NOW - days * DAY
    present: list[Snapshot] = []
    evenings = []
    for day in range(days):
        for number in range(a_day):
            moment = start + day * DAY + timedelta(hours=number)
            present.append(snapshot(1000 + day * a_day + number, age=NOW - moment))
        evening = start + day * DAY + timedelta(hours=12)
        kept = set(_kept(present, policy, now=evening))
        present = [s for s in present if s.id in kept]
        evenings.append(list(present))
    return evenings


@pytest.mark.parametrize(
    ("policy", "a_day", "steady"),
    [
        (Policy(20, 30, 14), 1, 30),  # the defaults: thirty days have thirty evenings
        (Policy(50, 7, 14), 1, 50),  # fifty are more than a week's seven
        (Policy(5, 7, 14), 3, 21),
        (Policy(20, 0, 14), 1, 20),
        (Policy(0, 30, 14), 1, 30),
        (Policy(0, 0, 14), 1, 1),
        (Policy(1, 0, 14), 2, 1),
        (Policy(0, 1, 14), 2, 2),  # this day's; yesterday's are older than a day by the evening
    ],
)
def test_120_days(policy: Policy, a_day: int, steady: int) -> None:
    for day, present in enumerate(_live(policy, days=120, a_day=a_day)):
        taken = (day + 1) * a_day
        newest = 1000 + taken - 1
        count = min(steady, taken)
        # Without pins what is kept is always an unbroken row that ends with the newest.
        assert [s.id for s in present] == list(range(newest - count + 1, newest + 1))


def test_the_newest_stays_whatever_the_policy_says() -> None:
    old = [snapshot(300 + n, age=(900 - n) * DAY) for n in range(3)]
    assert _kept(old, NOTHING) == [302]


def test_newest_is_by_order_and_not_by_a_clock_that_was_wrong() -> None:
    ahead = snapshot(300, "yum_20361123132957", age=-3650 * DAY)
    present = [ahead, snapshot(301, age=DAY)]
    assert 301 in _kept(present, NOTHING)
    # A time to come is as young as the next date that can be right.
    assert _kept(present, Policy(0, 2, 0)) == [300, 301]
    assert _kept(present, Policy(0, 1, 0)) == [301]


def test_the_bounds_of_both_rules() -> None:
    just_too_old = snapshot(300, age=30 * DAY)
    just_young = snapshot(301, age=30 * DAY - timedelta(seconds=1))
    later = [snapshot(302, age=15 * DAY), snapshot(303, age=DAY)]
    assert _kept([just_too_old, just_young, *later], Policy(0, 30, 0)) == [301, 302, 303]
    assert _kept([just_too_old, just_young, *later], Policy(3, 0, 0)) == [301, 302, 303]


@pytest.mark.parametrize(
    ("special", "roots", "word"),
    [
        (snapshot(300, age=900 * DAY, pinned=True), ROOTS, "pinned"),
        (snapshot(300, age=900 * DAY), Roots(300, 256, 5), "running"),
        (snapshot(300, age=900 * DAY), Roots(256, 300, 5), "next boot"),
        (snapshot(300, age=900 * DAY), Roots(256, 256, 300), "default"),
        (snapshot(300, age=900 * DAY), Roots(256, 256, 5, frozenset({300})), "mounted"),
        (snapshot(300, age=900 * DAY, version=2), ROOTS, "newer version"),
        (snapshot(300, age=900 * DAY, outcome=Outcome.PENDING), ROOTS, "no known end"),
        (incomplete(300, "yum_20200101000000", age=900 * DAY), ROOTS, "incomplete"),
        (incomplete(300, "replaced_20200101000000", age=900 * DAY), ROOTS, "incomplete"),
        (
            snapshot(300, "replaced_1", age=900 * DAY, kind=Kind.REPLACED, pinned=True),
            ROOTS,
            "pinned",
        ),
        (
            snapshot(300, "replaced_1", age=900 * DAY, kind=Kind.REPLACED),
            Roots(300, 256, 5),
            "running",
        ),
        (snapshot(300, "replaced_1", age=900 * DAY, kind=Kind.REPLACED, version=9), ROOTS, "newer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_policy_deletes(special: Snapshot, roots: Roots, word: str) -> None:
    newest = snapshot(400)
    verdicts = retention([special, newest], NOTHING, roots, NOW)
    assert verdicts[0].action is Action.KEEP
    assert word in verdicts[0].reason


def test_pins_and_the_like_do_not_push_others_out() -> None:
    pinned = [snapshot(300 + n, age=(50 - n) * DAY, pinned=True) for n in range(5)]
    ordinary = [snapshot(400 + n, age=(20 - n) * DAY) for n in range(5)]
    assert _kept([*pinned, *ordinary], Policy(3, 0, 0)) == [300, 301, 302, 303, 304, 402, 403, 404]


def test_an_unbooted_machine_protects_by_no_accident() -> None:
    # Offline neither running nor next is known (0), and a snapshot that is gone has the ID 0.
    lost = gone("yum_20260101000000", age=300 * DAY)
    assert protection(lost, Roots(0, 0, 5)) == ""
    assert _kept([lost, snapshot(300)], Policy(20, 30, 14), Roots(0, 0, 5)) == [300]


def test_a_record_without_its_snapshot_goes_and_counts_for_nothing() -> None:
    present = [snapshot(300, age=9 * DAY), snapshot(301, age=8 * DAY), gone("yum_1"), gone("yum_2")]
    assert _kept(present, Policy(2, 0, 0)) == [300, 301]
    assert _kept([snapshot(300, age=9 * DAY), gone("yum_1", pinned=True)], NOTHING) == [300]


@pytest.mark.parametrize(
    ("age", "kept"), [(0 * DAY, True), (13.9 * DAY, True), (14 * DAY, False), (99 * DAY, False)]
)
def test_an_old_root_is_judged_by_its_age_alone(age: timedelta, kept: bool) -> None:
    old_root = snapshot(256, "replaced_20261101000000", age=age, kind=Kind.REPLACED)
    since = [snapshot(300, age=age / 2), snapshot(301)]
    found = _kept([old_root, *since], Policy(99, 9999, 14), Roots(302, 302, 5))
    assert found == ([256, 300, 301] if kept else [300, 301])


def test_an_old_root_is_not_the_newest_snapshot() -> None:
    present = [
        snapshot(300, age=60 * DAY),
        snapshot(256, "replaced_20261101000000", age=20 * DAY, kind=Kind.REPLACED),
    ]
    assert _kept(present, Policy(0, 0, 0), Roots(301, 301, 5)) == [300]


def test_verdicts_say_why() -> None:
    present = [snapshot(300 + n, age=(42 - n) * DAY) for n in range(3)]
    verdicts = retention(present, Policy(0, 0, 0), ROOTS, NOW)
    assert verdicts[0].reason == "number 3 from the newest, 42 days old"
    assert verdicts[2].reason == "it is the newest"
    assert retention([], Policy(0, 0, 0), ROOTS, NOW) == ()
