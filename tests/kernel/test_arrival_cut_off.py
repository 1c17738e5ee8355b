# SPDX-License-Identifier: GPL-2.0-or-later
"""The first boot of a new root, cut off at every point, stopped, and on a full disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.progress import untold
from fs_rollback.core.snapshots.snapshot import STAGING
from fs_rollback.errors import StoreError
from fs_rollback.system.execute.trees import Operations as RealOperations
from fs_rollback.system.machine import host
from fs_rollback.system.pending import settle
from fs_rollback.system.store import store
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import Fault, Faulty, in_child, manifest
from tests.kernel.machine import Machine
from tests.kernel.reboots import (
    KEPT,
    arrive,
    journal_of,
    left_behind,
    reboot,
    rolled_back,
)


class _Faulty(Faulty):
    """Each change in a kept path is a point, too."""

    def told(self, _done: int, _total: int) -> None:
        number = len(self.log)
        self.log.append("told")
        if number == self._point:
            self._strike(before=True)
            self._strike(before=False)


class _CutInRoot(_Faulty):
    """Is killed in the middle of the first path that is changed."""

    def told(self, done: int, _total: int) -> None:
        if done == 2:
            os.kill(os.getpid(), 9)


def bring_with(machine: Machine, make: Callable[[host.Host], Faulty]) -> settle.Settled:
    with host.opened(str(machine.root)) as opened, store.opened(opened) as found:
        assert found is not None
        with found.locked():
            made = make(opened)
            told = getattr(made, "told", untold)
            return settle.settle(
                opened, found, made, bring=True, watch=lambda *_: nullcontext(told)
            )


def cut_in_root(machine: Machine) -> None:
    """Leave a machine whose first boot was cut off while /root is away."""
    assert in_child(partial(bring_with, machine, _CutInRoot)) == 9
    assert (machine.root / "root").is_file()


def write_in_the_window(machine: Machine) -> None:
    """Change one path by little, and put another directory in the place of the other."""
    (machine.root / "root").chmod(0o750)
    for path in (machine.root / "root").iterdir():
        path.unlink()
    (machine.root / "root/added").write_text("new")
    shutil.rmtree(machine.root / "var/log")
    (machine.root / "var/log").mkdir()
    (machine.root / "var/log/messages").write_text("last line")
    (machine.root / "var/lib/machines/guest").write_text("last")
    inner = str(machine.root / "var/lib/machines/inner")
    btrfsutil.set_subvolume_read_only(inner, False)
    (machine.root / "var/lib/machines/inner/file").write_text("last")
    btrfsutil.set_subvolume_read_only(inner, True)


def _user_data(root: Path) -> dict[str, object]:
    return {path: manifest(root / path) for path in (*KEPT, "var/lib/machines")}


@pytest.mark.parametrize("fault", [Fault.KILL_BEFORE, Fault.KILL_AFTER])
def test_a_power_cut_at_every_point(machine: Machine, fault: Fault) -> None:
    """The first boot is cut off, the next one does the rest; then once more with half of it."""
    rolled_back(machine)
    write_in_the_window(machine)
    expected = _user_data(machine.root)
    reboot(machine)
    for point in range(200):
        cut = partial(_Faulty, point=point, fault=fault)
        if in_child(partial(bring_with, machine, cut)) == 0:
            assert point > 2
            break
        _check_no_half(machine)
    assert _user_data(machine.root) == expected
    assert not journal_of(machine).exists()
    assert left_behind(machine) == set()


def _check_no_half(machine: Machine) -> None:
    """Whatever lies at its place is whole: as at the rollback, or as at the reboot."""
    if (machine.root / "root").is_file():  # it is out of reach, and nobody can write there
        assert "fs-rollback settle" in machine.read("root")
    else:
        assert (machine.root / "root").stat().st_mode & 0o7777 in (0o750, 0o755)
        files = {p.name for p in (machine.root / "root").iterdir()}
        assert files in ({".profile"}, {"added"})
    assert machine.read("var/log/messages") in ("user's 1\n", "last line")
    assert machine.read("var/lib/machines/guest") in ("user's 1\n", "last")
    assert (machine.root / "var/lib/machines/inner/file").read_text() in ("inner 1\n", "last")


@pytest.mark.rare  # test_arrival_by_difference.py cuts off each path, the test above each part
def test_each_cut_boot_after_a_fresh_rollback(named: Machine) -> None:
    name = rolled_back(named)
    for point in range(200):
        write_in_the_window(named)
        (named.root / "root/point").write_text(str(point))
        expected = _user_data(named.root)
        reboot(named)
        cut = partial(_Faulty, point=point, fault=Fault.KILL_AFTER)
        killed = in_child(partial(bring_with, named, cut))
        assert killed in (0, 9)
        ended = arrive(named)
        assert (ended.code, ended.err) == (0, ""), f"point {point}"
        assert _user_data(named.root) == expected, f"point {point}"
        assert not journal_of(named).exists()
        assert left_behind(named) == set()
        if not killed:
            assert point > 10
            return
        named.roll_back(name)
    raise AssertionError


def test_a_unit_that_was_killed_while_the_boot_goes_on(machine: Machine) -> None:
    taken_away = 0
    for point in (3, 9, 14, 20):
        name = machine.upgrade(point)
        machine.roll_back(name)
        write_in_the_window(machine)
        expected = _user_data(machine.root)
        reboot(machine)
        cut = partial(_Faulty, point=point, fault=Fault.KILL_AFTER)
        assert in_child(partial(bring_with, machine, cut)) == 9
        between = _user_data(machine.root)
        if (machine.root / "root").is_file():
            taken_away += 1
            between["root"] = expected["root"]
        ended = arrive(machine, "--missed")
        assert ended.code == 0
        assert "<4>fs-rollback: it was stopped before everything was copied" in ended.err
        assert _user_data(machine.root) == between
        assert not journal_of(machine).exists()
        assert left_behind(machine) == set()
        ended = arrive(machine)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
        assert _user_data(machine.root) == between
        assert arrive(machine, "--missed").out == ""
    assert taken_away


@pytest.mark.parametrize("word", ["settle", "create"])
def test_whatever_command_comes_first_puts_a_path_back(named: Machine, word: str) -> None:
    """Neither the unit nor --missed came to it, and somebody has removed the journal."""
    rolled_back(named)
    before = _user_data(named.root)["root"]
    write_in_the_window(named)
    reboot(named)
    cut_in_root(named)
    journal_of(named).unlink()
    assert "still moved aside: /root. " in fs_rollback(named.root, "status").out
    assert "rollback.path-away" in fs_rollback(named.root, "check", "--json").out
    ended = done(named.root, word)
    assert "/root is again as it was" in ended.out + ended.err
    assert _user_data(named.root)["root"] == before
    assert not (named.root / STAGING).exists()


def test_what_cannot_be_brought_over_costs_nothing_else(machine: Machine) -> None:
    """Without kept paths there is no image of the old root to clear away."""
    machine.roll_back(machine.upgrade(), keep=())
    (machine.root / "var/lib/machines/guest").write_text("last")
    reboot(machine)
    before = machine.subvolume_paths()
    ended = bring_with(machine, partial(_Faulty, point=1, fault=Fault.ERROR_BEFORE))
    assert len(ended.problems) == 1
    assert ended.problems[0].startswith(
        "/var/lib/machines was not copied to the new root: cannot do"
    )
    with machine.unsettled() as (opened, _), pytest.raises(StoreError, match="the top level"):
        RealOperations(opened).delete("")
    assert machine.subvolume_paths() == before


def test_missed_leaves_a_rollback_that_waits(named: Machine) -> None:
    rolled_back(named)
    before = journal_of(named).read_text()
    for option in ("--missed", "--at-boot"):
        ended = arrive(named, option)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert "is waiting for a reboot" in done(named.root, "settle").out
    assert journal_of(named).read_text() == before
