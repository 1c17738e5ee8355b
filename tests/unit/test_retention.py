# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import re
from collections.abc import Collection
from datetime import datetime, timedelta

import pytest

from fs_rollback.core.snapshots.record import Kind, Outcome
from fs_rollback.core.snapshots.retention import (
    Action,
    Policy,
    next_for_room,
    ordinal,
    protection,
    retention,
)
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
        (snapshot(300, age=900 * DAY, outcome=Outcome.PENDING), ROOTS, "is not known"),
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
    assert verdicts[0].reason == "3rd newest (keep_last = 0), 42 days old"
    assert verdicts[2].reason == "it is the newest snapshot"
    assert retention([], Policy(0, 0, 0), ROOTS, NOW) == ()


def _reasons(
    snapshots: list[Snapshot], policy: Policy, important: Collection[int] = ()
) -> dict[int, str]:
    """Return why each stays; of `important` it is said that they touched the package "p"."""

    def touched(one: Snapshot) -> str:
        return "p" if one.id in important else ""

    verdicts = retention(snapshots, policy, ROOTS, NOW, touched)
    return {v.snapshot.id: v.reason for v in verdicts if v.action is Action.KEEP}


def _taken(kinds: str) -> list[Snapshot]:
    """Return snapshots of kinds by their first letters, one a day, the newest of today."""
    by_letter = {kind.value[0]: kind for kind in (Kind.PRE, Kind.MANUAL)} | {"o": Kind.POST}
    return [
        snapshot(300 + n, age=(len(kinds) - 1 - n) * DAY, kind=by_letter[letter])
        for n, letter in enumerate(kinds)
    ]


@pytest.mark.parametrize(
    ("kinds", "keep_last", "kept"),
    [
        ("ppppmmmm", 2, [302, 303, 306, 307]),
        ("mmmmpppp", 2, [302, 303, 306, 307]),
        ("pmpmpmpm", 1, [306, 307]),
        ("pmmmmmmm", 3, [300, 305, 306, 307]),
        ("mppppppp", 3, [300, 305, 306, 307]),
        ("popopopm", 3, [304, 305, 306, 307]),  # before and after are of one transaction
        ("popopopm", 0, [306, 307]),
        ("mmm", 0, [302]),
    ],
)
def test_those_by_hand_are_counted_apart(kinds: str, keep_last: int, kept: list[int]) -> None:
    assert _kept(_taken(kinds), Policy(keep_last, 0, 0)) == kept


def test_reasons_name_the_key_that_decides() -> None:
    found = retention(_taken("pmpmpm"), Policy(2, 0, 0), ROOTS, NOW)
    assert [v.reason for v in found] == [
        "3rd newest (keep_last = 2), 5 days old", "3rd newest manual (keep_last = 2), 4 days old",
        "2nd newest (keep_last = 2)", "2nd newest manual (keep_last = 2)",
        "it is the newest snapshot", "it is the newest manual snapshot",
    ]  # fmt: skip
    assert _reasons(_taken("ppp"), Policy(1, 2, 0)) == {
        301: "1 days old (keep_days = 2)",
        302: "it is the newest snapshot",
    }


@pytest.mark.parametrize(
    ("number", "text"),
    [(1, "1st"), (2, "2nd"), (3, "3rd"), (4, "4th"), (10, "10th"), (11, "11th"), (12, "12th"),
     (13, "13th"), (21, "21st"), (22, "22nd"), (101, "101st"), (111, "111th"), (113, "113th")],
)  # fmt: skip
def test_ordinals(number: int, text: str) -> None:
    assert ordinal(number) == text


