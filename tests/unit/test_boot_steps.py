# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that pair kernel and root, on a model that dies at every change."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Optional

import pytest

from fs_rollback.core.rollback.kernel_steps import PutBackKernel, SetDefaultEntry, shown
from fs_rollback.core.rollback.plan import KernelPlan, Plan, plan_rollback
from fs_rollback.core.rollback.root_steps import Exchange, SetDefault
from fs_rollback.core.rollback.steps import RootStep
from tests.unit.filesystem import Cut, Filesystem
from tests.unit.machines import machine

KERNEL = "6.1"
SAVED = "top:fs-snapshots/boot/"
IMAGE, INITRD = "tree:boot/vmlinuz-6.1", "tree:boot/initramfs-6.1.img"
ENTRY = "tree:boot/loader/entries/x-6.1.conf"
GRUBENV = "tree:boot/grub2/grubenv"
PUT_BACK = PutBackKernel(KERNEL, (SAVED + "a", SAVED + "b", SAVED + "c"), (IMAGE, INITRD, ENTRY))
DEFAULT = SetDefaultEntry("x-6.1", KERNEL, GRUBENV, "saved_entry", "x-6.1", "x-6.2")


def disk_with(boot: Mapping[str, str] = {}, default: Optional[str] = "x-6.2") -> Filesystem:
    disk = Filesystem()
    disk.boot.update(boot)
    disk.settings[GRUBENV, "saved_entry"] = default
    return disk


def cut(disk: Filesystem, changes: int) -> None:
    disk.changes_left = changes


def entry_leads_somewhere(disk: Filesystem) -> bool:
    return ENTRY not in disk.boot or {IMAGE, INITRD} <= set(disk.boot)


def test_an_entry_never_names_what_is_not_there() -> None:
    for changes in range(4):
        disk = disk_with()
        cut(disk, changes)
        if changes < 3:
            with pytest.raises(Cut):
                PUT_BACK.apply(disk)
        else:
            PUT_BACK.apply(disk)
        assert len(disk.boot) == changes
        assert entry_leads_somewhere(disk)
    for changes in range(3):
        disk = disk_with()
        PUT_BACK.apply(disk)
        cut(disk, changes)
        with pytest.raises(Cut):
            PUT_BACK.undo(disk)
        assert len(disk.boot) == 3 - changes
        assert entry_leads_somewhere(disk)


def test_a_cut_off_step_is_finished_or_taken_back_by_the_next_run() -> None:
    for changes in range(3):
        for finish in (True, False):
            disk = disk_with()
            cut(disk, changes)
            with pytest.raises(Cut):
                PUT_BACK.apply(disk)
            cut(disk, 100)
            if finish:
                PUT_BACK.apply(disk)
                assert set(disk.boot) == {IMAGE, INITRD, ENTRY}
            else:
                PUT_BACK.undo(disk)
                assert disk.boot == {}


def test_what_was_there_already_stays_with_undo() -> None:
    disk = disk_with({IMAGE: "a distribution's"})
    PUT_BACK.apply(disk)
    assert disk.boot[IMAGE] == "a distribution's"
    PUT_BACK.undo(disk)
    assert disk.boot == {IMAGE: "a distribution's"}


@pytest.mark.parametrize("old", ["x-6.2", "", None])
def test_the_old_default_comes_back(old: Optional[str]) -> None:
    disk = disk_with(default=old)
    step = dataclasses.replace(DEFAULT, old=old)
    step.apply(disk)
    assert disk.settings[GRUBENV, "saved_entry"] == "x-6.1"
    step.apply(disk)
    step.undo(disk)
    assert disk.settings[GRUBENV, "saved_entry"] == old
    step.undo(disk)
    assert disk.settings[GRUBENV, "saved_entry"] == old


def test_a_default_that_somebody_has_set_since_is_not_taken_back() -> None:
    disk = disk_with()
    DEFAULT.apply(disk)
    disk.settings[GRUBENV, "saved_entry"] = "x-6.3"
    DEFAULT.undo(disk)
    assert disk.settings[GRUBENV, "saved_entry"] == "x-6.3"


def test_what_is_set_already_is_not_written_again() -> None:
    disk = disk_with(default="x-6.1")
    cut(disk, 0)
    DEFAULT.apply(disk)


