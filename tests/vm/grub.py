# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB itself, 2.14 or newer, which reads boot entries.

It is started by the firmware from an ESP that holds nothing of the machine but the few lines that
Fedora's has, which lead to the machine's own grub.cfg and grubenv. It orders entries by another
rule than Fedora's 2.12, and finds the default among them in the same way.
"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from . import qemu
from .base import newer_loader
from .disk import Disks
from .loader import firmware

_FILES = (
    # With all of GRUB in it that can be needed to read a disk, but for boot entries.
    ("usr/lib/grub/x86_64-efi/monolithic/grubx64.efi", "EFI/BOOT/BOOTX64.EFI"),
    ("usr/lib/grub/x86_64-efi/blsuki.mod", "EFI/debian/blsuki.mod"),
)
_ESP_BYTES = 33 * 1024**2  # FAT32 needs that many

_STUB = """\
insmod $prefix/blsuki.mod
search --no-floppy --fs-uuid --set=root {uuid}
set prefix=($root){directory}/grub2
export prefix
configfile $prefix/grub.cfg
"""


class Grub:
    """The loader of a machine whose design is for GRUB; see loader.Loader."""

    def __init__(self, disks: Disks, directory: Path) -> None:
        self._esp = directory / "grub.img"
        self._variables = directory / "variables.fd"
        uuid = disks.uuids.boot or disks.uuids.root
        stub = _STUB.format(uuid=uuid, directory=disks.design.seen_by_loader)
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            tree = Path(scratch)
            _unpack(tree)
            (tree / "EFI/debian/grub.cfg").write_text(stub)
            with self._esp.open("wb") as file:
                file.truncate(_ESP_BYTES)
            subprocess.run(["mkfs.vfat", "-F", "32", self._esp], check=True, capture_output=True)
            subprocess.run(["mcopy", "-s", "-Q", "-i", self._esp, tree / "EFI", "::"], check=True)

    def arguments(self, disks: Disks, directory: Path) -> list[str]:
        """Return the arguments for a boot through the firmware; see loader.Loader."""
        return [*firmware(self._variables), *qemu.disk(self._esp, "esp")]


def choose_once(disks: Disks, number: int) -> None:
    """Choose an entry by its place in the menu, 0 for the first, as grub-reboot(8) does."""
    with disks.boot_partition() as top:
        path = top / "grub2/grubenv"
        block = path.read_text()
        lines = [line for line in block.rstrip("#").splitlines() if "next_entry=" not in line]
        text = "\n".join([*lines, f"next_entry={number}", ""])
        path.write_text(text.ljust(len(block), "#"))


def _unpack(tree: Path) -> None:
    """Put GRUB's files where an ESP has them."""
    for source, name in _FILES:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(newer_loader(source))
