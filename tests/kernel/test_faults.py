# SPDX-License-Identifier: GPL-2.0-or-later
"""A fault at every change that every plan makes: the machine reads as before, or as finished."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import pytest

from fs_rollback.errors import KernelError, UndoFailedError
from fs_rollback.system.store import journals
from tests.kernel.faults import Fault, Faulty, faulty, in_child, manifest, state
from tests.kernel.machine import Machine


@pytest.fixture
def upgraded(machine: Machine) -> Machine:
    """Give a machine with one bad upgrade behind it and a user's work after that."""
    machine.upgrade()
    machine.use(1)
    return machine


def _name(machine: Machine) -> str:
    return machine.snapshots()[0].name


def _points(machine: Machine) -> tuple[int, int]:
    """Return how many changes a rollback makes, and which of them is the commit."""
    made: list[Faulty] = []

    def make(host: object) -> Faulty:
        made.append(Faulty(host))  # type: ignore[arg-type]
        return made[-1]

    proposal = machine.roll_back(_name(machine), make)
    log = made[0].log
    machine.take_back()
    first = "exchange" if machine.layout.startswith("named") else "set_default"
    assert type(proposal.plan.commit_step).__name__.lower() == first.replace("_", "")
    return len(log), log.index(first)


def _settle(machine: Machine) -> None:
    """Do what any next run of the command does first."""
    with machine.writing():
        pass


def _is_finished(machine: Machine) -> bool:
    """Check everything that makes a rollback complete; False if the machine reads as before."""
    with machine.writing() as (_, store):
        journal = journals.read(store)
    if journal is None:
        return False
    root = machine.next_root()
    assert (root / "usr/bin/app").read_text() == "version 1\n"
    assert (root / "etc/app.conf").read_text() == "setting 1\n"
    assert (root / "root/.profile").read_text() == "user's 1\n"
    assert (root / "var/lib/machines/guest").read_text() == "user's 1\n"
    paths = machine.subvolume_paths()
    replaced = [s for s in machine.snapshots() if s.is_replaced]
    assert len(replaced) == 1
    assert replaced[0].id == journal.old_id
    assert (machine.top / replaced[0].path / "usr/bin/app").read_text() == "version 2\n"
    spare = [
        path for path in paths if path.startswith("fs-snapshots/root_") and path.count("/") == 1
    ]
    assert len(spare) == (1 if machine.layout == "top-level" else 0)
    return True


@contextmanager
def _unchanged(machine: Machine) -> Iterator[None]:
    before = state(machine)
    yield
    assert state(machine) == before


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.CTRL_C])
def test_rollback_survives_a_failure_at_every_point(upgraded: Machine, fault: Fault) -> None:
    points, _ = _points(upgraded)
    expected = KeyboardInterrupt if fault is Fault.CTRL_C else KernelError
    for point in range(points):
        with _unchanged(upgraded), pytest.raises(expected):
            upgraded.roll_back(_name(upgraded), faulty(point, fault))
    upgraded.roll_back(_name(upgraded))
    assert _is_finished(upgraded)


@pytest.mark.parametrize("fault", [Fault.KILL_BEFORE, Fault.KILL_AFTER])
def test_rollback_survives_a_kill_at_every_point(upgraded: Machine, fault: Fault) -> None:
    points, commit = _points(upgraded)
    before = state(upgraded)
    for point in range(points):
        work = partial(upgraded.roll_back, _name(upgraded), faulty(point, fault))
        assert in_child(work) == 9
        _settle(upgraded)
        committed = point > commit or (point == commit and fault is Fault.KILL_AFTER)
        assert _is_finished(upgraded) == committed, f"point {point}, commit {commit}"
        if committed:
            upgraded.take_back()
        assert state(upgraded) == before, f"point {point}"


@pytest.mark.parametrize("fault", [Fault.KILL_BEFORE, Fault.KILL_AFTER])
def test_undo_survives_a_kill_at_every_point(upgraded: Machine, fault: Fault) -> None:
    before = state(upgraded)
    for point in range(100):
        upgraded.roll_back(_name(upgraded))
        if in_child(partial(upgraded.take_back, faulty(point, fault))) == 0:
            assert point > 3
            break
        _settle(upgraded)
        if _is_finished(upgraded):
            upgraded.take_back()
        assert state(upgraded) == before, f"point {point}"
    assert state(upgraded) == before


def test_recovery_survives_a_kill_at_every_point(upgraded: Machine) -> None:
    """Kill a rollback right after its commit, then kill the run that finishes it, and so on."""
    from fs_rollback.system.execute import executor

    _, commit = _points(upgraded)
    before = state(upgraded)

    def settle_with(point: int) -> None:
        with upgraded.unsettled() as (host, store):
            executor.settle(store, journals.read(store), Faulty(host, point, Fault.KILL_AFTER))

    for start in (commit - 1, commit):
        for point in range(100):
            cut = faulty(start, Fault.KILL_AFTER)
            assert in_child(partial(upgraded.roll_back, _name(upgraded), cut)) == 9
            if in_child(partial(settle_with, point)) == 0:
                assert point > 0
                break
            _settle(upgraded)
            assert _is_finished(upgraded) == (start == commit)
            if start == commit:
                upgraded.take_back()
            assert state(upgraded) == before, f"start {start}, point {point}"
        if start == commit:
            assert _is_finished(upgraded)
            upgraded.take_back()
        assert state(upgraded) == before


def test_a_failing_undo_says_what_to_do_and_the_next_run_mends_it(upgraded: Machine) -> None:
    points, commit = _points(upgraded)
    before = state(upgraded)
    for point in range(points):
        with pytest.raises(UndoFailedError) as caught:
            upgraded.roll_back(_name(upgraded), faulty(point, Fault.ERROR_BEFORE, forever=True))
        assert caught.value.exit_code == 4
        assert caught.value.commands[0].startswith("mount -o subvolid=5 /dev/loop")
        _settle(upgraded)
        # Nobody could take it back, so past the commit the next run finishes it.
        assert _is_finished(upgraded) == (point > commit)
        if point > commit:
            upgraded.take_back()
        assert state(upgraded) == before, f"point {point}"


def test_the_old_root_is_never_touched(upgraded: Machine) -> None:
    old = manifest(upgraded.root)
    upgraded.roll_back(_name(upgraded))
    replaced = next(s for s in upgraded.snapshots() if s.is_replaced)
    tree = upgraded.top / (replaced.path if replaced.id != 5 else "")
    found = manifest(tree)
    extra = {p for p in found if p.split("/")[0] == "fs-snapshots"}
    old_extra = {p for p in old if p.startswith("fs-snapshots")}
    assert {p: v for p, v in found.items() if p not in extra} == {
        p: v for p, v in old.items() if p not in old_extra
    }
