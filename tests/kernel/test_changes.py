# SPDX-License-Identifier: GPL-2.0-or-later
"""What a rollback would revert, looked at through earlier rollbacks."""

from __future__ import annotations

import json

import pytest

from fs_rollback.cli.main import main
from tests.kernel.machine import Machine, run


def _files(machine: Machine, capsys: pytest.CaptureFixture[str], *command: str) -> set[str]:
    capsys.readouterr()
    assert main([*command, "--dry-run", "--json", "--root", str(machine.root)]) == 0
    files = json.loads(capsys.readouterr().out)["reverts"]["files"]
    return {path for path in files if path.startswith(("/etc/", "/opt/"))}


def test_files_written_since_are_named_after_any_number_of_rollbacks(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    first = machine.upgrade(2)
    machine.write(machine.root, "opt/early", "written between the two snapshots\n")
    second = machine.upgrade(3)
    machine.write(machine.root, "opt/late", "written after both\n")
    assert _files(machine, capsys, "rollback", second) == {"/etc/app.conf", "/opt/late"}
    assert _files(machine, capsys, "rollback", first) == {
        "/etc/app.conf", "/opt/early", "/opt/late",
    }  # fmt: skip

    machine.roll_back(second)
    machine.reboot()
    assert _files(machine, capsys, "undo") == set()
    assert _files(machine, capsys, "rollback", second) == set()
    machine.write(machine.root, "etc/new.conf", "written after the rollback\n")
    assert _files(machine, capsys, "undo") == {"/etc/new.conf"}
    assert _files(machine, capsys, "rollback", second) == {"/etc/new.conf"}
    assert _files(machine, capsys, "rollback", first) >= {"/etc/new.conf", "/opt/early"}

    machine.roll_back(second)
    machine.reboot()
    machine.write(machine.root, "etc/newer.conf", "written after the second rollback\n")
    assert _files(machine, capsys, "undo") == {"/etc/newer.conf"}
    oldest = next(s.name for s in machine.snapshots() if s.is_replaced)
    assert _files(machine, capsys, "rollback", oldest) >= {"/etc/newer.conf"}


def test_what_was_only_read_since_is_no_loss(
    named: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """A new time of access is a change to the filesystem, and to nobody else."""
    name = named.upgrade(2)
    named.roll_back(name)
    named.reboot()
    run("mount", "-o", "remount,strictatime", str(named.root))
    before = (named.root / "etc/app.conf").stat().st_atime_ns
    named.read("etc/app.conf")
    assert (named.root / "etc/app.conf").stat().st_atime_ns > before
    assert _files(named, capsys, "undo") == set()
    (named.root / "etc/app.conf").write_text("by hand\n")
    assert _files(named, capsys, "undo") == {"/etc/app.conf"}


def test_deletions_and_modes_are_told(named: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    named.write(named.root, "opt/gone", "deleted after the snapshot\n")
    named.write(named.root, "opt/touched", "only its time is new\n")
    name = named.upgrade(2)
    (named.root / "opt/gone").unlink()
    (named.root / "opt/touched").touch()
    (named.root / "etc/fstab").chmod(0o600)
    assert _files(named, capsys, "rollback", name) == {
        "/opt/gone", "/etc/fstab", "/etc/app.conf",
    }  # fmt: skip
    named.write(named.root, "opt/gone", "deleted after the snapshot\n")
    assert "/opt/gone" not in _files(named, capsys, "rollback", name), "it is there again"


def test_the_sealed_and_its_inner_go_when_a_root_is_deleted(machine: Machine) -> None:
    """A read-only nested subvolume with another in it: undo and delete have to manage that."""
    import btrfsutil

    machine.upgrade()
    sealed = machine.root / "srv/sealed"
    sealed.parent.mkdir(exist_ok=True)
    btrfsutil.create_subvolume(str(sealed))
    btrfsutil.create_subvolume(str(sealed / "inner"))
    btrfsutil.set_subvolume_read_only(str(sealed), True)
    name = machine.snapshots()[0].name
    before = machine.subvolume_paths()
    machine.roll_back(name)
    machine.take_back()
    assert machine.subvolume_paths() == before
    machine.roll_back(name)
    machine.reboot()
    assert btrfsutil.get_subvolume_read_only(str(machine.root / "srv/sealed"))
    replaced = next(s.name for s in machine.snapshots() if s.is_replaced)
    if machine.layout != "top-level":
        assert main(["delete", replaced, "--root", str(machine.root)]) == 0
        assert not [p for p in machine.subvolume_paths() if p.startswith("fs-snapshots/replaced")]
