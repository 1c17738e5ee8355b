# SPDX-License-Identifier: GPL-2.0-or-later
"""Plans carried out and taken back on a model of a filesystem, cut off at every change."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TypeVar

import pytest

from fs_rollback.core.rollback import nested_steps, root_steps, steps
from fs_rollback.core.rollback.plan import plan_rollback
from fs_rollback.core.snapshots.record import Kind, parse
from fs_rollback.core.snapshots.replaced_by import ReplacedBy
from fs_rollback.core.snapshots.snapshot import STORE
from fs_rollback.errors import StoreError
from tests.unit.filesystem import Cut, Filesystem
from tests.unit.machines import LAYOUTS, NAME, REPLACED, SPARE, Machine, join, machine
from tests.unit.samples import uuid_of

_Step = TypeVar("_Step", bound=steps.RootStep)


def _aware(disk: Filesystem, step: _Step) -> _Step:
    """Return a step that knows the new root's UUID, as the executor tells it once there is one."""
    if not isinstance(step, (root_steps.CreateRoot, root_steps.Exchange, root_steps.SetDefault)):
        return step
    target = disk.trees[f"{STORE}/{NAME}"].id
    made = (t for t in disk.trees.values() if t.origin == target and not t.read_only)
    uuid = next((uuid_of(tree.id) for tree in made), "")
    return dataclasses.replace(step, new_uuid=uuid)


def _steps(found: Machine) -> tuple[steps.RootStep, ...]:
    return plan_rollback(found.situation).steps


def _apply(disk: Filesystem, row: Sequence[steps.RootStep], changes: int = 10**9) -> bool:
    """Apply steps until the process dies; returns whether it lived."""
    disk.changes_left = changes
    try:
        for step in row:
            _aware(disk, step).apply(disk)
    except Cut:
        return False
    finally:
        disk.changes_left = 10**9
    return True


def _undo(disk: Filesystem, row: Sequence[steps.RootStep], changes: int = 10**9) -> bool:
    disk.changes_left = changes
    try:
        for step in reversed(row):
            _aware(disk, step).undo(disk)
    except Cut:
        return False
    finally:
        disk.changes_left = 10**9
    return True


def _count(layout: str) -> int:
    """Return how many changes a whole rollback makes."""
    found = machine(layout)
    _apply(found.filesystem, _steps(found))
    return next(
        n for n in itertools.count() if _apply(machine(layout).filesystem, _steps(found), n)
    )


def _expect_new_root(found: Machine, before: Filesystem) -> None:
    """What a rollback promises, in the words of an administrator."""
    disk, root = found.filesystem, found.next_root()
    seen = disk.visible(root)
    assert seen["usr/bin/app"] == "version 1"
    assert seen["var/data"] == "data 1"
    assert "usr/bin/new" not in seen
    # What is kept comes along, and so do nested subvolumes with their present content.
    assert seen["root/.profile"] == "written 2"
    assert seen["var/log/messages"] == "line 2"
    assert seen["var/lib/machines/guest"] == "2"
    assert seen["var/lib/machines/inner/file"] == "1"
    assert disk.trees[join(root, "var/lib/machines/inner")].read_only
    assert not disk.trees[join(root, "var/lib/machines")].read_only
    assert not disk.trees[root].read_only
    # Nothing stands in for anything.
    assert disk.trees[root].stubs == frozenset()
    # The snapshot is not consumed, and what lies beside the root is untouched.
    for path in (f"{STORE}/{NAME}", "home", "ext2_saved", "@"):
        assert disk.trees.get(path) == before.trees.get(path)
    assert not [path for path in disk.trees if path.endswith(".keep")]
    _expect_replaced(found, before)


