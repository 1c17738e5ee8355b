# SPDX-License-Identifier: GPL-2.0-or-later
"""What GRUB itself makes of a rollback and of the menu; see grub.py."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.vm import grub
from tests.vm.design import MACHINE_ID, Boot, Design, Root
from tests.vm.kernels import kernel_package
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted, wanted
from tests.vm.there_and_back import app, there_and_back

# After a story there and back. Without a saved entry GRUB takes the first of its menu.
_TRY = """
fs-rollback try latest
sed -i 's/^saved_entry=/other_entry=/' {grubenv}
[ "$(stat --format=%s {grubenv})" -eq 1024 ]
"""

_TRIAL = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x '/fs-snapshots/try_[0-9]*'
[ "$(app)" = 1 ]
modprobe loop
fs-rollback status >status || [ $? -eq 1 ]
head -1 status | grep 'This machine runs a trial of yum_'
"""

_USUAL = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -v try_
[ "$(uname -r)" = {new} ]
"""


def _whole_story(machine: Machine) -> None:
    """Roll a kernel back and forth, try a snapshot once, and choose the last of the menu."""
    machine.loader = grub.Grub(machine.disks, machine.directory)
    names = {"new": machine.base.kernels[1].version, "grubenv": "/boot/grub2/grubenv"}
    there_and_back(machine, kernel=True, then=_TRY.format(**names))
    machine.boot(_TRIAL)
    block = machine.read_boot_files("/boot/grub2")["grubenv"].decode().splitlines()
    assert "next_entry=" in block, "GRUB forgets it by itself"
    assert not [line for line in block if line.startswith("saved_entry=")]
    if all_wanted():  # a boot more: it starts the first of its menu
        machine.boot(_USUAL.format(**names))
    entries = machine.read_boot_files("/boot/loader/entries")
    assert len([name for name in entries if "fs-snapshot-" in name]) == 1
    grub.choose_once(machine.disks, len(entries) - 1)
    machine.boot(_TRIAL)


_FOLLOWS = """
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
fs-rollback rollback --yes
"""

_FOLLOWED = """
[ "$(uname -r)" = {old} ]
[ "$(app)" = 1 ]
[ ! -e /boot/vmlinuz-{new} ]
fs-rollback undo --yes --to-replaced
"""

_BACK = """
[ "$(uname -r)" = {new} ]
[ "$(app)" = 2 ]
"""


def _boot_follows(machine: Machine) -> None:
    """Where /boot is in a named root, the same paths lead GRUB into the other one."""
    machine.loader = grub.Grub(machine.disks, machine.directory)
    old, new = (kernel.version for kernel in machine.base.kernels)
    update = [kernel_package(machine.base.kernels[1], replaces=True), app("2")]
    machine.boot(_FOLLOWS, repository_files(update))
    machine.boot(_FOLLOWED.format(old=old, new=new))
    machine.boot(_BACK.format(new=new))


# The kernel without modules cannot mount an ext4, and a boot without /boot would be given up.
_UPDATE = """
[ "$(uname -r)" = {old} ]
sed -i '/[[:space:]].boot[[:space:]]/s/defaults/defaults,nofail/' /etc/fstab
grep nofail /etc/fstab
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
fs-rollback rollback --yes
"""

_NAMES_TAKEN_FOR_NUMBERS = """
[ "$(uname -r)" = {new} ]
[ "$(app)" = 1 ]
journalctl -b -u fs-rollback-boot --no-pager | tee journal
grep 'came up in the new root' journal
grep 'the boot loader started kernel {new} instead of its default entry' journal
grep 'Reboot and choose kernel {old} in the boot menu' journal
fs-rollback status >status || [ $? -eq 1 ]
grep 'no modules for the running kernel, {new}' status
fs-rollback check >check || [ $? -eq 1 ]
grep -A3 'no modules for the running kernel: {new}' check
"""


def _takes_names_for_numbers(machine: Machine) -> None:
    """GRUB as it comes, without Fedora's change, takes 7d1f... for the number 7: it is said.

    get_entry_number() in normal/menu.c; Fedora and EL compare names first since 2018.
    """
    machine.loader = grub.Grub(machine.disks, machine.directory)
    old, new = machine.base.kernels
    update = repository_files([kernel_package(new, replaces=True), app("2")])
    machine.boot(_UPDATE.format(old=old.version), update)
    machine.boot(_NAMES_TAKEN_FOR_NUMBERS.format(old=old.version, new=new.version))


# No number, for GRUB without Fedora's change.
_LETTERS = "e" + MACHINE_ID[1:]
_APP = (app("1"),)
_EXT4 = Design(Root.NAMED, Boot.EXT4, subvolumes=("home",))
_LIKE_FEDORA = replace(_EXT4, machine_id=_LETTERS)
_IN_ROOT = Design(Root.NAMED, Boot.IN_ROOT, machine_id=_LETTERS)
STORIES = [
    Story("grub-named-boot-ext4", _LIKE_FEDORA, _whole_story, _APP, long=True),
    Story("grub-named-boot-in-root", _IN_ROOT, _boot_follows, _APP, rare=True),
    Story("grub-boots-another-entry", _EXT4, _takes_names_for_numbers, _APP, rare=True),
]


@pytest.mark.parametrize("story", wanted(STORIES), ids=str)
def test_grub(story: Story, telling: Telling) -> None:
    telling.hear(story)
