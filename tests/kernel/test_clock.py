# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose clock was wrong once: nothing is deleted, undone or matched by its word.

The filesystem is real and so is the order in it; what a clock has written (the dates in the
records, in dnf's history) is changed to what a wrong one would have written.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta, timezone

import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Kind
from fs_rollback.core.snapshots.retention import Action, Policy, Verdict
from fs_rollback.system.machine import host
from fs_rollback.system.packages import settle_records
from fs_rollback.system.snapshots import take_and_delete
from fs_rollback.system.store import store
from tests.kernel.commands import done, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import Machine
from tests.kernel.reboots import arrive, reboot
from tests.kernel.test_store import edit_record, read_record

BATTERY = datetime(2015, 1, 1, tzinfo=timezone.utc)  # where a clock without one begins
_POLICY = Config().policy
DAY = timedelta(days=1)
SECOND = timedelta(seconds=3)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _dated(machine: Machine, **dates: datetime) -> None:
    for name, moment in dates.items():
        edit_record(machine, name, created=_text(moment))


def _listed(machine: Machine) -> list[str]:
    return [snapshot.name for snapshot in machine.snapshots()]


def _verdicts(machine: Machine, policy: Policy = _POLICY) -> dict[str, Verdict]:
    with host.opened(str(machine.root)) as opened, store.opened(opened) as found:
        assert found is not None
        return {v.snapshot.name: v for v in take_and_delete.judge(opened, found, policy, _now())}


def _goes(machine: Machine, policy: Policy = _POLICY) -> list[str]:
    verdicts = _verdicts(machine, policy)
    return [name for name, verdict in verdicts.items() if verdict.action is Action.DELETE]


@pytest.mark.parametrize("layout", ["named", "default"])
def test_a_rollback_while_the_clock_has_no_battery(make_machine: MakeMachine, layout: str) -> None:
    """The replaced root is minutes old; each transaction since deletes what is old."""
    machine = make_machine(layout)
    before = machine.upgrade()
    old = machine.roll_back(before).situation.replaced
    reboot(machine)
    arrive(machine)
    _dated(machine, **{old: BATTERY})
    assert _listed(machine) == [before, old], "in the order of what happened"
    told = fs_rollback(machine.root, "status", "--json").json["last_rollback"]
    assert told["replaced"] == old
    assert "does not fit the order" in _verdicts(machine)[old].reason
    first, second, third = (machine.upgrade(number) for number in (3, 4, 5))
    assert _listed(machine) == [before, old, first, second, third]
    answer = done(machine.root, "undo", "--dry-run", "--json").json
    assert (answer["target"], "/etc/app.conf" in answer["reverts"]["files"]) == (old, True)

    # The whole boot without a battery: its snapshot too, and all that was before it.
    _dated(machine, **{before: BATTERY, old: BATTERY + timedelta(minutes=5)})
    verdict = _verdicts(machine)[old]
    assert (verdict.action, "clock may have been set" in verdict.reason) == (Action.KEEP, True)
    assert verdict.reason in done(machine.root, "prune", "--dry-run").out, "it is never cut"

    # Two weeks later, as the snapshots since show, it goes: by their dates, not by its own.
    now = _now()
    _dated(machine, **{first: now - 15 * DAY, second: now - 8 * DAY, third: now - DAY})
    machine.upgrade(6)
    assert old not in _listed(machine)


def test_one_transaction_while_the_clock_is_years_ahead(named: Machine) -> None:
    """Seen from there everything is years old; seen from the right time it is in the future."""
    names = [named.upgrade(number) for number in range(2, 4)]
    old = named.roll_back(names[0]).situation.replaced
    reboot(named)
    arrive(named)
    policy = Policy(1, 30, 14)
    _dated(named, **dict.fromkeys((*names, old), _now() - 2000 * DAY))  # it is ahead of all
    assert "clock may have been set" in _verdicts(named)[old].reason
    ahead = named.upgrade(7)
    assert _goes(named, policy) == []
    assert _listed(named) == [*names, old, ahead]

    # And it was: the next one has the right time.
    _dated(named, **dict.fromkeys((*names, old), _now() - DAY), **{ahead: _now() + 2000 * DAY})
    later = [named.upgrade(number) for number in range(8, 10)]
    assert _listed(named) == [*names, old, ahead, *later]
    assert "in the future" in _verdicts(named, policy)[ahead].reason
    assert _goes(named, policy) == []

    # It ages as the next one does, and goes.
    days = (60, 50, 45, -2000, 31, 15.5)
    _dated(named, **{n: _now() - d * DAY for n, d in zip((*names, old, ahead, *later), days)})
    last = named.upgrade(10)
    assert _goes(named, policy) == [*names, ahead, later[0]]
    assert _listed(named) == [*names, ahead, *later, last], "the old root went by then"


def test_now_is_before_everything(named: Machine) -> None:
    """The clock has no battery now: nothing goes by age, and what goes by order does."""
    names = [named.upgrade(number) for number in range(2, 5)]
    old = named.roll_back(names[0]).situation.replaced
    named.reboot()
    _dated(named, **dict.fromkeys((*names, old), _now() + 4000 * DAY))
    latest = named.upgrade(6)
    assert _goes(named, Policy(1, 30, 14)) == []
    assert _goes(named, Policy(2, 0, 14)) == names[:2]
    assert _listed(named) == [*names, old, latest]


def test_a_name_that_was_used_before_the_clock_went_back(named: Machine) -> None:
    """The hour that comes twice in autumn, or a clock that begins anew: each has its own name."""
    now = datetime(2026, 10, 25, 2, 30, tzinfo=timezone(timedelta(hours=2)))
    hours = (now, now, now - timedelta(hours=1), now)
    names = []
    with named.writing() as (opened, found):
        for moment in hours:
            names.append(take_and_delete.take(opened, found, Kind.PRE, moment).name)
    assert names == [f"yum_202610250{n}" for n in ("23000", "23001", "13000", "23002")]
    assert _listed(named) == names
    assert done(named.root, "rollback", "--dry-run", "--json").json["target"] == names[-1]


def _history(machine: Machine, *rows: tuple[int, datetime, int]) -> None:
    """Write what dnf would have: number, begin, state (1 is done, 2 an error)."""
    place = machine.root / "var/lib/dnf"
    place.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(place / "history.sqlite") as database:
        database.execute("CREATE TABLE IF NOT EXISTS trans (id INTEGER, dt_begin INTEGER, state)")
        database.execute("DELETE FROM trans")
        values = [(number, int(begin.timestamp()), state) for number, begin, state in rows]
        database.executemany("INSERT INTO trans VALUES (?, ?, ?)", values)
    database.close()


def _pending(machine: Machine, **dates: datetime) -> None:
    for name, moment in dates.items():
        transaction = read_record(machine, name)["transaction"]
        transaction = {**transaction, "outcome": "pending", "history_id": None}
        edit_record(machine, name, created=_text(moment), transaction=transaction)


def _ends(machine: Machine) -> dict[str, tuple[str, int | None]]:
    with host.opened(str(machine.root)) as opened, store.opened(opened) as found:
        assert found is not None
        ends = {r.name: r.transaction for r in settle_records.settle(opened, found.load())}
        return {name: (end.outcome.value, end.history_id) for name, end in ends.items() if end}


def test_records_are_settled_by_what_belongs_to_them(named: Machine) -> None:
    a, b, c, d = (named.upgrade(number) for number in range(2, 6))  # dnf's numbers are the same
    now, later = _now(), BATTERY + timedelta(minutes=9)
    _pending(named, **{b: BATTERY, d: later})
    # They ran while the clock had no battery; there are others of that time.
    rows = [(1, BATTERY + SECOND, 2), (2, now, 1), (3, BATTERY + 2 * SECOND, 1), (4, now, 1)]
    _history(named, *rows, (5, later + SECOND, 2), (6, now, 1))
    assert _ends(named) == {b: ("done", 3), d: ("failed", 5)}
    # They never began: what came years later, by the clock, is not theirs.
    _history(named, *((number, now, 1) for number in (1, 2, 4, 6)))
    assert _ends(named) == dict.fromkeys((b, d), ("interrupted", None))
    # The first was stopped before it began, the second came right after it.
    _pending(named, **{c: now, d: now + SECOND})
    _history(named, (2, now - DAY, 1), (4, now + 2 * SECOND, 1))
    assert _ends(named) == dict.fromkeys((b, c), ("interrupted", None)) | {d: ("done", 4)}
    # After a rollback dnf gives its numbers again.
    named.roll_back(a)
    named.reboot()
    again = named.upgrade(3)
    _pending(named, **{again: now + 9 * SECOND})
    _history(named, (2, now, 1), (3, now + 10 * SECOND, 1))
    assert _ends(named)[again] == ("done", 3)
