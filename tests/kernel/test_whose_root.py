# SPDX-License-Identifier: GPL-2.0-or-later
"""Another tool, or a person, works on the roots of a rollback that waits: each is known by UUID."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.attached import command, off
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import state
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import (
    arrive,
    journal_of,
    reboot,
    replaced,
    rolled_back,
)
from tests.kernel.running import begin_boot
from tests.kernel.test_store import listed, read_record, store_of

MakeMachine = Callable[[str], Machine]
NAMED = ("named", "named-and-default")
BY_DEFAULT = ("default", "top-level")


def _take_the_place(machine: Machine) -> Path:
    """Do what Timeshift or a person does: another root is where the new one was put."""
    other = machine.top / "other"
    btrfsutil.create_snapshot(str(machine.root), str(other))
    (other / "srv").mkdir()
    (other / "srv/only copy").write_text("precious")
    if machine.layout.startswith("named"):
        (machine.top / "root").rename(machine.top / "moved away")
        other.rename(machine.top / "root")
        return machine.top / "root"
    btrfsutil.set_default_subvolume(str(machine.top), btrfsutil.subvolume_id(str(other)))
    return other


def _by_hand(machine: Machine, text: str, pattern: str) -> None:
    """Type what was printed, and the pattern finds. The image is mounted already, so it is seen."""
    found = re.search(pattern, text)
    assert found, text
    place = machine.top.parent / "mnt"
    place.mkdir(exist_ok=True)
    subprocess.run(("bash", "-ec", found[1].replace("/mnt", str(place))), check=True)


def _instead(which: str) -> str:
    """Return what finds the line to copy that leads back to one of the two roots."""
    return rf"To use {which} instead: (.*?); then"


@pytest.mark.parametrize("layout", [*NAMED, *BY_DEFAULT])
def test_another_root_in_its_place_is_never_touched(make_machine: MakeMachine, layout: str) -> None:
    machine = make_machine(layout)
    name = rolled_back(machine)
    other = _take_the_place(machine)
    uuid = machine.uuid_of(other).hex()
    before = state(machine)
    ended = fs_rollback(machine.root, "undo", "--yes")
    ended.expect_refusal("does not use the root", uuid, "--forget")
    for words in (("rollback", "--yes"), ("undo", "--dry-run")):
        assert fs_rollback(machine.root, *words).code == 3
    told = fs_rollback(machine.root, "status", "--json").json
    assert told["waiting"] == "displaced"
    assert any(uuid in line for line in told["attention"])
    assert uuid in fs_rollback(machine.root, "check").out
    assert fs_rollback(machine.root, "delete", "9999").code == 2
    for options in ((), ("--at-boot",)):
        assert arrive(machine, *options).code == 1
    assert state(machine) == before
    assert json.loads(journal_of(machine).read_text())["target"] == name
    # The old root, by the commands that were printed.
    _by_hand(machine, ended.err, _instead("the old root"))
    said = done(machine.root, "settle").out
    assert "undone by hand" in said
    assert machine.next_root().joinpath("usr/bin/app").read_text() == "version 2\n"
    assert next(machine.top.rglob("only copy")).read_text() == "precious"
    assert not journal_of(machine).exists()


@pytest.mark.parametrize("layout", ["named", "default"])
def test_the_root_of_the_rollback_after_all(make_machine: MakeMachine, layout: str) -> None:
    machine = make_machine(layout)
    rolled_back(machine)
    _take_the_place(machine)
    ended = fs_rollback(machine.root, "undo", "--yes")
    _by_hand(machine, ended.err, _instead("the root of the rollback"))
    reboot(machine)
    assert "came up in the new root" in arrive(machine).out
    assert machine.read("usr/bin/app") == "version 1\n"
    assert next(machine.top.rglob("only copy")).read_text() == "precious"


@pytest.mark.parametrize("layout", ["named", "default", "top-level"])
def test_a_machine_that_boots_another_tool_s_root(make_machine: MakeMachine, layout: str) -> None:
    machine = make_machine(layout)
    rolled_back(machine)
    (machine.root / "var/log/messages").write_text("old root's last\n")
    other = _take_the_place(machine)
    (other / "var/log/messages").write_text("the other root's\n")
    machine.reboot()
    for options in (("--at-boot",), (), ("--missed",)):
        ended = arrive(machine, *options)
        assert (ended.code, "came up" in ended.out) == (1, False), ended
    assert machine.read("var/log/messages") == "the other root's\n"
    assert fs_rollback(machine.root, "create").code == 0
    ended = fs_rollback(machine.root, "rollback", "--yes")
    ended.expect_refusal("--forget")
    old = replaced(machine)
    said = done(machine.root, "settle", "--forget")
    assert "is given up" in said.out
    assert f"{machine.label(old)} is pinned" in said.out
    assert machine.read("srv/only copy") == "precious"
    assert not journal_of(machine).exists()
    assert fs_rollback(machine.root, "status", "--json").json["waiting"] == "nothing"
    assert "pinned" in listed(machine)[old]["marks"]
    assert read_record(machine, old)["description"].endswith("given up")
    assert listed(machine)[old]["replaced_by"]["given_up"] is True
    # From here on it is a machine as any other: back to what the old root was.
    done(machine.root, "rollback", old, "--yes")
    reboot(machine)
    assert machine.read("usr/bin/app") == "version 2\n"


def test_there_is_nothing_to_give_up(named: Machine) -> None:
    named.upgrade()
    assert "nothing to settle" in done(named.root, "settle", "--forget").out
    done(named.root, "rollback", "--yes")
    before = state(named)
    fs_rollback(named.root, "settle", "--forget").expect_refusal("fs-rollback undo")
    assert state(named) == before
    done(named.root, "undo", "--yes")


@pytest.mark.parametrize("way", ["moved", "deleted"])
@pytest.mark.parametrize("layout", NAMED)
def test_undo_where_the_new_root_left_its_place(
    make_machine: MakeMachine, layout: str, way: str
) -> None:
    machine = make_machine(layout)
    rolled_back(machine)
    if machine.layout == "named-and-default":  # what is the default cannot be deleted
        btrfsutil.set_default_subvolume(str(machine.top), 5)
    if way == "deleted":
        btrfsutil.delete_subvolume(str(machine.top / "root"), recursive=True)
    else:
        (machine.top / "root").rename(machine.top / "saved")
    ended = fs_rollback(machine.root, "status")
    assert "'fs-rollback undo" in ended.out
    done(machine.root, "undo", "--yes")
    assert machine.next_root().joinpath("usr/bin/app").read_text() == "version 2\n"
    assert machine.uuid_of(machine.top / "root") == machine.uuid_of(machine.root)
    assert not journal_of(machine).exists()
    assert [row["kind"] for row in listed(machine).values()] == ["pre"]
    machine.reboot()
    assert machine.read("root/.profile") == "user's 1\n"


@pytest.mark.parametrize("layout", [*NAMED, "default"])
def test_undo_where_the_old_root_was_moved(make_machine: MakeMachine, layout: str) -> None:
    machine = make_machine(layout)
    machine.upgrade()
    machine.use(1)
    before = state(machine)
    done(machine.root, "rollback", "--yes")
    place = machine.top / "attic"
    place.mkdir()
    (store_of(machine) / replaced(machine)).rename(place / "my old root")
    done(machine.root, "undo", "--yes")
    place.rmdir()
    assert state(machine) == before


def test_undo_where_the_old_root_was_deleted(named: Machine) -> None:
    rolled_back(named)
    btrfsutil.delete_subvolume(str(store_of(named) / replaced(named)), recursive=True)
    before = state(named)
    with off(named) as device:
        ended = command(device, "undo", "--yes")
    assert (ended.code, "was deleted" in ended.err) == (3, True), ended
    assert state(named) == before


@pytest.mark.parametrize("layout", NAMED)
def test_a_default_subvolume_that_does_not_decide(make_machine: MakeMachine, layout: str) -> None:
    """A named root is found by its name: what somebody else made the default stays so."""
    machine = make_machine(layout)
    rolled_back(machine)
    btrfsutil.create_subvolume(str(machine.top / "third"))
    third = btrfsutil.subvolume_id(str(machine.top / "third"))
    btrfsutil.set_default_subvolume(str(machine.top), third)
    done(machine.root, "undo", "--yes")
    assert btrfsutil.get_default_subvolume(str(machine.top)) == third
    assert machine.next_root().joinpath("usr/bin/app").read_text() == "version 2\n"


@pytest.mark.parametrize("layout", ["named", "top-level"])
def test_a_journal_of_an_older_program(make_machine: MakeMachine, layout: str) -> None:
    """It has no UUID of the new root: that is a copy of the target in the place for it."""
    machine = make_machine(layout)
    machine.upgrade()
    machine.use(1)
    before = state(machine)

    def aged() -> None:
        data = json.loads(journal_of(machine).read_text())
        del data["new_uuid"]
        for step in data["plan"]["steps"]:
            step.pop("new_uuid", None)
        journal_of(machine).write_text(json.dumps(data))

    done(machine.root, "rollback", "--yes")
    aged()
    done(machine.root, "undo", "--yes")
    assert state(machine) == before
    done(machine.root, "rollback", "--yes")
    aged()
    _take_the_place(machine)
    place = state(machine)
    assert fs_rollback(machine.root, "undo", "--yes").code == 3
    assert state(machine) == place


def test_from_a_rescue_system_a_rollback_waits(machine: Machine) -> None:
    machine.upgrade()
    machine.use(1)
    before = state(machine)
    with off(machine) as device:
        assert command(device, "rollback", "--yes").code == 0
        assert command(device, "delete", "9999").code == 2
        assert command(device, "create", "--message", "by hand").code == 0
        told = command(device, "status", "--json").json
        assert told["waiting"] == "reboot"
        assert f"'fs-rollback undo --device {device}'" in told["attention"][0]
        assert "came up" not in told["last_rollback"]["description"]
        again = command(device, "rollback", "--yes")
        assert (again.code, f"'fs-rollback undo --device {device}'" in again.err) == (3, True)
        rows = command(device, "list", "--json").json["snapshots"]
        manual = next(row["name"] for row in rows if row["kind"] == "manual")
        assert command(device, "delete", manual).code == 0
        replaced_root = next(row["name"] for row in rows if row["kind"] == "replaced")
        ended = command(device, "delete", replaced_root)
        assert (ended.code, "undoing the waiting rollback" in ended.err) == (3, True), ended
        assert "Rollback canceled" in command(device, "undo", "--yes").out
    assert state(machine) == before


def test_a_new_root_that_was_used_is_kept(machine: Machine) -> None:
    """It was booted and used, and nothing confirmed that; then a rescue system takes it back."""
    rolled_back(machine)
    (machine.root / "var/log/messages").write_text("old root's last\n")
    reboot(machine)
    (machine.root / "root/work").write_text("new root's\n")
    (machine.root / "etc/only here").write_text("new root's\n")
    old = replaced(machine)
    with off(machine) as device:
        said = command(device, "undo", "--yes", "--to-replaced")
        assert (said.code, "Rolled back" in said.out) == (0, True), said
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 2\n"
    assert machine.read("root/work") == "new root's\n"
    assert machine.read("var/log/messages") == "old root's last\n"
    kept = [n for n, row in listed(machine).items() if row["kind"] == "replaced" and n != old]
    assert (store_of(machine) / kept[0] / "etc/only here").read_text() == "new root's\n"


def _boot_the_old_root(machine: Machine) -> None:
    path = f"fs-snapshots/{replaced(machine)}"
    run("umount", str(machine.root))
    begin_boot(machine.root)
    run("mount", "-o", f"loop,noatime,subvol={path}", str(machine.image), str(machine.root))


@pytest.mark.parametrize("used", [False, True])
def test_the_old_root_is_booted_by_hand_and_stays(named: Machine, used: bool) -> None:
    name = rolled_back(named)
    if used:
        (named.top / "root/etc/only here").write_text("new root's\n")
        run("sync", "--file-system", str(named.top))
    _boot_the_old_root(named)
    ended = arrive(named)
    assert (ended.code, "fs-rollback undo" in fs_rollback(named.root, "rollback").err) == (1, True)
    done(named.root, "undo", "--yes")
    named.reboot()
    assert named.read("usr/bin/app") == "version 2\n"
    kept = [n for n, row in listed(named).items() if row["kind"] == "replaced"]
    assert len(kept) == used
    if used:
        assert (store_of(named) / kept[0] / "etc/only here").read_text() == "new root's\n"
        assert name in read_record(named, kept[0])["description"]
    left = {n for n in os.listdir(store_of(named)) if n.startswith("root_")}
    assert left == set()


def test_a_root_that_is_none_of_the_two(named: Machine) -> None:
    """Another system on the filesystem, which shares the store, cannot take it back."""
    named.upgrade()
    btrfsutil.create_snapshot(str(named.root), str(named.top / "second"))
    done(named.root, "rollback", "--yes")
    place = named.image.parent / "second"
    place.mkdir()
    run("mount", "-o", "loop,subvol=second", str(named.image), str(place))
    before = state(named)
    ended = fs_rollback(place, "undo", "--yes")
    run("umount", str(place))
    assert (ended.code, "neither the old nor the new root" in ended.err) == (3, True), ended
    assert state(named) == before


@pytest.mark.parametrize("what", ["in it", "nested", "in a carried one"])
def test_what_came_into_the_new_root_before_the_reboot_is_kept(named: Machine, what: str) -> None:
    """Somebody has mounted it and works there: nothing else has that, the boot being the same."""
    rolled_back(named)
    new = named.top / "root"
    if what == "nested":
        btrfsutil.create_subvolume(str(new / "srv-data"))
    place = {"in it": "etc", "nested": "srv-data", "in a carried one": "var/lib/machines"}[what]
    (new / place / "only here").write_text("precious")
    run("sync", "--file-system", str(named.top))
    done(named.root, "undo", "--yes")
    assert named.next_root().joinpath("usr/bin/app").read_text() == "version 2\n"
    (found,) = named.top.rglob("only here")
    assert found.read_text() == "precious"
    kept = [n for n, row in listed(named).items() if row["kind"] == "replaced"]
    assert "fs-snapshots/" + kept[0] in str(found)
    # It never was the machine's root: a later undo goes back to what was.
    ended = fs_rollback(named.root, "undo", "--yes")
    assert (ended.code, ended.sentence) == (3, "there is no rollback to undo")


@pytest.mark.parametrize("layout", ["named", "default"])
def test_a_name_that_the_undo_needs_has_something_else(
    make_machine: MakeMachine, layout: str
) -> None:
    """A directory, or in the default layout another subvolume: it is moved away, never touched."""
    machine = make_machine(layout)
    rolled_back(machine)
    journal = json.loads(journal_of(machine).read_text())
    (name,) = (s["root"] for s in journal["plan"]["steps"] if s["step"] == "Exchange")
    place = machine.top / name
    place.rename(machine.top / "saved")
    if layout == "named":
        place.mkdir()
    else:
        btrfsutil.create_subvolume(str(place))
    (place / "only here").write_text("precious")
    before = state(machine)
    ended = fs_rollback(machine.root, "undo", "--yes")
    ended.expect_refusal("needs that name", "Move it away")
    assert state(machine) == before
    _by_hand(machine, ended.err, r"Move it away: (.*?); then")
    done(machine.root, "undo", "--yes")
    assert machine.next_root().joinpath("usr/bin/app").read_text() == "version 2\n"
    (kept,) = machine.top.rglob("only here")
    assert kept.read_text() == "precious"


@pytest.mark.parametrize("whose", ["old", "new"])
def test_a_root_that_somebody_made_read_only(named: Machine, whose: str) -> None:
    """It could not leave its directory: nothing is begun, and the command makes it writable."""
    rolled_back(named)
    place = named.top / "root" if whose == "new" else store_of(named) / replaced(named)
    btrfsutil.set_subvolume_read_only(str(place), True)
    before = state(named)
    ended = fs_rollback(named.root, "undo", "--yes")
    ended.expect_refusal("was made read-only", "ro false")
    assert state(named) == before
    _by_hand(named, ended.err, r"Make it writable: (.*?); then")
    done(named.root, "undo", "--yes")
    assert named.next_root().joinpath("usr/bin/app").read_text() == "version 2\n"
