# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with an ext4 root: what a conversion finds, and that their loader follows one."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.kernel.newer_tools import newer_btrfs_progs
from tests.sandbox.rpms import Package
from tests.vm.conversion import ROOT_BYTES
from tests.vm.design import Boot, Ext4Design
from tests.vm.ext4 import Ext4Disks
from tests.vm.loader import GrubLike
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story

_TIMEOUT_S = 900.0
_APP = Package("app", "1", files={"/usr/bin/app": "#!/bin/sh\necho 1\n"})

_LOOK = """
[ "$(findmnt --noheadings --output FSTYPE --mountpoint /)" = ext4 ]
findmnt --noheadings --output OPTIONS --mountpoint / | grep -E '^rw,.*errors=remount-ro'
findmnt --verify --tab-file /etc/fstab
[ -z "{boot}" ] || findmnt --mountpoint {boot}
{lvm}
[ -z "$(systemctl --failed --quiet --plain --no-legend)" ]
fs-rollback --version
rpm --query fs-rollback python3-dnf-plugin-fs-snapshot
dnf --assumeyes install app
[ "$(app)" = 1 ]
btrfs-convert --version
entry=$(sed -n 's/^saved_entry=//p' /boot/grub2/grubenv)
sed -i "s/^boot_success=0$/&\\nnext_entry=$entry/; s/#*$//" /boot/grub2/grubenv
truncate --size=1024 /boot/grub2/grubenv
"""
# What the host has no driver for: the machine makes it, of a disk of its own.
_LAYERS = """
checks() {
    code=0
    fs-rollback convert check "$@" >check || code=$?
    cat check
    [ "$code" = "$expected" ]
}
expected=1
checks
grep -E '^ok +device .*LVM fedora-root on /dev/vd[a-z]+$' check
modprobe loop # without static nodes nobody loads it
disk=/dev/disk/by-id/virtio-attached-layers
yes | mdadm --create /dev/md0 --run --metadata=1.0 --level=1 --raid-devices=2 "$disk" missing
echo secret >key
cryptsetup luksFormat --batch-mode --pbkdf pbkdf2 --pbkdf-force-iterations 1000 /dev/md0 key
cryptsetup open --key-file key /dev/md0 hidden
mke2fs -q -t ext4 /dev/mapper/hidden
mkdir tree
mount /dev/mapper/hidden tree
mkdir tree/usr tree/etc
echo '/dev/mapper/hidden / ext4 defaults 0 1' >tree/etc/fstab
echo 'hidden /dev/md0 none luks' >tree/etc/crypttab
umount tree
expected=3 # it has no kernel
checks --device /dev/mapper/hidden
grep -E '^ok +device .*LUKS hidden on md raid1 /dev/md0 on /dev/vd[a-z]+$' check
grep -E '^ok +names .*/etc/fstab says /dev/mapper/hidden, which stays valid$' check
grep -E '^ok +names .*/etc/crypttab: hidden /dev/md0: the encrypted container is not changed$' check
[ "$(cryptsetup luksUUID /dev/md0)" ]
"""


def _looked_through(machine: Machine) -> None:
    """What the root lies on is known, on the machine itself and of a disk of another."""
    layers = machine.directory / "layers.img"
    with layers.open("wb") as file:
        file.truncate(ROOT_BYTES)
    machine.boot(_LAYERS, attached=[layers], timeout_s=_TIMEOUT_S)


def _looked_at(machine: Machine) -> None:
    design = machine.design
    assert isinstance(design, Ext4Design)
    version = machine.base.kernels[0].version
    files = machine.read_boot_files("/boot")
    initramfs = files[f"initramfs-{version}.img"]
    # Not compressed, so the names in it can be found.
    modules = f"usr/lib/modules/{version}/kernel"
    assert f"{modules}/drivers/block/virtio_blk.ko".encode() in initramfs
    assert f"{modules}/fs/btrfs/btrfs.ko".encode() not in initramfs
    assert b"bin/btrfs" not in initramfs
    assert (b"usr/lib/systemd/system/dracut-pre-mount.service" in initramfs) is design.systemd
    assert (b"bin/lvm" in initramfs) is design.lvm
    lvm = "lvs --noheadings | grep -w fedora" if design.lvm else "[ ! -e /dev/mapper/fedora-root ]"
    machine.boot(_LOOK.format(boot=design.boot_mount, lvm=lvm), repository_files([_APP]))
    assert b"next_entry=7d" in _grubenv(machine)
    machine.boot("true")
    assert b"next_entry=\n" in _grubenv(machine), "forgotten by the loader"
    _read_when_converted(machine)


def _grubenv(machine: Machine) -> bytes:
    block = machine.read_boot_files("/boot/grub2")["grubenv"]
    assert len(block) == 1024
    return block


def _read_when_converted(machine: Machine) -> None:
    """Convert the disk on the host: the loader finds the same kernel in what then is btrfs."""
    disks, loader = machine.disks, machine.loader
    assert isinstance(disks, Ext4Disks)
    assert isinstance(loader, GrubLike)
    before = loader.choose(disks, machine.directory).command_line
    if disks.design.lvm:
        return
    assert disks.root_type == "ext4"
    convert = os.fspath(newer_btrfs_progs() / "btrfs-convert")
    command = [convert, "--no-progress", "--uuid", "copy", os.fspath(disks.root)]
    subprocess.run(command, check=True, capture_output=True)
    assert disks.root_type == "btrfs"
    assert disks.loader_writes is (disks.design.boot is Boot.EXT4)
    assert loader.choose(disks, machine.directory).command_line == before
    with disks.top() as top:
        assert Path(top, "ext2_saved/image").exists()
        assert Path(top, "usr/bin/app").exists()


def stories() -> list[Story]:
    """Return a story for each kind of machine; the conversions stand on all of it."""
    layers = Story("convert-check-layers", Ext4Design(lvm=True), _looked_through)
    return [layers] + [
        Story(design.name, design, _looked_at)
        for design in (
            Ext4Design(boot=boot, lvm=lvm, systemd=systemd)
            for boot in (Boot.IN_ROOT, Boot.EXT4)
            for lvm in (False, True)
            for systemd in (True, False)
        )
    ]
