# SPDX-License-Identifier: GPL-2.0-or-later
"""Odd neighbours: two systems on one filesystem, repairs by hand, mounts by ID, evil names."""

from __future__ import annotations

import os
from functools import partial

import btrfsutil
import pytest

from fs_rollback.cli.main import main
from fs_rollback.errors import RefusedError, UndoFailedError
from tests.kernel.faults import Fault, faulty, in_child
from tests.kernel.machine import Machine, run


def test_the_snapshots_of_another_system_are_refused(named: Machine) -> None:
    (named.root / "etc/machine-id").write_text("1" * 32 + "\n")
    ours = named.upgrade(2)
    (named.root / "etc/machine-id").write_text("2" * 32 + "\n")
    theirs = named.upgrade(3)
    (named.root / "etc/machine-id").write_text("1" * 32 + "\n")
    with pytest.raises(RefusedError, match="belongs to another system"):
        named.roll_back(theirs)
    assert main(["rollback", "--yes", "--root", str(named.root)]) == 0
    named.reboot()
    assert named.read("usr/bin/app") == "version 1\n", ours
    (named.root / "etc/fs-rollback.conf").write_text("keep_last = 0\nkeep_days = 0\n")
    named.take()
    assert main(["prune", "--root", str(named.root)]) == 0
    left = {s.name for s in named.snapshots() if not s.is_replaced}
    assert theirs in left
    assert ours not in left


def test_a_repair_by_hand_after_a_crash_is_respected(named: Machine) -> None:
    name = named.upgrade()
    points = 3
    assert in_child(partial(named.roll_back, name, faulty(points, Fault.KILL_BEFORE))) == 9
    os.rename(named.top / "root", named.top / "root.broken")
    btrfsutil.create_snapshot(str(named.top / "fs-snapshots" / name), str(named.top / "root"))
    named.reboot()
    assert main(["create", "--root", str(named.root)]) == 0
    assert main(["status", "--root", str(named.root)]) == 1
    assert (named.top / "root.broken/usr/bin/app").read_text() == "version 2\n"
    assert (named.top / "fs-snapshots/pending.json.stale").exists()
    assert main(["rollback", "--yes", "--root", str(named.root)]) == 0


def test_the_commands_for_hands_delete_nothing(named: Machine) -> None:
    name = named.upgrade()
    named.roll_back(name)
    os.rename(named.top / "root", named.top / "elsewhere")
    btrfsutil.create_subvolume(str(named.top / "root"))
    with pytest.raises(UndoFailedError) as caught:
        named.take_back()
    assert not [line for line in caught.value.commands if "delete" in line or "rm " in line[:3]]


def test_a_nested_subvolume_mounted_by_id_is_refused(named: Machine) -> None:
    name = named.upgrade()
    number = btrfsutil.subvolume_id(str(named.root / "var/lib/machines"))
    fstab = named.root / "etc/fstab"
    line = f"UUID={named.uuid} /srv btrfs subvolid={number},subvol=/root/var/lib/machines 0 0\n"
    fstab.write_text(fstab.read_text() + line)
    with pytest.raises(RefusedError, match="by its ID"):
        named.roll_back(name)


def test_what_was_renamed_since_is_mounted_by_its_new_name(named: Machine) -> None:
    name = named.upgrade()
    os.rename(named.top / "home", named.top / "people")
    fstab = named.root / "etc/fstab"
    fstab.write_text(fstab.read_text().replace("subvol=home", "subvol=people"))
    today = fstab.read_text().splitlines()[-1]
    assert "no longer exists" in named.roll_back(name).warnings[0]
    lines = (named.next_root() / "etc/fstab").read_text().splitlines()
    assert [line for line in lines if "/home" in line and not line.startswith("#")] == [today]


