# SPDX-License-Identifier: GPL-2.0-or-later
"""Subvolumes that were nested in the root when a snapshot was taken, and are elsewhere now.

A snapshot has an empty directory with inode 2 there, in which nobody can write.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.snapshots.names import trial_name
from fs_rollback.core.snapshots.snapshot import STORE
from tests.kernel.boots import BootMachine
from tests.kernel.commands import done, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import Machine, run

_ODD = "opt/a b/ü\n\\040"
_STUB = 2


def _nest(machine: Machine, *paths: str) -> None:
    for path in paths:
        place = machine.root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        btrfsutil.create_subvolume(str(place))
        (place / "file").write_text("nested\n")


def _delete(machine: Machine, path: str) -> Path:
    place = machine.root / path
    btrfsutil.delete_subvolume(str(place))
    return place


def _add_line(machine: Machine, line: str) -> str:
    with (machine.root / "etc/fstab").open("a") as file:
        file.write(line + "\n")
    return line


def _move_out(machine: Machine, path: str, name: str, by_id: bool = False) -> str:
    """Make it a subvolume at the top level with a line in fstab, as guides say."""
    os.rename(machine.next_root() / path, machine.top / name)
    (machine.root / path).mkdir()
    number = btrfsutil.subvolume_id(str(machine.top / name))
    option = f"subvolid={number}" if by_id else f"subvol=/{name}"
    point = "/" + path.replace(" ", "\\040")
    return _add_line(machine, f"UUID={machine.uuid} {point} btrfs {option} 0 0")


def _inodes(root: Path, *paths: str) -> list[int]:
    return [(root / path).lstat().st_ino for path in paths]


def _is_plain(root: Path, path: str) -> bool:
    """Whether it is an empty directory that can be written to, of the tree itself."""
    status = (root / path).lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_ino in (_STUB, 256):
        return False
    assert list((root / path).iterdir()) == []
    (root / path / "new").touch()
    return True


def _lines(root: Path) -> list[str]:
    return (root / "etc/fstab").read_text().splitlines()


def _change_everything(machine: Machine) -> list[str]:
    """Move, delete and replace what was nested; returns what has to be in the new fstab."""
    wanted = [
        _move_out(machine, "var/lib/pgsql", "pgsql"),
        _move_out(machine, "var/lib/by id", "mysql", by_id=machine.layout != "top-level"),
    ]
    _delete(machine, "var/cache-old").mkdir()
    (machine.root / "var/cache-old/file").write_text("now\n")
    os.chown(machine.root / "var/cache-old", 12, 34)
    (machine.root / "var/cache-old").chmod(0o2750)
    _delete(machine, "opt/file").write_text("now a file\n")
    _delete(machine, "opt/link").symlink_to("/etc")
    (_delete(machine, "root/vm")).mkdir()
    (machine.root / "root/vm/file").write_text("now plain\n")
    _delete(machine, _ODD)
    (machine.root / _ODD).parent.rmdir()
    for path in ("opt/other", "opt/below", "opt/bound"):
        _delete(machine, path).mkdir()
    (machine.root / "opt/below/deep").mkdir()
    wanted.append(_add_line(machine, "/dev/disk/by-label/data /opt/other ext4 defaults 0 2"))
    wanted.append(_add_line(machine, "LABEL=deep /opt/below/deep xfs defaults 0 0"))
    # What is bound there is elsewhere: that has to be mounted, too.
    (machine.root / "data").mkdir()
    wanted.append(_add_line(machine, "LABEL=big /data xfs defaults 0 0"))
    wanted.append(_add_line(machine, "/data/bound /opt/bound none bind 0 0"))
    (machine.root / "etc/crypttab").write_text("# x\nbig UUID=1 none luks\n")
    _add_line(machine, "LABEL=stranger /mnt/stranger xfs defaults 0 0")
    return wanted


_NESTED = ("var/lib/pgsql", "var/lib/by id", "var/cache-old", "opt/file", "opt/link", "root/vm",
           _ODD, "opt/other", "opt/below", "opt/bound")  # fmt: skip


@pytest.mark.parametrize("layout", ["named", "top-level"])
def test_each_stand_in_becomes_what_is_there_now_or_a_directory(
    make_machine: MakeMachine, layout: str
) -> None:
    machine = make_machine(layout)
    _nest(machine, *_NESTED)
    name = machine.upgrade()
    record = json.loads((machine.top / STORE / f"{name}.json").read_text())
    assert sorted(record["nested"]) == sorted([*_NESTED, "var/lib/machines"])
    wanted = _change_everything(machine)
    before = (machine.root / "etc/fstab").read_text()
    plan = done(machine.root, "rollback", name, "--yes", "--json").json
    root = machine.next_root()
    assert [line for line in wanted if line not in _lines(root)] == []
    assert not any("stranger" in line for line in _lines(root))
    assert (root / "root/vm/file").read_text() == "now plain\n", "a kept path is as it is now"
    for path in _NESTED:
        if path not in ("root/vm", "opt/below", "opt/bound"):
            assert _is_plain(root, path), path
    said = " ".join(step["sentence"] for step in plan["steps"])
    for path in ("/var/cache-old", "/opt/file", "/opt/link", "/opt/other", f"/{_ODD}"):
        assert path in said
    status = (root / "var/cache-old").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (12, 34, 0o2750)
    for path in ("opt/file", "opt/link", _ODD):
        assert (root / path).stat().st_mode & 0o7777 == 0o755
    # Whoever loses something from sight is told, with the way to take it along.
    (warning,) = (w for w in plan["warnings"] if "/var/cache-old" in w)
    assert "--keep /var/cache-old" in warning
    assert "pgsql" not in " ".join(plan["warnings"])
    (warning,) = (w for w in plan["warnings"] if "crypttab" in w)
    assert "no line for big. If /opt/other, " in warning
    assert warning.endswith(" --keep /etc/crypttab")
    done(machine.root, "undo", "--yes")
    assert (machine.root / "etc/fstab").read_text() == before
    again = done(machine.root, "rollback", name, "--yes", "--keep", "/var/cache-old", "--json")
    assert "/var/cache-old" not in " ".join(again.json["warnings"])
    assert (machine.next_root() / "var/cache-old/file").read_text() == "now\n"


def test_a_nested_subvolume_with_a_line_of_its_own_that_moved(named: Machine) -> None:
    _nest(named, "var/lib/pgsql")
    old = _add_line(
        named, f"UUID={named.uuid} /var/lib/pgsql btrfs subvol=root/var/lib/pgsql,noatime 0 0"
    )
    named.upgrade()
    text = (named.root / "etc/fstab").read_text()
    (named.root / "etc/fstab").write_text(text.replace(old + "\n", ""))
    line = _move_out(named, "var/lib/pgsql", "pgsql")
    done(named.root, "rollback", "--yes")
    lines = _lines(named.next_root())
    assert line in lines
    assert old not in lines


def test_what_something_else_than_fstab_mounts_is_told(named: Machine) -> None:
    _nest(named, "var/lib/pgsql")
    named.upgrade()
    _delete(named, "var/lib/pgsql").mkdir()
    btrfsutil.create_subvolume(str(named.top / "pgsql"))
    (named.top / "pgsql/file").write_text("now\n")
    named.write(named.root, "etc/systemd/system/var-lib-pgsql.mount", "[Mount]\n")
    place = named.root / "var/lib/pgsql"
    run("mount", "-o", "loop,subvol=pgsql", str(named.image), str(place))
    try:
        words = ("rollback", "--json", "--yes", "--keep", "/etc/systemd/system")
        (warning,) = done(named.root, *words).json["warnings"]
    finally:
        run("umount", str(place))
    assert "not by /etc/fstab: /var/lib/pgsql" in warning
    assert warning.endswith("--keep /etc/systemd/system")
    assert (named.next_root() / "etc/systemd/system/var-lib-pgsql.mount").exists()
    assert _is_plain(named.next_root(), "var/lib/pgsql")


def test_stand_ins_that_no_record_names(named: Machine) -> None:
    """The root is a copy that a person made; and a snapshot lost its record."""
    _nest(named, "var/old", "opt/deep/old")
    btrfsutil.create_snapshot(str(named.top / "root"), str(named.top / "by hand"))
    os.rename(named.top / "root", named.top / "before")
    os.rename(named.top / "by hand", named.top / "root")
    named.reboot()
    assert _inodes(named.root, "var/old", "opt/deep/old") == [_STUB, _STUB]
    name = named.upgrade()
    done(named.root, "rollback", name, "--yes")
    assert _is_plain(named.next_root(), "var/old")
    done(named.root, "undo", "--yes")
    (named.top / STORE / f"{name}.json").unlink()
    done(named.root, "rollback", name, "--yes")
    assert _is_plain(named.next_root(), "opt/deep/old")


@pytest.mark.parametrize("layout", ["named", "top-level"])
def test_undo_brings_back_what_is_nested_only_in_the_replaced_root(
    make_machine: MakeMachine, layout: str
) -> None:
    named = make_machine(layout)
    _nest(named, "var/lib/gone", "var/lib/gone/inner", "var/lib/moved", "root/kept", "opt/same")
    btrfsutil.set_subvolume_read_only(str(named.root / "var/lib/gone/inner"), True)
    name = named.upgrade()
    done(named.root, "rollback", name, "--yes")
    named.reboot()
    assert fs_rollback(named.root, "settle").code == 0
    for path in ("var/lib/gone/inner", "var/lib/gone", "root/kept"):
        btrfsutil.set_subvolume_read_only(str(named.root / path), False)
        _delete(named, path)
    line = _move_out(named, "var/lib/moved", "moved")
    (named.root / "opt/same/file").write_text("later\n")
    plan = done(named.root, "undo", "--yes", "--to-replaced", "--json").json
    said = " ".join(step["sentence"] for step in plan["steps"])
    assert "/var/lib/gone" in said
    named.reboot()
    assert named.read("usr/bin/app") == "version 2\n"
    assert named.read("var/lib/gone/file") == "nested\n"
    assert named.read("var/lib/gone/inner/file") == "nested\n"
    assert btrfsutil.get_subvolume_read_only(str(named.root / "var/lib/gone/inner"))
    assert named.read("opt/same/file") == "later\n"
    assert not (named.root / "root/kept").exists(), "a kept path is as it was last"
    assert line in _lines(named.root)
    assert _is_plain(named.root, "var/lib/moved")
    # The first boot brings over what the last root wrote, and leaves the rest as it is.
    assert fs_rollback(named.root, "settle", "--at-boot").code == 0
    assert named.read("var/lib/gone/inner/file") == "nested\n"


@pytest.mark.parametrize("recorded", [True, False])
def test_a_trial_mounts_what_is_mounted_now(make_machine: MakeMachine, recorded: bool) -> None:
    machine = make_machine("named")
    boot = BootMachine(machine, "in the root")
    boot.create()
    _nest(machine, "var/lib/pgsql", "var/cache-old")
    name = machine.take()
    if not recorded:
        record = machine.top / STORE / f"{name}.json"
        data = json.loads(record.read_text())
        del data["nested"]
        record.write_text(json.dumps(data))
    line = _move_out(machine, "var/lib/pgsql", "pgsql")
    _delete(machine, "var/cache-old").mkdir(0o750)
    done(machine.root, "create")
    trial = machine.top / STORE / trial_name(name)
    assert line in _lines(trial)
    for path in ("var/lib/pgsql", "var/cache-old", "var/lib/machines"):
        assert _is_plain(trial, path)
    assert (trial / "var/cache-old").stat().st_mode & 0o7777 == 0o750
