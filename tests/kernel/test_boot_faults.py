# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults and power cuts where a rollback puts a kernel back and changes the default entry.

/boot is on ext4. Kernel A is gone from it since kernel B came, and the snapshot has the modules of
A only. "shared": the running root has A's modules still, so that A starts the old root as well.
"""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path

import pytest

from fs_rollback.config import Config
from fs_rollback.core.rollback.kernel_steps import PutBackKernel, SetDefaultEntry
from fs_rollback.errors import KernelError, UndoFailedError
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.pending import settle
from fs_rollback.system.store import journals
from tests.kernel.boots import A as KERNEL_A
from tests.kernel.boots import B as KERNEL_B
from tests.kernel.boots import BootMachine, MakeBoot, make_boot
from tests.kernel.faults import Fault, Faulty, faulty, in_child, manifest, state
from tests.kernel.images import Camera

__all__ = ["make_boot"]  # a fixture

_KINDS = ("shared", "not shared")
# After one change is before the next one.
_KILLS = (Fault.KILL_BEFORE, pytest.param(Fault.KILL_AFTER, marks=pytest.mark.rare))


@pytest.fixture(params=_KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def box(make_boot: MakeBoot, kind: str) -> BootMachine:
    """Give a machine after a transaction that replaced its kernel, and a user's work after that."""
    found = make_boot("ext4")
    found.transact(partial(_replace_kernel, found), Config(boot_entries=0))
    found.remove_kernel(KERNEL_A)
    if kind == "not shared":
        found.remove_modules(KERNEL_A)
    found.machine.use(1)
    return found


def _replace_kernel(box: BootMachine) -> None:
    box.install_b()
    for path, text in (("usr/bin/app", "version 2\n"), ("var/data", "2\n")):
        (box.root / path).write_text(text)


def test_a_power_cut_is_settled_when_boot_is_mounted(box: BootMachine) -> None:
    """The unit of the first boot runs before any mount: /boot is an empty directory then."""
    before = _state(box)
    for point in range(100):
        rolling = partial(box.machine.roll_back, _name(box), faulty(point, Fault.KILL_BEFORE))
        if in_child(rolling) == 0:
            break
        new, menu = _is_new(box), manifest(box.place)
        box.unmount()
        box.machine.reboot()
        assert _settle_at_boot(box).postponed
        assert not list(box.place.iterdir())
        box.mount()
        assert manifest(box.place) == menu
        _settle(box)
        assert _is_new(box) == new
        assert box.boots() == (KERNEL_A if new else KERNEL_B)
        if new:
            box.reboot()
            _undo_after_the_reboot(box)
            return
        assert _state(box) == before, f"point {point}"
    pytest.fail("no point after the commit was met")


def _settle_at_boot(box: BootMachine) -> settle.Settled:
    with box.machine.unsettled() as (opened, store):
        return settle.settle(opened, store, Operations(opened), bring=True)


def _undo_after_the_reboot(box: BootMachine) -> None:
    replaced = next(s.name for s in box.machine.snapshots() if s.is_replaced)
    box.machine.roll_back(replaced)
    assert not _is_new(box)
    assert box.boots() == KERNEL_B


def _name(box: BootMachine) -> str:
    return next(s.name for s in box.machine.snapshots() if not s.is_replaced)


def _state(box: BootMachine) -> dict[str, object]:
    return {**state(box.machine), "boot": manifest(box.place)}


def _settle(box: BootMachine) -> None:
    """Do what any next run of the command does first."""
    with box.machine.writing():
        pass


def _is_new(box: BootMachine) -> bool:
    """Whether the next boot finds the restored root."""
    return (box.machine.next_root() / "usr/bin/app").read_text() == "version 1\n"


def _is_finished(box: BootMachine) -> bool:
    """Check everything that makes a rollback complete; False if none waits for its reboot."""
    with box.machine.writing() as (_, store):
        journal = journals.read(store)
    if journal is None:
        return False
    assert _is_new(box)
    assert box.boots() == KERNEL_A
    assert len([s for s in box.machine.snapshots() if s.is_replaced]) == 1
    return True


def _points(box: BootMachine) -> list[str]:
    """Return the changes that a rollback makes, in order."""
    made: list[Faulty] = []

    def make(host: object) -> Faulty:
        made.append(Faulty(host))  # type: ignore[arg-type]
        return made[-1]

    proposal = box.machine.roll_back(_name(box), make)
    kinds = [type(step) for step in proposal.plan.steps]
    assert PutBackKernel in kinds
    assert SetDefaultEntry in kinds
    assert _is_finished(box)
    box.machine.take_back()
    log = made[0].log
    assert {"put_file", "write_setting"} <= set(log)
    return log


def _default_comes_last(log: list[str]) -> bool:
    return log.index("write_setting") > log.index("exchange")


def test_the_default_entry_changes_first_where_that_kernel_starts_both_roots(
    box: BootMachine, kind: str
) -> None:
    before = _state(box)
    log = _points(box)
    assert log.index("put_file") < log.index("exchange")
    assert _default_comes_last(log) == (kind == "not shared")
    assert _state(box) == before


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.ERROR_AFTER, Fault.CTRL_C])
def test_a_failure_at_every_point_leaves_boot_as_it_was(box: BootMachine, fault: Fault) -> None:
    log = _points(box)
    before = _state(box)
    expected = KeyboardInterrupt if fault is Fault.CTRL_C else KernelError
    for point in range(len(log)):
        with pytest.raises(expected):
            box.machine.roll_back(_name(box), faulty(point, fault))
        assert _state(box) == before, f"{point} {log[point]}"
    box.machine.roll_back(_name(box))
    assert _is_finished(box)


