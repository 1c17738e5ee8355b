# SPDX-License-Identifier: GPL-2.0-or-later
"""What `restore` refuses, with the reason, and that nothing was touched then."""

from __future__ import annotations

import os
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.commands import done, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import state
from tests.kernel.machine import LAYOUTS, Machine, run


def expect_refusal(machine: Machine, name: str, path: str, *parts: str) -> None:
    before = state(machine)
    refused = fs_rollback(machine.root, "restore", "--yes", name, path)
    refused.expect_refusal(*parts)
    assert state(machine) == before


@pytest.mark.parametrize(
    "layout",
    [
        layout if layout in ("named", "top-level") else pytest.param(layout, marks=pytest.mark.rare)
        for layout in LAYOUTS
    ],
)
def test_the_package_database_and_all_that_holds_it(make_machine: MakeMachine, layout: str) -> None:
    machine = make_machine(layout)
    for path in ("var/lib/dnf", "usr/lib/sysimage/libdnf5", "opt/history"):
        (machine.root / path).mkdir(parents=True)
    (machine.root / "var/lib/dnf/history.sqlite").write_text("x")
    conf = machine.root / "etc/dnf/dnf.conf"
    conf.parent.mkdir()
    conf.write_text("[main]\ntransaction_history_dir=/opt/history\n")
    (machine.root / "var/rpmdb").symlink_to("lib/rpm")
    name = machine.take()
    for path in ("/var", "/var/lib", "/var/lib/rpm", "/var/lib/rpm/rpmdb.sqlite", "/var/lib/dnf",
                 "/var/lib/dnf/history.sqlite", "/usr", "/usr/lib/sysimage", "/opt/history",
                 "/usr/lib/sysimage/libdnf5", "/var/rpmdb/rpmdb.sqlite", "/opt"):  # fmt: skip
        if (machine.root / path.lstrip("/")).exists():
            expect_refusal(machine, name, path, "package database")
    expect_refusal(machine, name, "/", "/ itself")
    done(machine.root, "restore", "--yes", name, "/var/data", "/usr/bin")


def test_a_database_that_the_root_finds_through_a_link(named: Machine) -> None:
    """As Fedora's: /var/lib/rpm leads to where it is."""
    sysimage = named.root / "usr/lib/sysimage"
    sysimage.mkdir()
    (named.root / "var/lib/rpm").rename(sysimage / "rpm")
    (named.root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    name = named.take()
    for path in ("/var/lib/rpm", "/var/lib/rpm/rpmdb.sqlite", "/usr/lib/sysimage/rpm"):
        expect_refusal(named, name, path, "package database")


def test_what_is_not_in_the_root_subvolume_is_named(named: Machine) -> None:
    (named.root / "srv/mounted").mkdir(parents=True)
    (named.root / "srv/mounted/file").write_text("x")
    (named.root / "srv/later").mkdir()
    (named.root / "srv/later/file").write_text("x")
    name = named.take()
    run("rm", "-r", str(named.root / "srv/later"))
    btrfsutil.create_subvolume(str(named.root / "srv/later"))
    run("mount", "-t", "tmpfs", "scratch", str(named.root / "srv/mounted"))
    try:
        place = str(named.root / "srv/mounted")
        expect_refusal(named, name, "/srv/mounted/file", f"on scratch, mounted on {place}")
        expect_refusal(named, name, "/srv/mounted", f"{place} is a mount point (scratch)")
        expect_refusal(named, name, "/srv", f"{place} is a mount point")
        expect_refusal(named, name, "/srv/later/file", "in the subvolume /srv/later")
        expect_refusal(named, name, "/srv/later", "/srv/later is a subvolume")
    finally:
        run("umount", str(named.root / "srv/mounted"))
    expect_refusal(named, name, "/srv", "/srv/later is a subvolume")


def test_what_the_snapshot_does_not_have(named: Machine) -> None:
    name = named.take()
    number = next(s.id for s in named.snapshots())
    expect_refusal(named, name, "/nix/store", f"{number} ({name}) has no /nix/store")
    expect_refusal(named, name, "/etc/fstab/x", "has no /etc/fstab/x")
    for path in ("/var/lib/machines/guest", "/var/lib/machines"):
        expect_refusal(named, name, path, "/var/lib/machines is a separate subvolume")
    home = named.root / "home"
    run("mount", "-o", "loop,subvol=home", str(named.image), str(home))
    try:
        expect_refusal(named, name, "/home/user/other", f"{home} (", "is a separate mount")
    finally:
        run("umount", str(home))
    done(named.root, "delete", name)
    assert fs_rollback(named.root, "restore", "--yes", name, "/etc/fstab").code == 2


def test_a_link_leads_nowhere_but_into_the_tree(named: Machine, tmp_path: Path) -> None:
    """The tree of a snapshot may be anybody's: it is resolved as if it were /."""
    outside = tmp_path / "secret"
    outside.mkdir()
    (outside / "file").write_text("of the system that runs")
    srv = named.root / "srv"
    srv.mkdir()
    (srv / "away").symlink_to(outside)
    (srv / "up").symlink_to("../" * 20 + str(outside).lstrip("/"))
    (srv / "in").symlink_to("/etc")
    (srv / "circle").symlink_to("circle")
    name = named.take()
    for path in ("/srv/away/file", "/srv/up/file", "/srv/circle/x"):
        expect_refusal(named, name, path, "has no")
    for path in ("/srv/../etc/fstab", "etc/fstab", ""):
        assert fs_rollback(named.root, "restore", "--yes", name, path).code == 2
    ended = done(named.root, "restore", "--yes", name, "/srv/in/app.conf", "/srv/away")
    assert "file /etc/app.conf" in ended.out
    assert os.readlink(srv / "away") == str(outside)
    assert (outside / "file").read_text() == "of the system that runs"


def test_a_link_where_a_directory_was_is_not_followed(named: Machine, tmp_path: Path) -> None:
    (named.root / "srv/d").mkdir(parents=True)
    (named.root / "srv/d/file").write_text("old")
    name = named.take()
    run("rm", "-r", str(named.root / "srv/d"))
    (named.root / "srv/d").symlink_to(tmp_path)
    expect_refusal(named, name, "/srv/d/file", "/srv/d was a directory and is now a symbolic link")
    assert os.listdir(tmp_path) != ["file"]
    (named.root / "srv/d").unlink()
    (named.root / "srv/d").write_text("a file")
    expect_refusal(named, name, "/srv/d/file", "/srv/d was a directory and is now a file")


def test_the_store_is_left_alone(make_machine: MakeMachine) -> None:
    machine = make_machine("top-level")
    first = machine.take()
    second = machine.take()
    for path in (f"/fs-snapshots/{first}.json", "/fs-snapshots", f"/fs-snapshots/{first}"):
        before = state(machine)
        assert fs_rollback(machine.root, "restore", "--yes", second, path).code == 3
        assert state(machine) == before


def test_nothing_while_a_rollback_waits_but_aside(named: Machine, tmp_path: Path) -> None:
    name = named.take()
    done(named.root, "rollback", name, "--yes")
    expect_refusal(named, name, "/etc/app.conf", "a rollback is waiting for a reboot")
    done(named.root, "restore", name, "/etc/app.conf", f"--aside={tmp_path}")
    assert (tmp_path / "app.conf").exists()
