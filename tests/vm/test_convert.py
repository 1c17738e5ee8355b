# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines whose root becomes btrfs: at a boot of their own or from elsewhere, and what comes then.

Every kind of machine, what comes after the conversion, and the power cuts: some hours,

    FS_ROLLBACK_VM=full tests/run vm -- -k convert
"""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.sandbox.rpms import Package
from tests.vm import converting, converting_cuts, ext4_looks
from tests.vm.converting import RUNNING, WELL, by_the_entry
from tests.vm.cuts import Camera
from tests.vm.design import Boot, Ext4Design
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted

_DESIGNS = tuple(
    Ext4Design(boot=boot, lvm=lvm, systemd=systemd)
    for systemd in (True, False)
    for lvm in (True, False)
    for boot in (Boot.IN_ROOT, Boot.EXT4)
)
_FIRST = Ext4Design()
_IN_VOLUME = Ext4Design(lvm=True)

_TIMEOUT_S = 900.0
_TIMES = 20


def _app(version: str) -> Package:
    files = {
        "/usr/bin/app": f"#!/bin/sh\necho {version}\n",
        "/usr/share/app/data": f"{version}\n",
    }
    return Package("app", version, files=files)


_CONVERTED = """
well btrfs
checked
lies_in / /
dmesg | grep -F 'Converted: '
[ -d /ext2_saved ]
fs-rollback convert finish --dry-run | tee left
for task in remove-ext4 defragment balance layout; do grep -x -e "--$task" left; done
"""
_UPGRADE = """
[ "$(app)" = 1 ]
dnf --assumeyes upgrade | tee upgrade
grep -Ex 'fs-snapshot: snapshotting /: /fs-snapshots/yum_[0-9]{14}' upgrade
[ "$(app)" = 2 ]
"""
_BREAK = """
printf '#!/bin/sh\\necho broken\\n' >/usr/bin/app
fs-rollback rollback --yes
"""
_ROLLED_BACK = """
well btrfs
checked
[ "$(app)" = 1 ]
[ -z "$(rpm -V app)" ]
"""
_UNDONE = """
well btrfs
checked
[ "$(app)" = broken ]
"""
_NAMED = """
lies_in / /root
lies_in /home /home
grep -E '^[^#].* / +btrfs .*subvol=root' /etc/fstab
grep -E '^[^#].* /home +btrfs .*subvol=home' /etc/fstab
grep '^options .*rootflags=subvol=root' "/boot/loader/entries/$(cat /etc/machine-id)"-*.conf
[ -z "$(ls /boot/loader/entries | grep convert)" ]
[ "$(cat /home/somebody)" = here ]
"""


def _boot(machine: Machine, *jobs: str, upgrade: bool = False) -> str:
    files = repository_files([_app("2")]) if upgrade else {}
    return machine.boot(WELL + "".join(jobs), files, timeout_s=_TIMEOUT_S).output


def _converting_boot(machine: Machine, *jobs: str, upgrade: bool = False) -> str:
    """Boot a machine that converts its root; what it does stands on the console."""
    assert converting.ext4(machine).root_type == "ext4"
    said = _boot(machine, *jobs, upgrade=upgrade)
    assert converting.ext4(machine).root_type == "btrfs"
    console = converting.console(machine)
    _expect_in_order(
        console,
        "fs-rollback: checking the ext4 on /dev/",
        "fs-rollback: converting /dev/",
        "fs-rollback: Copy inodes: ",
        "fs-rollback: checking the btrfs",
        "Converted: /dev/",
    )
    assert console.count("fs-rollback: checking the btrfs") == 1, "once on the console"
    return said


def _expect_in_order(text: str, *parts: str) -> None:
    place = 0
    for part in parts:
        place = text.find(part, place)
        assert place >= 0, f"{part!r} is not there:\n{text}"


def _at_next_boot(machine: Machine) -> None:
    """Convert, roll back, and from there on with a root that has a name: each boot proves two."""
    before = converting.prepare(machine, "--at-next-boot")
    work = ("echo here >/home/somebody", _UPGRADE, _BREAK)
    _converting_boot(machine, _CONVERTED, *work, upgrade=True)
    converting.expect_files(machine, before, RUNNING)
    finish = "fs-rollback convert finish --remove-ext4 --balance --layout --yes\n"
    _boot(machine, _ROLLED_BACK, finish, "[ ! -e /ext2_saved ]\n")
    named = "well btrfs\nchecked\n" + _NAMED
    _boot(machine, named, _UPGRADE, "fs-rollback rollback --yes\n", upgrade=True)
    _boot(machine, _ROLLED_BACK, _NAMED)


def _whole_way(machine: Machine) -> None:
    """Both steps to a root with a name, from one that was never rolled back; and undo."""
    before = converting.prepare(machine, "--at-next-boot")
    _converting_boot(machine, _CONVERTED, "echo here >/home/somebody\n")
    converting.expect_files(machine, before, RUNNING)
    finish = "fs-rollback convert finish --yes"
    tasks = f"{finish} --remove-ext4\n{finish} --balance --defragment --layout\n"
    _boot(machine, "well btrfs\nchecked\n", tasks)
    _boot(machine, "well btrfs\nchecked\n[ ! -e /ext2_saved ]\n", f"{finish} --layout\n")
    named = "well btrfs\nchecked\n" + _NAMED
    _boot(machine, named, _UPGRADE, _BREAK, upgrade=True)
    _boot(machine, _ROLLED_BACK, _NAMED, "fs-rollback undo --yes --to-replaced\n")
    _boot(machine, _UNDONE, _NAMED)


def _undone(machine: Machine) -> None:
    """A rollback and its undo in the layout that the conversion makes."""
    before = converting.prepare(machine, "--at-next-boot")
    _converting_boot(machine, _CONVERTED, _UPGRADE, _BREAK, upgrade=True)
    converting.expect_files(machine, before, RUNNING)
    _boot(machine, _ROLLED_BACK, "fs-rollback undo --yes --to-replaced\n")
    _boot(machine, _UNDONE)


def _from_elsewhere(machine: Machine) -> None:
    """From a rescue system, and back from there, and all of it taken back."""
    original = {
        directory: machine.read_boot_files(directory)
        for directory in ("/boot", machine.design.entries)
    }
    before = converting.prepare(machine)
    done = converting.convert_run(machine, "--have-backup")
    assert done.returncode == 0, done.stderr
    assert "Converted: " in done.stdout
    converting.check_filesystem(machine)
    converting.expect_files(machine, before)
    _boot(machine, "well btrfs\nchecked\ntouch /lost-again\n")
    done = converting.convert_run(machine, "--back")
    assert done.returncode == 0, done.stderr
    assert "/lost-again" in done.stdout
    converting.check_filesystem(machine)
    converting.expect_files(machine, before)
    _boot(machine, "well ext4\nfs-rollback convert abort --yes\n[ ! -e /fs-snapshots ]\n")
    for directory, files in original.items():
        assert machine.read_boot_files(directory) == files, "as it was before"
    _boot(machine, "well ext4\n")


def _refused(machine: Machine) -> None:
    """What was changed since is not converted, the machine comes up; and once it is put right."""
    before = converting.prepare(machine, "--at-next-boot")
    with converting.ext4(machine).top() as top:
        fstab = (top / "etc/fstab").read_text()
        (top / "etc/fstab").write_text(fstab + "# changed\n")
    _boot(machine, "well ext4\n")
    _expect_in_order(converting.console(machine), "fs-rollback: /etc/fstab on /dev/", "changed")
    with converting.ext4(machine).top() as top:
        (top / "etc/fstab").write_text(fstab)
    with by_the_entry(machine):
        _converting_boot(machine, "well btrfs\nchecked\n")
        converting.expect_files(machine, before, RUNNING)
        _boot(machine, "well btrfs\nchecked\n")
    assert "was converted before: there is nothing to do" in converting.console(machine)
    _boot(machine, "well btrfs\nchecked\nfs-rollback convert finish --yes\n")
    names = machine.read_boot_files(machine.design.entries)
    assert not [name for name in names if "convert" in name], "tidied"


def _again_and_again(machine: Machine) -> None:
    """On a host that does much else: whatever comes late, it is converted and comes up."""
    before = converting.prepare(machine, "--at-next-boot", copies=0)
    camera = Camera(machine)
    load = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(_load())]
    try:
        for _ in range(_TIMES):
            _converting_boot(machine, "well btrfs\nchecked\n")
            converting.expect_files(machine, before, RUNNING)
            camera.put_back()
    finally:
        for process in load:
            process.kill()
            process.wait()


def _load() -> int:
    return (os.cpu_count() or 1) // 2 or 1  # beside the stories of other machines


def _stories() -> list[Story]:
    app = (_app("1"),)
    found = [Story(f"convert-{design.name}", design, _at_next_boot, app) for design in _DESIGNS]
    for name, tell in (
        ("whole-way", _whole_way),
        ("undone", _undone),
        ("elsewhere", _from_elsewhere),
        ("refused", _refused),
        ("again", _again_and_again),
    ):
        found.append(Story(f"convert-{name}", _FIRST, tell, app))
    found.append(Story("convert-elsewhere-lvm", _IN_VOLUME, _from_elsewhere, app))
    return [*found, *converting_cuts.stories(), *ext4_looks.stories()]


# All of them are rare: tests/kernel/test_convert_*.py convert disks by the command that these boots
# run, btrfs-convert(8) itself in test_convert_whole.py among it.
if all_wanted():

    @pytest.mark.parametrize("story", _stories(), ids=str)
    def test_convert(story: Story, telling: Telling) -> None:
        telling.hear(story)