@pytest.mark.parametrize("point", ["/boot", "/usr", "/var"])
def test_what_fstab_mounts_must_be_mounted(named: Machine, point: str) -> None:
    name = named.upgrade()
    if point == "/var":
        run("rm", "-r", str(named.root / "var/lib/rpm"))
    fstab = named.root / "etc/fstab"
    fstab.write_text(fstab.read_text() + f"/dev/vda7 {point} ext4 defaults 1 2\n")
    said = "is a subvolume or filesystem of its own" if point == "/usr" else "not mounted here"
    with pytest.raises(RefusedError, match=said):
        named.roll_back(name)


def test_a_file_name_that_looks_like_a_line_of_output(named: Machine) -> None:
    name = named.upgrade()
    (named.root / "opt").mkdir(exist_ok=True)
    (named.root / "opt" / "a\ninode b").write_text("x\n" * 5000)
    assert main(["rollback", "--dry-run", name, "--root", str(named.root)]) == 0


def test_foreign_things_in_the_store_stay(named: Machine) -> None:
    named.take()
    store = named.top / "fs-snapshots"
    btrfsutil.create_subvolume(str(store / "deleted_photos"))
    (store / "notes.new").write_text("mine")
    named.take()
    assert (store / "deleted_photos").is_dir()
    assert (store / "notes.new").read_text() == "mine"


def test_a_tree_deeper_than_any_path_goes_with_the_rest(named: Machine) -> None:
    name = named.upgrade()
    here = os.open(named.root / "root", os.O_RDONLY)
    for _ in range(1200):
        os.mkdir("deep" * 3, dir_fd=here)
        below = os.open("deep" * 3, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    taken = named.take()
    named.roll_back(taken, keep=("/home",))
    named.take_back()
    named.roll_back(name, keep=("/home",))


@pytest.mark.parametrize("depth", [15, 17], ids=["near PATH_MAX", "beyond PATH_MAX"])
def test_a_subvolume_that_no_path_leads_to_stops_nobody(named: Machine, depth: int) -> None:
    here = os.open(named.root / "root", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 250, dir_fd=here)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    btrfsutil.create_subvolume(f"/proc/self/fd/{here}/{'s' * 200}")
    os.close(here)
    name = named.upgrade()
    assert main(["list", "--root", str(named.root)]) == 0
    named.roll_back(name, keep=())
    named.reboot()
    assert named.read("usr/bin/app") == "version 1\n"


def test_what_fstab_binds_to_a_kept_path_is_kept(named: Machine) -> None:
    fstab = named.root / "etc/fstab"
    lines = [line for line in fstab.read_text().splitlines() if "/home" not in line]
    fstab.write_text("\n".join([*lines, "/data/home /home none bind 0 0", ""]))
    named.write(named.root, "data/home/user/letter", "early\n")
    name = named.upgrade()
    named.write(named.root, "data/home/user/letter", "late\n")
    named.roll_back(name)
    named.reboot()
    assert named.read("data/home/user/letter") == "late\n"


def test_undo_goes_by_the_order_of_roots_and_not_by_the_clock(named: Machine) -> None:
    name = named.upgrade()
    for number in range(2):
        named.roll_back(name)
        named.reboot()
        (named.root / "usr/bin/app").write_text(f"root {number}\n")
    record = next(s.record for s in named.snapshots() if s.is_replaced and s.id == 256)
    assert record is not None
    with named.writing() as (_, store):
        store.write(record._replace(created=record.created.replace(year=2099)))
    assert main(["undo", "--yes", "--to-replaced", "--root", str(named.root)]) == 0
    named.reboot()
    assert named.read("usr/bin/app") == "root 0\n"


def test_an_immutable_root_directory_ends_in_order(named: Machine) -> None:
    """What cannot be done is undone, code 1, and nothing is left; never code 4."""
    name = named.upgrade()
    before = named.subvolume_paths()
    run("chattr", "+i", str(named.root))
    assert main(["rollback", "--yes", name, "--root", str(named.root)]) in (0, 1)
    run("chattr", "-i", str(named.root))
    if named.next_root().joinpath("usr/bin/app").read_text() == "version 2\n":
        assert named.subvolume_paths() == before
    else:
        assert main(["undo", "--yes", "--root", str(named.root)]) == 0
        assert named.subvolume_paths() == before
