# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether the boot loader still finds its files when the root is btrfs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Optional

from ...core.loader.choice import Loader as Known
from ...system.linux import devices, files
from ...system.loader.entries import Boot
from ...system.loader.places import GRUB_CONFIGURATIONS
from ..plan.facts import Loader
from .machine import Ext4Machine

_EFI = ("boot/efi/EFI", "efi/EFI", "boot/EFI")
_MODULES = "part_gpt part_msdos lvm btrfs ext2"
_MOST_BYTES = 64 << 20


def look(machine: Ext4Machine, found: Optional[Boot]) -> Loader:
    """Return what reads kernels and boot entries, and whether it can go on doing so."""
    choice = found.choice.loader if found else Known.UNKNOWN
    tree = machine.root_fd
    if choice is Known.SYSTEMD_BOOT and found:
        place = found.places[0]
        return Loader(place.point, "systemd-boot", place.beside_root, reads_btrfs=False)
    is_grub = choice is Known.GRUB or any(
        files.status_of(tree, f"boot/{name}") is not None for name in GRUB_CONFIGURATIONS
    )
    boot_device = files.device_of(tree, "boot/.")
    on_root = boot_device in (None, os.fstat(tree).st_dev)
    if not is_grub:
        return Loader("/boot", "the boot loader", on_root)
    images = list(_efi_images(tree))
    if images:
        # Which of several the firmware starts is not in files.
        able = {has_btrfs for _, has_btrfs in images}
        return Loader("/boot", "GRUB", on_root, able.pop() if len(able) == 1 else None)
    command = next(
        (c for c in ("grub2-install", "grub-install") if shutil.which(c)), "grub2-install"
    )
    disks = " ".join(_disks(machine.mount.device))
    return Loader("/boot", "GRUB", on_root, None, f'{command} --modules="{_MODULES}" {disks}')


def _efi_images(tree: int) -> Iterator[tuple[str, bool]]:
    """Give GRUB's programs on the ESP, and whether btrfs is among the modules inside.

    Modules are embedded as they are, each with its name (grub_module_header, kernel.h of GRUB).
    """
    for directory in vendors(tree):
        for name in files.list_in_tree(tree, directory) or []:
            if name.lower().startswith("grub") and name.lower().endswith(".efi"):
                path = f"{directory}/{name}"
                yield path, b"btrfs\0" in files.read_bytes(tree, path, _MOST_BYTES)


def vendors(tree: int) -> Iterator[str]:
    """Give the directories on the ESP in which each vendor has its loader."""
    for directory in _EFI:
        for vendor in files.list_in_tree(tree, directory) or []:
            yield f"{directory}/{vendor}"


def _disks(number: str) -> Iterator[str]:
    """Give the disks that a block device ("MAJOR:MINOR") lies on."""
    directory = os.path.realpath(f"/sys/dev/block/{number}")
    slaves = f"{directory}/slaves"
    below = sorted(os.listdir(slaves)) if os.path.isdir(slaves) else []
    for slave in below:
        with open(f"{slaves}/{slave}/dev", encoding="ascii") as file:
            yield from _disks(file.read().strip())
    if below:
        return
    if os.path.exists(f"{directory}/partition"):
        directory = os.path.dirname(directory)
    if os.path.exists(f"{directory}/dev"):
        with open(f"{directory}/dev", encoding="ascii") as file:
            yield devices.of_number(file.read().strip())
