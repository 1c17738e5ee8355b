# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fs_rollback.core.rollback import (
    kernel_steps,
    mending_steps,
    nested_steps,
    root_steps,
    steps,
)
from fs_rollback.core.rollback.journal import Pending, PendingError, begun, dump, parse
from fs_rollback.core.rollback.plan import (
    CommitStep,
    Plan,
    Situation,
    nested_subvolumes,
    plan_rollback,
)
from fs_rollback.core.rollback.step import UnknownStepError
from fs_rollback.core.snapshots.snapshot import STORE
from fs_rollback.report import clean
from tests.unit.machines import LAYOUTS, NAME, REPLACED, SPARE, machine
from tests.unit.samples import subvolume

_PREPARING = (
    root_steps.CreateRoot,
    steps.KeepPaths,
    steps.CarrySubvolume,
    steps.SealSubvolumes,
    nested_steps.RemoveStubs,
    steps.MendFstab,
    nested_steps.AddMounts,
    root_steps.Sync,
)
EVERY_STEP: tuple[steps.RootStep, ...] = (
    root_steps.CreateRoot(f"{STORE}/{NAME}", SPARE, "0" * 32),
    steps.KeepPaths("root", SPARE, SPARE + ".keep", ("/home", "/a b", "/ä")),
    steps.CarrySubvolume("root", SPARE, "var/lib/machines"),
    steps.SealSubvolumes(SPARE, ("var/lib/x", "y")),
    nested_steps.RemoveStubs("", SPARE, (STORE,), ("home",)),
    steps.MendFstab(SPARE, "root"),
    steps.MendFstab(SPARE, ""),
    root_steps.Exchange("root", SPARE, "0" * 32),
    root_steps.Sync(),
    root_steps.SetDefault("root", 256),
    root_steps.SetAside(SPARE, REPLACED, "root", 256, "0" * 32, "2026-11-23T13:29:57Z", "why"),
    root_steps.SetAside(SPARE, REPLACED, "", 5, "0" * 32, "2026-11-23T13:29:57Z", "why"),
    root_steps.KeepNewRoot(SPARE, REPLACED, "2026-11-23T13:29:57Z", "why"),
    nested_steps.AddMounts(SPARE, ("UUID=1 /home btrfs subvol=home 0 0",)),
    nested_steps.RenewSwap(SPARE, ("swap/file",)),
    nested_steps.RestoreSubvolume(f"{STORE}/{REPLACED}", SPARE, "var/lib/x"),
    mending_steps.MendCommandLines(SPARE, "root", "root", "", ("etc/kernel/cmdline",)),
    mending_steps.Relabel(SPARE, "/etc has no usable label in the snapshot"),
    mending_steps.DropMounts(SPARE, ("UUID=2 /gone ext4 defaults 0 0",)),
    kernel_steps.PutBackKernel("6.1", ("saved/6.1",), ("top:boot/vmlinuz-6.1",)),
    kernel_steps.SetDefaultEntry("old", "6.1", "tree:etc/default", "saved_entry", "old", None),
    kernel_steps.ForgetOneShot("tree:boot/grub2/grubenv", "next_entry", "other"),
    kernel_steps.RenewMenu("root", SPARE, "boot/loader/entries", ("a.conf",), ("b.conf",)),
    kernel_steps.LendModules("root", SPARE, "6.1"),
    kernel_steps.ReturnModules(f"{STORE}/{REPLACED}", "root", "6.1", "0" * 32),
)


_MODULES = (steps, root_steps, nested_steps, mending_steps, kernel_steps)


def _changed(layout: str, **changes: Any) -> Situation:
    return dataclasses.replace(machine(layout).situation, **changes)


def _plan(layout: str, **changes: Any) -> Plan:
    return plan_rollback(_changed(layout, **changes))