def test_people_are_told_files_and_kernels_by_name() -> None:
    text = PUT_BACK.describe()
    for name in (KERNEL, "/boot/vmlinuz-6.1", "/boot/initramfs-6.1.img"):
        assert name in text
    assert "tree:" not in text
    assert "x-6.1" in DEFAULT.describe()
    assert "6.1" in DEFAULT.describe()
    assert shown("top:root/boot/vmlinuz") == "/mnt/root/boot/vmlinuz"
    assert shown("tree:boot/vmlinuz") == "/boot/vmlinuz"


@pytest.mark.parametrize(
    ("step", "command"),
    [
        (DEFAULT, "grub2-editenv /boot/grub2/grubenv set saved_entry=x-6.2"),
        (
            dataclasses.replace(DEFAULT, old=None),
            "grub2-editenv /boot/grub2/grubenv unset saved_entry",
        ),
        (
            dataclasses.replace(DEFAULT, file="top:boot/grub2/grubenv"),
            "grub2-editenv /mnt/boot/grub2/grubenv set saved_entry=x-6.2",
        ),
        (
            dataclasses.replace(DEFAULT, file="", key="LoaderEntryDefault", old="x-6.2.conf"),
            "bootctl set-default x-6.2.conf",
        ),
        (
            dataclasses.replace(DEFAULT, file="", key="LoaderEntryDefault", old=None),
            "bootctl set-default ''",
        ),
    ],
)
def test_what_to_type_where_undo_failed(step: SetDefaultEntry, command: str) -> None:
    assert step.by_hand() == (command,)


def test_a_line_of_loader_conf_is_named_and_its_old_value_too() -> None:
    step = dataclasses.replace(DEFAULT, file="tree:efi/loader/loader.conf", key="default")
    (line,) = step.by_hand()
    assert line.startswith("#"), "nothing to paste into a shell"
    assert "/efi/loader/loader.conf" in line
    assert "x-6.2" in line
    assert PUT_BACK.by_hand() == ()


def _plan(kernels: KernelPlan) -> Plan:
    return plan_rollback(dataclasses.replace(machine("fedora").situation, kernels=kernels))


def _index(plan: Plan, step: RootStep) -> int:
    return plan.steps.index(step)


def test_where_the_steps_stand_in_a_plan() -> None:
    """A kernel comes before the root that needs it; the default entry by which roots it starts."""
    plan = _plan(KernelPlan(PUT_BACK, DEFAULT, default_first=True))
    assert _index(plan, PUT_BACK) < _index(plan, DEFAULT) < plan.commit
    plan = _plan(KernelPlan(PUT_BACK, DEFAULT, default_first=False))
    assert _index(plan, PUT_BACK) < plan.commit < _index(plan, DEFAULT)
    # What decides the root is on the disk before the loader is told.
    between = plan.steps[plan.commit + 1 : _index(plan, DEFAULT)]
    assert "Sync" in [type(step).__name__ for step in between]
    assert not [s for s in plan.steps[: plan.commit] if isinstance(s, (Exchange, SetDefault))]
    plain = _plan(KernelPlan())
    assert not [s for s in plain.steps if isinstance(s, (PutBackKernel, SetDefaultEntry))]


def test_modules_are_lent_from_before_the_commit_until_after_the_new_default() -> None:
    plan = _plan(KernelPlan(PUT_BACK, DEFAULT, default_first=False, lend="6.2"))
    names = [type(step).__name__ for step in plan.steps]
    assert names.index("LendModules") < plan.commit
    # On the disk before the names are exchanged, and on the way back before the old default.
    assert "Sync" in names[names.index("LendModules") : plan.commit]
    after = names[names.index("SetDefaultEntry") :]
    assert after[:3] == ["SetDefaultEntry", "Sync", "ReturnModules"]
    assert _stored(plan) == plan


def _stored(plan: Plan) -> Plan:
    """Write the steps and read them back; which snapshot is the target stands beside them."""
    target = machine("fedora").situation.target
    stored = Plan.from_json(json.loads(json.dumps(plan.to_json())))
    return stored.with_target(target.name, target.path)


@pytest.mark.parametrize("first", [True, False])
def test_a_stored_plan_comes_back_as_it_was(first: bool) -> None:
    for default in (DEFAULT, dataclasses.replace(DEFAULT, old=None)):
        plan = _plan(KernelPlan(PUT_BACK, default, default_first=first))
        assert _stored(plan) == plan