def _expect_replaced(found: Machine, before: Filesystem) -> None:
    disk, old = found.filesystem, before.trees[found.root]
    place = f"{STORE}/{REPLACED}" if found.root else ""
    assert disk.trees[place] == old
    assert disk.visible(place)["usr/bin/app"] == "version 2"
    assert disk.trees[join(place, "var/lib/machines")].files == {"guest": "2"}
    record = parse(disk.records[REPLACED])
    assert (record.name, record.kind) == (REPLACED, Kind.REPLACED)
    assert record.source == (found.root, old.id, uuid_of(old.id))
    assert record.uuid == uuid_of(old.id)
    assert record.kernels == ("6.1",)
    assert record.replaced_by == ReplacedBy(NAME, before.trees[f"{STORE}/{NAME}"].id)
    assert record.full_description == f"replaced by {NAME}"
    # A named root is found by its name, and by the default subvolume as well where it was that.
    if found.root and before.default == old.id:
        assert disk.default == disk.trees[found.root].id
    if not found.root or "snapshot" in found.root:
        assert disk.default == disk.trees[found.next_root()].id
    assert (SPARE in disk.trees) == (not found.root)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_rollback_keeps_its_promises(layout: str) -> None:
    found = machine(layout)
    before = machine(layout).filesystem
    assert _apply(found.filesystem, _steps(found))
    _expect_new_root(found, before)
    assert found.filesystem.synced == found.filesystem.state()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_undo_brings_back_the_state_of_before_after_any_number_of_steps(layout: str) -> None:
    row = _steps(machine(layout))
    for count in range(len(row) + 1):
        found = machine(layout)
        before = found.filesystem.state()
        _apply(found.filesystem, row[:count])
        assert _undo(found.filesystem, row[:count])
        assert found.filesystem.state() == before, f"after {count} steps"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_process_killed_before_any_change_is_taken_back_whole(layout: str) -> None:
    # The next run does not know how far it came: it undoes every step, tried or not.
    for changes in range(_count(layout) + 1):
        found = machine(layout)
        before = found.filesystem.state()
        row = _steps(found)
        _apply(found.filesystem, row, changes)
        assert _undo(found.filesystem, row)
        assert found.filesystem.state() == before, f"killed before change {changes}"


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_undo_killed_in_the_middle_goes_on_where_it_was(layout: str) -> None:
    for first in range(_count(layout) + 1):
        for second in range(12):
            found = machine(layout)
            before = found.filesystem.state()
            row = _steps(found)
            _apply(found.filesystem, row, first)
            lived = _undo(found.filesystem, row, second)
            assert _undo(found.filesystem, row)
            assert found.filesystem.state() == before, f"killed before {first}, then {second}"
            if lived:
                break


@pytest.mark.parametrize("layout", LAYOUTS)
def test_undo_twice_is_undo_once(layout: str) -> None:
    found = machine(layout)
    before = found.filesystem.state()
    row = _steps(found)
    _apply(found.filesystem, row)
    assert _undo(found.filesystem, row)
    assert _undo(found.filesystem, row)
    assert found.filesystem.state() == before


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_follows_the_commit_may_run_again(layout: str) -> None:
    plan = plan_rollback(machine(layout).situation)
    after = plan.steps[plan.commit + 1 :]
    prepared = machine(layout)
    _apply(prepared.filesystem, plan.steps)
    finished = prepared.filesystem.state()
    assert _apply(prepared.filesystem, after)
    assert prepared.filesystem.state() == finished
    for changes in range(20):
        found = machine(layout)
        _apply(found.filesystem, plan.steps[: plan.commit + 1])
        assert _aware(found.filesystem, plan.commit_step).done(found.filesystem)
        lived = _apply(found.filesystem, after, changes)
        # Killed there, the next run finishes; the commit is known by reading the machine.
        assert _aware(found.filesystem, plan.commit_step).done(found.filesystem)
        assert _apply(found.filesystem, after)
        assert found.filesystem.state() == finished
        if lived:
            break


