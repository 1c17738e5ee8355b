# SPDX-License-Identifier: GPL-2.0-or-later
"""The rpm database decides whether a snapshot holds the system, wherever else one could be."""

from __future__ import annotations

import shutil
import subprocess
from typing import Callable

import btrfsutil
import pytest

from tests.kernel.commands import fs_rollback
from tests.kernel.machine import Machine, run

_FEDORA = "usr/lib/sysimage/rpm"


def _move_as_fedora_did(machine: Machine) -> None:
    (machine.root / _FEDORA).parent.mkdir(parents=True)
    shutil.copytree(machine.root / "var/lib/rpm", machine.root / _FEDORA)


def _empty_subvolume(machine: Machine) -> None:
    shutil.rmtree(machine.root / "var/lib/rpm")
    btrfsutil.create_subvolume(str(machine.root / "var/lib/rpm"))


def _empty_mount(machine: Machine) -> None:
    shutil.rmtree(machine.root / "var/lib/rpm")
    (machine.root / "var/lib/rpm").mkdir()
    run("mount", "-t", "tmpfs", "none", str(machine.root / "var/lib/rpm"))


def _old_database(machine: Machine) -> None:
    """On a /var of its own there is the one from before the move."""
    btrfsutil.create_subvolume(str(machine.top / "var"))
    (machine.top / "var/lib").mkdir()
    shutil.move(machine.root / "var/lib/rpm", machine.top / "var/lib/rpm")
    run("mount", "-o", "loop,subvol=var", str(machine.image), str(machine.root / "var"))


def _dangling_link(machine: Machine) -> None:
    shutil.rmtree(machine.root / "var/lib/rpm")
    (machine.root / "var/lib/rpm").symlink_to("/nowhere/rpm")


def _link(machine: Machine) -> None:
    shutil.rmtree(machine.root / "var/lib/rpm")
    (machine.root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")


def _says_var(machine: Machine) -> None:
    """EL 9: rpm is told that the database is the one on /var; the other is a leftover."""
    (machine.root / "usr/lib/rpm").mkdir()
    (machine.root / "usr/lib/rpm/macros").write_text("# x\n%_dbpath\t\t%{_var}/lib/rpm\n")
    _old_database(machine)


@pytest.mark.parametrize(
    ("change", "supported"),
    [
        (_empty_subvolume, True),
        (_empty_mount, True),
        (_old_database, True),
        (_dangling_link, True),
        (_link, True),
        (_says_var, False),
    ],
)
def test_only_the_database_itself_has_to_be_in_the_root(
    named: Machine, change: Callable[[Machine], None], supported: bool
) -> None:
    _move_as_fedora_did(named)
    named.upgrade()
    change(named)
    try:
        ended = fs_rollback(named.root, "rollback", "--dry-run", "--json")
        assert (ended.code == 0) == supported, ended
        assert supported or "/var/lib/rpm is a subvolume" in ended.err
    finally:
        for place in ("var/lib/rpm", "var"):
            subprocess.run(("umount", "--quiet", str(named.root / place)), check=False)