def _pending(plan: Plan) -> Pending:
    return begun(machine("fedora").situation, plan, "admin", "boot")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_before_the_commit_plans_only_add(layout: str) -> None:
    plan = _plan(layout)
    assert isinstance(plan.steps[0], root_steps.CreateRoot)
    assert all(isinstance(step, _PREPARING) for step in plan.steps[: plan.commit])
    for step in plan.steps[: plan.commit]:
        # Everything that writes says where: in the new root, never in the old one.
        assert getattr(step, "spare", SPARE) == SPARE
    # A root that is not on the disk must not be committed to, and neither must the commit wait.
    assert isinstance(plan.steps[plan.commit - 1], root_steps.Sync)
    assert isinstance(plan.steps[plan.commit + 1], root_steps.Sync)
    assert isinstance(plan.steps[-2], root_steps.SetAside)
    assert isinstance(plan.steps[-1], root_steps.Sync)


@pytest.mark.parametrize(
    ("layout", "commit", "after"),
    [
        ("fedora", root_steps.Exchange, ["Sync", "SetAside", "Sync"]),
        ("oracle", root_steps.Exchange, ["Sync", "SetDefault", "SetAside", "Sync"]),
        ("opensuse", root_steps.SetDefault, ["Sync", "Exchange", "SetAside", "Sync"]),
        ("2011", root_steps.SetDefault, ["Sync", "SetAside", "Sync"]),
    ],
)
def test_each_layout_has_its_commit(
    layout: str, commit: type[CommitStep], after: list[str]
) -> None:
    plan = _plan(layout)
    assert type(plan.commit_step) is commit
    assert [type(step).__name__ for step in plan.steps[plan.commit + 1 :]] == after


@pytest.mark.parametrize("layout", LAYOUTS)
def test_nested_subvolumes_come_parents_first(layout: str) -> None:
    found = machine(layout)
    expected = ["var/lib/machines", "var/lib/machines/inner"]
    plan = plan_rollback(found.situation)
    carried = [step.path for step in plan.steps if isinstance(step, steps.CarrySubvolume)]
    assert carried == expected
    # Sealed last: nothing can be put into a read-only subvolume.
    sealed = [step for step in plan.steps if isinstance(step, steps.SealSubvolumes)]
    assert [step.paths for step in sealed] == [("var/lib/machines/inner",)]
    last = max(n for n, s in enumerate(plan.steps) if isinstance(s, steps.CarrySubvolume))
    assert plan.steps.index(sealed[0]) > last


def test_names_that_begin_like_the_root_are_not_nested() -> None:
    situation = _changed("fedora")
    others = [subvolume(900 + n, path) for n, path in enumerate(("root2", "root.old/a", "rooted"))]
    inside = [subvolume(990, "root/z"), subvolume(991, "root/a-b"), subvolume(992, "root/a")]
    situation = _changed("fedora", subvolumes=(*situation.subvolumes, *others, *inside))
    assert [s.path for s in nested_subvolumes(situation)] == [
        "root/a",
        "root/a-b",
        "root/var/lib/machines",
        "root/var/lib/machines/inner",
        "root/z",
    ]


def test_what_stays_in_the_top_level() -> None:
    stays = [
        STORE + "/yum_20200101000000",
        STORE + "/replaced_20200101000000/nested",
        "fs-snapshots/root_20200101000000",
        "fs-snapshots/root_20200101000000/var/lib/machines",
        "ext2_saved",
        "home",
        "home/.snapshots",
    ]
    goes = ["fs-snapshots2", "homes", "srv", "ext2_saved2"]
    numbered = enumerate((*stays, *goes))
    situation = _changed("2011")
    added = tuple(subvolume(900 + n, path) for n, path in numbered)
    situation = _changed("2011", subvolumes=(*situation.subvolumes, *added))
    found = {s.path for s in nested_subvolumes(situation)}
    assert found == {*goes, "var/lib/machines", "var/lib/machines/inner"}