@pytest.mark.parametrize("fault", _KILLS)
def test_a_kill_at_every_point_leaves_what_boots(box: BootMachine, fault: Fault) -> None:
    log = _points(box)
    before = _state(box)
    commit = log.index("exchange")
    for point, name in enumerate(log):
        work = partial(box.machine.roll_back, _name(box), faulty(point, fault))
        assert in_child(work) == 9
        _expect_boot(box)
        _settle(box)
        committed = point > commit or (point == commit and fault is Fault.KILL_AFTER)
        assert _is_finished(box) == committed, f"{point} {name}"
        if committed:
            box.machine.take_back()
        assert _state(box) == before, f"{point} {name}"


@pytest.mark.parametrize("fault", _KILLS)
def test_an_undo_that_is_killed_at_every_point(box: BootMachine, fault: Fault) -> None:
    before = _state(box)
    for point in range(100):
        box.machine.roll_back(_name(box))
        if in_child(partial(box.machine.take_back, faulty(point, fault))) == 0:
            assert point > 5
            break
        _expect_boot(box)
        _settle(box)
        if _is_finished(box):
            box.machine.take_back()
        assert _state(box) == before, f"point {point}"
    assert _state(box) == before


def test_a_failing_undo_is_mended_by_the_next_run(box: BootMachine) -> None:
    log = _points(box)
    before = _state(box)
    for point in range(len(log)):
        broken = faulty(point, Fault.ERROR_BEFORE, forever=True)
        with pytest.raises(UndoFailedError) as caught:
            box.machine.roll_back(_name(box), broken)
        assert caught.value.exit_code == 4
        _settle(box)
        if _is_finished(box):
            box.machine.take_back()
        assert _state(box) == before, f"{point} {log[point]}"


def _expect_boot(box: BootMachine) -> None:
    """Check what a boot finds in the middle of a rollback.

    Whatever happened, the default entry starts files that are there, and the kernel has its modules
    in the root that it finds. Where A starts only the new root, the entry changes after the root:
    in between B starts the new one, with modules that were lent.
    """
    entry = box.entry(box.default_name())
    assert all(box.found(entry[key]).stat().st_size for key in ("linux", "initrd"))
    assert box.boots() in (KERNEL_A, KERNEL_B)


def _observe_syncs(monkeypatch: pytest.MonkeyPatch, camera: Camera, boot: Path) -> None:
    """Take an image before and after whatever is synced on /boot: a file, a directory."""
    real, device = os.fsync, boot.stat().st_dev

    def fsync(descriptor: int) -> None:
        watched = os.fstat(descriptor).st_dev == device
        if watched:
            camera("before a sync")
        real(descriptor)
        if watched:
            camera("after a sync")

    monkeypatch.setattr(os, "fsync", fsync)


def _expect_whole_entries(box: BootMachine, originals: dict[str, bytes]) -> None:
    """An entry is there as it was written or not at all, and all that it starts is whole."""
    for path in (box.place / "loader/entries").glob("*.conf"):
        assert path.read_bytes() == originals[path.name]
        entry = box.entry(path.stem)
        for key in ("linux", "initrd"):
            name = Path(entry[key]).name
            assert (box.place / name).read_bytes() == originals[name], name


def _originals(box: BootMachine) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in box.place.rglob("*") if path.is_file()}


def _seen(box: BootMachine, camera: Camera, originals: dict[str, bytes], kind: str) -> list[bool]:
    """Boot every image; returns of each whether it has the new root."""
    found = []
    for label, disks in camera.different():
        box.adopt(*disks)
        new = _is_new(box)
        assert box.machine.read("var/data") == ("data 1\n" if new else "2\n"), label
        _expect_whole_entries(box, originals)
        _expect_boot(box)
        _settle(box)
        box.reboot()
        assert _is_new(box) == new, "settling changed what boots"
        assert box.boots() == (KERNEL_A if new else KERNEL_B), label
        _expect_whole_entries(box, originals)
        # A block of 1 KiB that was not yet renamed stays for the next writer to replace.
        known = {*originals, "grubenv.fs-rollback.new"}
        left = [p.name for p in box.place.rglob("*") if p.is_file() and p.name not in known]
        assert left == [], label
        found.append(new)
    return found


def test_every_image_of_a_rollback_boots(
    box: BootMachine, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.machine.roll_back(_name(box))
    originals = _originals(box)
    box.machine.take_back()
    subprocess.run(("sync", "--file-system", str(box.root), str(box.place)), check=True)
    camera = Camera(box.disks, tmp_path)
    _observe_syncs(monkeypatch, camera, box.place)
    box.machine.roll_back(_name(box), lambda host: Faulty(host, observe=camera))
    camera("done")
    monkeypatch.undo()
    seen = _seen(box, camera, originals, kind)
    assert (seen[0], seen[-1]) == (False, True)
    assert seen == sorted(seen), "once it boots the new root, it always does"


def test_every_image_of_an_undo_boots(
    box: BootMachine, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box.machine.roll_back(_name(box))
    originals = _originals(box)
    subprocess.run(("sync", "--file-system", str(box.root), str(box.place)), check=True)
    camera = Camera(box.disks, tmp_path)
    _observe_syncs(monkeypatch, camera, box.place)
    box.machine.take_back(lambda host: Faulty(host, observe=camera))
    camera("done")
    monkeypatch.undo()
    seen = _seen(box, camera, originals, kind)
    assert (seen[0], seen[-1]) == (True, False)
    assert seen == sorted(seen, reverse=True)
