# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot that was taken in a trial is none of the machine's own, wherever one is chosen."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from fs_rollback.core.snapshots import record as records
from fs_rollback.core.snapshots.names import resolve
from fs_rollback.core.snapshots.retention import Action, Policy, retention
from fs_rollback.core.snapshots.snapshot import Roots, Snapshot
from fs_rollback.errors import UsageError
from fs_rollback.report import marks
from tests.unit.samples import NOW, record, snapshot

DAY = timedelta(days=1)
ROOTS = Roots(running=256, next=256, default=5)


def of_trial(number: int, age: timedelta) -> Snapshot:
    found = snapshot(number, age=age)
    assert found.record is not None
    source = found.record.source._replace(path="fs-snapshots/try_20261101000000", id=900)
    return found._replace(record=found.record._replace(trial=True, source=source))


def kept(snapshots: list[Snapshot], policy: Policy, roots: Roots = ROOTS) -> list[int]:
    verdicts = retention(snapshots, policy, roots, NOW)
    return [v.snapshot.id for v in verdicts if v.action is Action.KEEP]


OWN = [snapshot(number, age=(60 - number) * DAY) for number in (10, 11, 12)]
TRIAL = [of_trial(number, (60 - number) * DAY) for number in (20, 21, 40, 58)]


def test_they_age_out_and_push_out_nothing() -> None:
    everything = [*OWN, *TRIAL]
    assert kept(everything, Policy(2, 0, 0)) == [11, 12]
    assert kept(everything, Policy(0, 0, 0)) == [12], "the newest of the own root"
    assert kept(everything, Policy(2, 20, 0)) == [11, 12, 40, 58]
    assert kept(TRIAL, Policy(2, 0, 0)) == []
    running = ROOTS._replace(mounted=frozenset({900}))
    assert kept(everything, Policy(2, 0, 0), running) == [11, 12, 20, 21, 40, 58], "it is used"


def test_the_latest_is_the_own_roots() -> None:
    assert resolve("latest", [*OWN, *TRIAL]).id == 12
    assert resolve("21", [*OWN, *TRIAL]).id == 21
    with pytest.raises(UsageError, match="no snapshot yet"):
        resolve("latest", TRIAL)


def test_the_mark() -> None:
    assert marks(TRIAL[0], ROOTS) == ["trial"]
    assert marks(OWN[0], ROOTS) == []


def test_the_record_says_it_and_an_older_one_by_its_source() -> None:
    found = record("yum_20261123132957")
    assert "trial" not in json.loads(records.dump(found)), "as before"
    text = records.dump(found._replace(trial=True))
    assert records.parse(text).trial
    for path, trial in {
        "fs-snapshots/try_20261101000000": True,
        "fs-snapshots/root_20261101000000": False,
        "fs-snapshots/replaced_20261101000000": False,
        "root": False,
    }.items():
        old = records.dump(found._replace(source=found.source._replace(path=path)))
        assert records.parse(old).trial is trial, path