@pytest.mark.parametrize("layout", LAYOUTS)
def test_before_the_commit_nothing_that_exists_changes(layout: str) -> None:
    plan = plan_rollback(machine(layout).situation)
    for count in range(plan.commit + 1):
        found = machine(layout)
        trees, default, records = found.filesystem.state()
        _apply(found.filesystem, plan.steps[:count])
        after = found.filesystem
        assert {path: after.trees.get(path) for path in trees} == trees
        assert (after.default, after.records) == (default, records)
        assert not _aware(after, plan.commit_step).done(after)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_at_every_instant_a_boot_finds_a_whole_root(layout: str) -> None:
    old = machine(layout)
    version_2 = old.filesystem.visible(old.root)
    new = machine(layout)
    _apply(new.filesystem, _steps(new))
    version_1 = new.filesystem.visible(new.next_root())
    for changes in range(_count(layout) + 1):
        found = machine(layout)
        _apply(found.filesystem, _steps(found), changes)
        disk = found.filesystem
        assert disk.visible(found.next_root()) in (version_1, _at(version_2, disk, found))
        # What the disk had at the last sync boots too: a power cut loses what came after.
        cut = Filesystem()
        cut.trees, cut.default, cut.records = disk.synced
        seen = found._replace(filesystem=cut)
        assert cut.visible(seen.next_root())["usr/bin/app"] in ("version 1", "version 2")


def _at(version_2: dict[str, str], disk: Filesystem, found: Machine) -> dict[str, str]:
    """Return the old root as it is seen: in the top level, what lies beside it shows as well."""
    return version_2 if found.root else disk.visible("")


def test_a_rollback_can_be_rolled_back_and_the_same_snapshot_used_twice() -> None:
    found = machine("fedora")
    row = _steps(found)
    _apply(found.filesystem, row)
    _undo(found.filesystem, row)
    before = found.filesystem.state()
    assert _apply(found.filesystem, row)
    assert found.filesystem.visible("root")["usr/bin/app"] == "version 1"
    assert _undo(found.filesystem, row)
    assert found.filesystem.state() == before


def test_undo_never_deletes_the_old_root() -> None:
    # Somebody moved the old root to where the new one should be, by hand.
    found = machine("fedora")
    row = _steps(found)
    disk = found.filesystem
    disk.rename("root", SPARE)
    with pytest.raises(StoreError, match="old root"):
        row[0].undo(disk)
    assert disk.visible(SPARE)["usr/bin/app"] == "version 2"


def test_keeping_goes_on_after_a_kill() -> None:
    # What a killed copy left of the frozen image is old: it is made anew.
    disk = machine("fedora").filesystem
    disk.snapshot(f"{STORE}/{NAME}", SPARE, read_only=False)
    step = steps.KeepPaths("root", SPARE, SPARE + ".keep", ("/root",))
    for changes in range(5):
        _apply(disk, [step], changes)
        disk.trees["root"].files["root/.profile"] = f"written {changes + 3}"
        assert _apply(disk, [step])
        assert disk.visible(SPARE)["root/.profile"] == f"written {changes + 3}"
        assert SPARE + ".keep" not in disk.trees


def test_fstab_is_mended_in_the_new_root_only() -> None:
    disk = machine("2011").filesystem
    disk.snapshot("", SPARE, read_only=False)
    fstab = "# mine\nUUID=5b5b\t/ btrfs\tsubvol=root,noatime 0 0\n"
    disk.write_file(SPARE, "etc/fstab", fstab)
    old = disk.read_file("", "etc/fstab")
    steps.MendFstab(SPARE, "").apply(disk)
    assert disk.read_file(SPARE, "etc/fstab") == fstab.replace("subvol=root,", "")
    assert disk.read_file("", "etc/fstab") == old
    # Nothing to change is nothing written.
    assert _apply(disk, [steps.MendFstab(SPARE, "")], changes=0)


def test_stand_ins_are_cleared_and_mount_points_stay() -> None:
    disk = machine("2011").filesystem
    disk.snapshot("", SPARE, read_only=False)
    assert STORE + "/" + NAME in disk.trees[SPARE].stubs
    nested_steps.RemoveStubs("", SPARE, (STORE + "/" + NAME, "ext2_saved"), ("home",)).apply(disk)
    assert disk.trees[SPARE].stubs == {"var/lib/machines"}
    assert disk.trees[SPARE].files["home"] == "directory"