@pytest.mark.parametrize(
    ("kinds", "important", "keep", "kept"),
    [
        ("pppppp", {300, 302, 304}, 2, [302, 304, 305]),
        ("pppppp", {300, 302, 304}, 9, [300, 302, 304, 305]),
        ("pppppp", {300, 302, 304}, 0, [305]),
        ("pppppp", {305}, 1, [305]),  # the newest is one of those
        ("pppppp", {300, 305}, 1, [305]),
        ("popopo", {300, 301, 302, 303}, 1, [302, 303, 305]),  # before as many as after
        ("pppppm", {300}, 1, [300, 304, 305]),
        ("pppppp", set(), 5, [305]),
    ],
)
def test_the_newest_important_ones_stay(
    kinds: str, important: set[int], keep: int, kept: list[int]
) -> None:
    policy = NOTHING._replace(keep_important=keep)
    found = _reasons(_taken(kinds), policy, important)
    assert list(found) == kept
    for number in important & set(kept[:-1]):
        assert re.fullmatch(
            rf"\d.. newest important: its transaction changed p \(keep_important = {keep}\)",
            found[number],
        )


def test_an_important_one_counts_for_the_others_too() -> None:
    policy = Policy(keep_last=2, keep_days=0, keep_replaced_days=0, keep_important=1)
    found = _reasons(_taken("ppppp"), policy, {303})
    assert found == {303: "2nd newest (keep_last = 2)", 304: "it is the newest snapshot"}


def test_an_old_root_and_a_trial_are_never_important() -> None:
    old = snapshot(298, "replaced_20261101000000", age=60 * DAY, kind=Kind.REPLACED)
    trial = snapshot(299, age=50 * DAY)
    assert trial.record is not None
    source = trial.record.source._replace(id=297)  # not the running root
    trial = trial._replace(record=trial.record._replace(trial=True, source=source))
    since = [snapshot(300 + n, age=(40 - 10 * n) * DAY) for n in range(4)]
    policy = NOTHING._replace(keep_important=9)
    assert list(_reasons([old, trial, *since], policy, {298, 299})) == [303]


def test_not_more_are_looked_at_than_count() -> None:
    asked = []

    def touched(one: Snapshot) -> str:
        asked.append(one.id)
        return "p"

    retention(_taken("pppppp"), NOTHING._replace(keep_important=2), ROOTS, NOW, touched)
    assert asked == [305, 304]


def _order_for_room(snapshots: list[Snapshot], policy: Policy, roots: Roots = ROOTS) -> list[int]:
    """Return what goes for room, one after the other."""
    verdicts = retention(snapshots, policy, roots, NOW, lambda _: "p")
    passed: list[str] = []
    found = []
    while (one := next_for_room(verdicts, passed)) is not None:
        passed.append(one.name)
        found.append(one.id)
    return found


KEEP_ALL = Policy(keep_last=99, keep_days=9999, keep_replaced_days=9999, keep_important=99)


@pytest.mark.parametrize("policy", [
    KEEP_ALL, KEEP_ALL._replace(keep_last=0), KEEP_ALL._replace(keep_important=0),
    NOTHING._replace(keep_important=99), NOTHING._replace(keep_last=99),
])  # fmt: skip
def test_the_oldest_goes_first_for_room(policy: Policy) -> None:
    """The newest by hand stays, and the newest before a transaction, though one after is newer."""
    assert _order_for_room(_taken("pmpompo"), policy) == [300, 301, 302, 303]


def test_what_does_not_go_for_room() -> None:
    special = [
        snapshot(256, "replaced_1", age=9 * DAY, kind=Kind.REPLACED),
        snapshot(301, age=8 * DAY, pinned=True),
        snapshot(302, age=7 * DAY, outcome=Outcome.PENDING),
        incomplete(303, "yum_20261117000000", age=6 * DAY),
        snapshot(304, age=5 * DAY, version=2),
        *(snapshot(305 + n, age=(4 - n) * DAY / 2) for n in range(5)),
    ]
    roots = Roots(305, 306, 307, frozenset({308}))
    assert _order_for_room(special, KEEP_ALL, roots) == []
    assert _order_for_room(special, KEEP_ALL, Roots(1, 1, 5)) == [305, 306, 307, 308]
    assert _order_for_room(_taken("ppp"), NOTHING) == [], "retention itself deletes those"