def test_stubs_are_cleared_where_nothing_is_carried() -> None:
    # A snapshot of the top level has stand-ins of the store and of what fstab mounts.
    stubs = frozenset({"home", "old", "srv/x", "root/y", "var/lib/machines", STORE + "/yum_1"})
    plan = _plan("2011", stubs=stubs, outside=frozenset({"old"}))
    found = [step for step in plan.steps if isinstance(step, nested_steps.RemoveStubs)]
    # What is kept comes from today, with what is there now at such a place.
    assert [(s.remove, s.directories) for s in found] == [((STORE, "old"), ("home", "srv/x"))]
    assert not any(isinstance(step, nested_steps.RemoveStubs) for step in _plan("fedora").steps)


@pytest.mark.parametrize(
    ("layout", "says", "wanted"),
    [
        ("fedora", "root", None),
        ("fedora", "", None),
        ("fedora", "old-name", "root"),
        ("fedora", "subvolid=256", "root"),
        ("2011", "", None),
        ("2011", "root", ""),
        ("opensuse", "@", ""),
    ],
)
def test_fstab_is_mended_only_where_it_names_another(
    layout: str, says: str, wanted: str | None
) -> None:
    plan = _plan(layout, target_fstab_subvolume=says)
    found = [step.subvolume for step in plan.steps if isinstance(step, steps.MendFstab)]
    assert found == ([] if wanted is None else [wanted])


def test_nothing_to_keep_or_carry_leaves_no_step() -> None:
    situation = _changed("fedora")
    bare = tuple(s for s in situation.subvolumes if not s.path.startswith("root/"))
    plan = _plan("fedora", keep=(), subvolumes=bare, stubs=frozenset())
    assert [type(s).__name__ for s in plan.steps] == [
        "CreateRoot",
        "Sync",
        "Exchange",
        "Sync",
        "SetAside",
        "Sync",
    ]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_plan_is_a_function_of_its_situation(layout: str) -> None:
    assert _plan(layout) == _plan(layout)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_journal_brings_back_the_very_plan(layout: str) -> None:
    pending = _pending(_plan(layout))
    assert parse(dump(pending)) == pending
    json.loads(dump(pending))


def test_every_kind_of_step_is_read_back() -> None:
    there = [value for module in _MODULES for value in vars(module).values()]
    kinds = {v.__name__ for v in there if isinstance(v, type) and dataclasses.is_dataclass(v)}
    assert {type(step).__name__ for step in EVERY_STEP} == kinds
    plan = Plan(EVERY_STEP, 7).with_new_root("1" * 32).with_target(NAME, f"{STORE}/{NAME}")
    pending = _pending(plan)
    assert parse(dump(pending)) == pending
    assert {type(step) for step in parse(dump(pending)).plan.steps} == {type(s) for s in EVERY_STEP}


