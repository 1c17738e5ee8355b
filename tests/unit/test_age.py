# SPDX-License-Identifier: GPL-2.0-or-later
"""How old snapshots are on machines whose clock is right, was set, or has no battery."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import pytest

from fs_rollback.core.snapshots.age import ages, in_order, last_before_set_aside
from fs_rollback.core.snapshots.record import Kind
from fs_rollback.core.snapshots.replaced_by import ReplacedBy
from fs_rollback.core.snapshots.retention import Action, Policy, Verdict, retention
from fs_rollback.core.snapshots.snapshot import Roots, Snapshot, Subvolume
from tests.unit.samples import NOW, gone, snapshot, subvolume, uuid_of

POLICY = Policy(keep_last=1, keep_days=30, keep_replaced_days=14)
ROOTS = Roots(running=999, next=999, default=5)
BATTERY = datetime(2015, 1, 1, tzinfo=timezone.utc)  # where a clock without one begins
AHEAD = datetime(2031, 5, 6, tzinfo=timezone.utc)
DEAD, FUTURE = (NOW - BATTERY).days, (NOW - AHEAD).days


def _life(*events: str, now: datetime = NOW) -> dict[str, Verdict]:
    """Judge what was taken in this order: "p" or "r" (replaced) and how many days ago, by date."""
    present = []
    for number, event in enumerate(events, start=300):
        kind = Kind.REPLACED if event[0] == "r" else Kind.PRE
        age = timedelta(days=float(event[1:])) + timedelta(minutes=300 - number)
        present.append(snapshot(number, f"{kind.value}_{number}", age=age, kind=kind))
    return dict(zip(events, retention(present, POLICY, ROOTS, now + timedelta(hours=1))))


def _deleted(*events: str, now: datetime = NOW) -> list[str]:
    verdicts = _life(*events, now=now)
    return [event for event, verdict in verdicts.items() if verdict.action is Action.DELETE]


@pytest.mark.parametrize(
    ("events", "deleted"),
    [
        # The clock is right.
        (("p50", "p40", "p20", "p1"), ["p50"]),
        (("p50", "p40", "p31", "p29", "p16", "p8", "p1"), ["p50", "p40", "p31"]),
        (("p45", "r44", "p30", "p0"), ["r44"]),  # one dnf a month
        (("p75", "p45", "r44", "p30", "p0"), ["p75", "r44"]),
        (("p20", "r15", "p8", "p1"), ["r15"]),
        (("p20", "r13", "p8", "p1"), []),
        # A rollback, or a transaction, without a battery.
        (("p3", f"r{DEAD}"), []),
        (("p50", "p3", f"r{DEAD}", "p0"), []),
        (("p50", "p40", "p20", f"r{DEAD}", "p5", "p0"), ["p50"]),
        (("p50", "p29", f"r{DEAD}", "p15", "p9", "p2", "p0"), [f"r{DEAD}"]),
        (("p40", f"p{DEAD}", f"p{DEAD - 1}", f"r{DEAD - 1}", "p0.1", "p0"), []),
        # Each boot begins there, until the network sets the clock.
        (("p2", f"p{DEAD}", "p1.9", f"r{DEAD - 0.1}", "p1", f"p{DEAD - 0.2}", "p0.1"), []),
        # A new machine: everything was there before the network set the clock.
        ((f"p{DEAD}", f"r{DEAD - 0.1}"), []),
        ((f"p{DEAD}", f"r{DEAD - 0.1}", "p0.1", "p0"), []),
        ((f"p{DEAD}", f"r{DEAD - 0.1}", "p13", "p6", "p0"), []),
        ((f"p{DEAD}", f"r{DEAD - 0.1}", "p15", "p7", "p0"), [f"r{DEAD - 0.1}"]),
        # One transaction years ahead, then the right time again.
        (("p5", "r4", f"p{FUTURE}", "p0"), []),
        (("p40", f"p{FUTURE}", "p28", "p14", "p0"), ["p40"]),
        (("p60", f"p{FUTURE}", "p45", "p30", "p15", "p0"), ["p60", f"p{FUTURE}", "p45", "p30"]),
        (("p20", f"r{FUTURE}", "p15", "p8", "p1"), [f"r{FUTURE}"]),
        # A whole month ahead, and right since.
        ((*(f"p{FUTURE + 30 - n}" for n in range(30)), "p1", "p0"), []),
    ],
)
def test_what_goes(events: Sequence[str], deleted: list[str]) -> None:
    assert _deleted(*events) == deleted


@pytest.mark.parametrize("now", [AHEAD, BATTERY, NOW + timedelta(days=400)])
def test_nothing_goes_on_one_look_at_a_clock_that_jumped(now: datetime) -> None:
    events = [*(f"p{n}" for n in range(29, 0, -1)), "r0.5", "p0.1"]
    assert _deleted(*events, now=now) == []
    taken_by_it = str((NOW - now) / timedelta(days=1))
    assert _deleted(*events, f"p{taken_by_it}", now=now) == []


def test_reasons_say_why() -> None:
    events = ("p40", f"r{DEAD}", f"p{FUTURE}", "p1", "p0")
    reasons = {event: verdict.reason for event, verdict in _life(*events).items()}
    assert reasons["p40"].startswith(
        "only the clock says that it is 30 days old: no snapshot was taken in 39 of"
    )
    assert "the clock may have been set forward" in reasons["p40"]
    assert reasons[events[1]].startswith("its date does not fit the order of snapshots, and no")
    assert reasons[events[2]].startswith("its date is in the future, and no later snapshot")
    reason = _life("p20", f"r{DEAD}", "p15", "p8", "p1")[f"r{DEAD}"].reason
    assert reason == "a root replaced 15 days ago (keep_replaced_days = 14)", (
        "by the next date that can be right"
    )


def test_lives_with_bad_clocks() -> None:
    """It is set forward once, or begins anew at each boot: nothing is lost."""
    chance = random.Random(3)
    for life in range(300):
        true, ahead, jumped, battery = NOW, timedelta(), bool(life % 2), not life % 2
        made: dict[int, datetime] = {}
        present: list[Snapshot] = []
        for number in range(300, 330):
            true += timedelta(days=chance.choice((0.01, 0.5, 1, 3, 7)))
            if not jumped and chance.random() < 0.1:
                ahead, jumped = timedelta(days=chance.choice((20, 100, 3000))), True
            odd = not battery and chance.random() < 0.3
            clock = BATTERY + timedelta(minutes=chance.random()) if odd else true + ahead
            kind = Kind.REPLACED if chance.random() < 0.2 else Kind.PRE
            made[number] = true
            present.append(snapshot(number, f"{kind.value}_{number}", age=NOW - clock, kind=kind))
            verdicts = retention(present, POLICY, ROOTS, clock)
            for one in verdicts:
                limit = timedelta(days=14 if one.snapshot.is_replaced else 30)
                assert one.action is Action.KEEP or true - made[one.snapshot.id] >= limit
            present = [one.snapshot for one in verdicts if one.action is Action.KEEP]


def _subvolumes(*found: Subvolume) -> list[Subvolume]:
    return [subvolume(5, ""), *found]


def test_an_old_root_stands_where_it_was_set_aside() -> None:
    def old(number: int, age_days: float) -> Snapshot:
        age = timedelta(days=age_days)
        return snapshot(number, f"replaced_{number}", age=age, kind=Kind.REPLACED)

    # 256 was replaced by 310 and that by 320, which runs. The dates say nothing of it.
    first, second = old(256, -4000), old(310, 9000)
    taken = [snapshot(n, age=timedelta(days=400 - n)) for n in (300, 305, 315, 330)]
    lost = gone("yum_20261001000000")
    inside = subvolume(290, "fs-snapshots/replaced_256/var/lib/machines")
    all_of = [s.subvolume for s in (first, second, *taken) if s.subvolume is not None]
    subvolumes = _subvolumes(*all_of, inside, subvolume(320, "root"))
    found = in_order([second, *reversed(taken), first], subvolumes, 320)
    assert [s.id for s in found] == [300, 305, 256, 315, 310, 330]
    assert lost in in_order([lost, *taken], subvolumes, 320)
    # It runs still, and waits for the reboot: it was set aside last.
    waiting = [s for s in subvolumes if s.id != 310]
    found = in_order([first, *taken], waiting, 256)
    assert [s.id for s in found] == [300, 305, 315, 330, 256]
    assert first.subvolume is not None
    assert last_before_set_aside(first.subvolume, _subvolumes(first.subvolume), 256) is None


def test_what_is_taken_before_the_reboot_is_newer_than_the_old_root() -> None:
    """The rollback to 300 set 256 aside for 310, its copy; 311 was taken before the reboot."""
    target, between, later = (snapshot(n, age=timedelta(minutes=400 - n)) for n in (300, 311, 330))
    record = snapshot(256, "replaced_256", age=timedelta(minutes=90), kind=Kind.REPLACED).record
    assert record is not None
    by = ReplacedBy(target.name, target.id)
    old = Snapshot(
        "replaced_256",
        subvolume(256, "fs-snapshots/replaced_256"),
        record._replace(replaced_by=by),
    )
    copies = [
        subvolume(number, path, parent_uuid=uuid_of(300))
        for number, path in ((305, "fs-snapshots/try_300"), (310, "root"), (320, "elsewhere"))
    ]
    taken = subvolume(311, between.path, parent_uuid=uuid_of(256), read_only=True)
    kept = [s.subvolume for s in (target, old, later) if s.subvolume is not None]
    present = [target, between, later, old]
    for running in (256, 310):  # before the reboot, and after it
        found = in_order(present, _subvolumes(*kept, *copies, taken), running)
        assert [s.id for s in found] == [300, 256, 311, 330]
        assert not any(age.doubt for age in ages(found, NOW))


def test_two_systems_on_one_filesystem() -> None:
    """The other one's old root, with an ID in between, did not replace ours."""
    ours = snapshot(256, "replaced_256", kind=Kind.REPLACED)
    theirs = snapshot(257, "replaced_257", kind=Kind.REPLACED)
    taken = [snapshot(n) for n in (300, 301)]
    subvolumes = [
        subvolume(s.id, s.path, parent_uuid=uuid_of(256)) for s in taken if s.subvolume is not None
    ]
    subvolumes += [s.subvolume for s in (ours, theirs) if s.subvolume is not None]
    found = in_order([ours, theirs, *taken], _subvolumes(*subvolumes), 310)
    assert [s.id for s in found if s.id != 257] == [300, 301, 256]
