# SPDX-License-Identifier: GPL-2.0-or-later
"""What a first boot that was cut off leaves in its root is that root's alone."""

from __future__ import annotations

import os
from functools import partial

import btrfsutil

from fs_rollback.core.snapshots.snapshot import STAGING
from tests.kernel.commands import done
from tests.kernel.faults import Fault, Faulty, in_child
from tests.kernel.machine import Machine
from tests.kernel.reboots import arrive, left_behind, reboot, replaced, rolled_back
from tests.kernel.test_arrival_cut_off import bring_with, cut_in_root, write_in_the_window
from tests.kernel.test_store import listed, store_of

_TAKEN = "yum_20200101000000"


def _cut_off_when_ready(machine: Machine) -> None:
    for point in range(80):
        cut = partial(Faulty, point=point, fault=Fault.KILL_AFTER)
        assert in_child(partial(bring_with, machine, cut)) == 9
        place = machine.root / STAGING
        if place.is_dir() and "0.ready" in os.listdir(place) and (machine.root / "root").is_dir():
            return
    raise AssertionError


def test_a_new_root_believes_no_mark_of_its_target(named: Machine) -> None:
    rolled_back(named)
    write_in_the_window(named)
    reboot(named)
    _cut_off_when_ready(named)
    btrfsutil.create_snapshot(str(named.root), str(store_of(named) / _TAKEN), read_only=True)
    assert arrive(named).code == 0
    earlier = replaced(named)
    done(named.root, "rollback", "--yes", _TAKEN)
    assert not (named.next_root() / STAGING).exists()
    (named.root / "root/late").write_text("between rollback and reboot")
    reboot(named)
    (named.root / "root/.bash_history").write_text("before it was settled")
    ended = arrive(named)
    assert "the new root has already changed /root" in ended.err
    rows = listed(named)
    old = next(name for name in rows if name.startswith("replaced_") and name != earlier)
    assert "pinned" in rows[old]["marks"]
    assert left_behind(named) == set()


def test_what_is_away_is_at_its_place_in_a_new_root(named: Machine) -> None:
    """The path is not kept in that rollback, so it is as in the snapshot."""
    rolled_back(named)
    write_in_the_window(named)
    reboot(named)
    cut_in_root(named)
    btrfsutil.create_snapshot(str(named.root), str(store_of(named) / _TAKEN), read_only=True)
    assert arrive(named).code == 0
    named.roll_back(_TAKEN, keep=())
    assert (named.next_root() / "root").is_dir()
    assert not (named.next_root() / STAGING).exists()
    reboot(named)
    assert arrive(named).code == 0
    assert left_behind(named) == set()


def test_nobody_is_told_of_it_as_of_data(named: Machine) -> None:
    name = rolled_back(named)
    write_in_the_window(named)
    reboot(named)
    cut_in_root(named)
    for words in (("diff", name), ("rollback", "--dry-run", name), ("undo", "--dry-run")):
        ended = done(named.root, *words)
        assert STAGING not in ended.out + ended.err, words