class _Noted:
    """Operations that change nothing, and note the paths they were asked for."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def operation(*arguments: Any, **_: Any) -> Any:
            self.paths += [value for value in arguments if isinstance(value, str)]
            if name == "subvolume":  # as before the commit
                return 256, ("0" if arguments[0] == "root" else "1") * 32
            return None

        return operation


@pytest.mark.parametrize("step", EVERY_STEP, ids=lambda step: type(step).__name__)
def test_what_is_undone_inside_the_new_root_says_so(step: steps.RootStep) -> None:
    # The executor leaves that out where somebody put something else in the place of the new root.
    noted = _Noted()
    step.undo(noted)
    inside = [path for path in noted.paths if path.startswith(f"{SPARE}/")]
    assert isinstance(step, steps.StepUndoneInNewRoot) == bool(inside)


def _broken(**changes: Any) -> str:
    data = json.loads(dump(_pending(Plan(EVERY_STEP, 7))))
    for key, value in changes.items():
        if key in ("steps", "commit"):
            data["plan"][key] = value
        elif key in data["roots"]:
            data["roots"][key] = value
        else:
            data[key] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "{}",
        "[" * 100_000,
        "\ud800",
        _broken(version=2),
        _broken(version="1"),
        _broken(state="done"),
        _broken(old_id=None),
        _broken(old_id=float("inf")),
        _broken(old_id=float("nan")),
        _broken(plan=None),
        _broken(plan=[]),
        _broken(steps=None),
        _broken(steps=[]),
        _broken(steps=[[]]),
        _broken(steps=[{}]),
        _broken(steps=[{"step": "Format", "device": "/dev/vda"}]),
        _broken(steps=[{"step": "Sync", "extra": 1}]),
        _broken(steps=[{"step": "Exchange", "root": "root"}]),
        _broken(steps=[{"step": ["Sync"]}]),
        _broken(commit=0),
        _broken(commit=99),
        _broken(commit=float("inf")),
        _broken(commit="x"),
        _broken(roots=None),
        _broken(roots={}),
        _broken(root=None),
        _broken(layout="pinned"),
        _broken(spare=["fs-snapshots"]),
        _broken(kept="/home"),
        _broken(kept=[1]),
        _broken(carried={"var": 1}),
    ],
    ids=range(34),
)
def test_what_is_no_journal_is_refused(text: str) -> None:
    with pytest.raises(PendingError):
        parse(text)


def test_an_unknown_step_is_named() -> None:
    with pytest.raises(UnknownStepError, match="unknown step Format"):
        Plan.from_json({"commit": 0, "steps": [{"step": "Format"}]})


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_step_is_one_whole_sentence(layout: str) -> None:
    for plan in (_plan(layout), Plan(EVERY_STEP, 7)):
        sentences = [step.describe() for step in plan.steps]
        assert len(sentences) == len(plan.steps)
        for sentence in sentences:
            assert re.fullmatch(r"[A-Z].*[^ ]\.", sentence), sentence
            assert not re.search(r"None|\{|\}|  |//|: \.|, \.|''|\(\)|/\.$", sentence), sentence


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_command_for_hands_is_whole(layout: str) -> None:
    for step in (*_plan(layout).steps, *EVERY_STEP):
        for command in step.by_hand():
            assert re.match(r"(btrfs|mv|rm|python3|grub2-editenv) [^ ]", command)
            assert "None" not in command.replace("CDLL(None)", "")
            assert "//" not in command


_EVIL = (
    "a b",
    "it's",
    "$(reboot)",
    "; reboot #",
    "`reboot`",
    "a\nreboot",
    "\x1b[2J",
    "\udcff",
    "-r",
)


@pytest.mark.parametrize("name", _EVIL)
def test_no_name_escapes_from_a_command_for_hands(name: str, tmp_path: Path) -> None:
    # Any user may make a subvolume in their home and name it; root is told to copy the command.
    script = tmp_path / "script"
    shown = root_steps.Exchange(f"home/{name}", SPARE, "0" * 32).by_hand()
    for command, path in ((shown[0], f"/mnt/home/{name}"),):
        assert clean(command) == command
        script.write_text(f"btrfs() {{ printf '%s' \"$3\"; }}\n{command}\n")
        done = subprocess.run(("bash", str(script)), capture_output=True, check=True)
        assert done.stdout == os.fsencode(path)
    script.write_text(f"python3() {{ printf '%s' \"$3\"; }}\n{shown[1]}\n")
    done = subprocess.run(("bash", str(script)), capture_output=True, check=True)
    assert done.stdout == os.fsencode(f"/mnt/home/{name}")


def test_the_exchange_by_hand_exchanges(tmp_path: Path) -> None:
    (tmp_path / "my root").write_text("old")
    (tmp_path / "spare").write_text("new")
    command = root_steps.Exchange("my root", "spare", "0" * 32).by_hand()[1]
    here = command.replace("/mnt/", f"{tmp_path}/")
    subprocess.run(("sh", "-c", here), check=True)
    assert (tmp_path / "my root").read_text() == "new"
    assert (tmp_path / "spare").read_text() == "old"
    (tmp_path / "spare").unlink()
    done = subprocess.run(("sh", "-c", here), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "not exchanged\n")
