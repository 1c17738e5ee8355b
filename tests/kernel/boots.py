# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines of tests/kernel/machine.py with a boot loader's files, at each place they may lie.

Two kernels: A is there from the beginning, B comes with a transaction. What the loader would do is
read here from the files alone, with none of the program under test.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import btrfsutil
import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, PackageChange, Transaction
from fs_rollback.system.hooks import transaction
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import GRUB_CFG, KERNEL, Machine, run

A = KERNEL
B = "6.2.0-1"
TOKEN = "abc"
# A boot of this root can tell that it is healthy.
GENERATOR = "usr/lib/systemd/system-generators/fs-rollback-guard-generator"
_HEAD = b"# GRUB Environment Block\n"


class Kind(NamedTuple):
    """Where a machine has the boot loader's files.

    `point` is where they are mounted, "" if they are in the root; `filesystem` is what is mounted
    there; `prefix` is how the loader gets to them from the beginning of its filesystem.
    """

    layout: str
    point: str
    filesystem: str
    prefix: str
    systemd: bool = False


KINDS = {
    "ext4": Kind("named", "boot", "ext4", ""),
    "subvolume": Kind("named-and-default", "boot", "btrfs", "/boot"),
    "in the root": Kind("named", "", "", "/root/boot"),
    "top level": Kind("top-level", "", "", "/boot"),
    "boot/efi": Kind("named", "boot/efi", "ext4", "", systemd=True),
    "efi": Kind("named", "efi", "ext4", "", systemd=True),
}
OUTSIDE = ("ext4", "subvolume", "boot/efi", "efi")


class BootMachine:
    """A machine and what its boot loader reads; `place` is the directory with loader/entries."""

    def __init__(self, machine: Machine, kind: str, size_bytes: int = 32 << 20) -> None:
        self.machine = machine
        self.kind = KINDS[kind]
        self.root = machine.root
        self.image = machine.image.parent / "boot.img"
        # GRUB goes on reading the top level when another subvolume has become the default.
        top_level = kind == "top level"
        self.place = (machine.top if top_level else self.root) / (self.kind.point or "boot")
        self._size_bytes = size_bytes

    def create(self) -> None:
        """Take away the files that every machine has, and put a whole loader in their place."""
        for name in (f"loader/entries/{TOKEN}-{A}.conf", f"vmlinuz-{A}"):
            (self.root / "boot" / name).unlink()
        for name in ("loader/entries", "loader"):
            (self.root / "boot" / name).rmdir()
        self.place.mkdir(exist_ok=True)
        if self.kind.point:
            self._make_filesystem()
            self.mount()
        if self.kind.systemd:
            (self.place / "EFI/systemd").mkdir(parents=True)
        else:
            self.write("grub2/grub.cfg", GRUB_CFG)
            self.write("grub2/grubenv", (_HEAD + b"#" * (1024 - len(_HEAD))).decode())
        self.machine.write(self.root, GENERATOR, "#!/bin/sh\n")
        self.add_kernel(A)
        self.choose(A)

    def _make_filesystem(self) -> None:
        if self.kind.filesystem == "btrfs":
            btrfsutil.create_subvolume(str(self.machine.top / "boot"))
            uuid, options = self.machine.uuid, "subvol=boot"
        else:
            with self.image.open("wb") as file:
                file.truncate(self._size_bytes)
            run("mkfs.ext4", "-q", "-m", "0", str(self.image))
            uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", str(self.image)).strip()
            options = "defaults"
        line = f"UUID={uuid} /{self.kind.point} {self.kind.filesystem} {options} 0 0\n"
        with (self.root / "etc/fstab").open("a") as file:
            file.write(line)

    def mount(self) -> None:
        """Mount what is outside of the root, if anything is."""
        if self.kind.filesystem == "btrfs":
            run("mount", "-o", "loop,subvol=boot", str(self.machine.image), str(self.place))
        elif self.kind.point:
            run("mount", "-o", "loop", str(self.image), str(self.place))

    def unmount(self) -> None:
        """Unmount it again, if it is mounted."""
        if self.kind.point:
            subprocess.run(("umount", "--quiet", str(self.place)), check=False)

    def reboot(self) -> None:
        """Mount what the next boot would find."""
        self.unmount()
        self.machine.reboot()
        self.mount()

    @property
    def disks(self) -> tuple[Path, ...]:
        """The images of its disks, the root's first: what it says of /boot has to be there."""
        outside = self.kind.filesystem == "ext4"
        return (self.machine.image, self.image) if outside else (self.machine.image,)

    def adopt(self, *disks: Path) -> None:
        """Become the machine that finds these disks after a power cut, and boot it."""
        self.unmount()
        self.machine.adopt(disks[0])
        self.image = disks[-1]
        self.mount()

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file of the loader's."""
        file = self.place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    # What package managers do.

    def files_of(self, version: str) -> tuple[str, str]:
        """Return kernel and initramfs as they lie in `place`."""
        if self.kind.systemd:
            return f"{TOKEN}/{version}/linux", f"{TOKEN}/{version}/initrd"
        return f"vmlinuz-{version}", f"initramfs-{version}.img"

    def entry_of(self, version: str) -> Path:
        return self.place / f"loader/entries/{TOKEN}-{version}.conf"

    def add_modules(self, version: str) -> None:
        """Put a kernel into the root, as its package does."""
        modules = f"usr/lib/modules/{version}"
        self.machine.write(self.root, f"{modules}/modules.dep", "")
        self.machine.write(self.root, f"{modules}/vmlinuz", f"kernel {version}\n" * 500)

    def add_kernel(self, version: str) -> None:
        """Install a kernel as kernel-install(8) and dracut(8) do."""
        self.add_modules(version)
        linux, initrd = self.files_of(version)
        self.write(linux, f"kernel {version}\n" * 500, 0o755)
        self.write(initrd, f"initramfs {version}\n" * 3000, 0o600)
        flags = " rootflags=subvol=root" if self.kind.layout.startswith("named") else ""
        self.write(
            f"loader/entries/{TOKEN}-{version}.conf",
            f"title Test Linux ({version})\nversion {version}\n"
            f"linux {self.kind.prefix}/{linux}\ninitrd {self.kind.prefix}/{initrd}\n"
            f"options root=UUID={self.machine.uuid} ro{flags} quiet\n",
        )

    def remove_kernel(self, version: str) -> None:
        """Remove what the loader reads of a kernel; its modules stay."""
        for name in self.files_of(version):
            (self.place / name).unlink()
        self.entry_of(version).unlink()

    def remove_modules(self, version: str) -> None:
        run("rm", "-r", str(self.root / "usr/lib/modules" / version))

    def choose(self, version: str) -> None:
        """Make an entry the default, as the package manager's hooks do."""
        if self.kind.systemd:
            text = f"# a comment\ntimeout 3\ndefault {TOKEN}-{version}.conf\nconsole-mode max\n"
            self.write("loader/loader.conf", text)
        else:
            self.write_grubenv({"saved_entry": f"{TOKEN}-{version}", "boot_success": "0"})

    def write_grubenv(self, values: Mapping[str, str]) -> None:
        text = _HEAD + "".join(f"{k}={v}\n" for k, v in values.items()).encode()
        (self.place / "grub2/grubenv").write_bytes(text + b"#" * (1024 - len(text)))

    def transact(
        self, change: Callable[[], object] = lambda: None, config: Optional[Config] = None
    ) -> tuple[str, tuple[str, ...]]:
        """Do a transaction as the plugin does it; returns the snapshot's name and the problems."""
        config = config or Config()
        row = PackageChange("upgrade", "app", "noarch", "1-1", "2-1")
        wanted = Transaction("dnf4", ("dnf", "upgrade"), "admin", (row,))
        taken = transaction.before(wanted, str(self.root), config)
        assert isinstance(taken, transaction.Taken), taken
        change()
        problems = transaction.after(taken, Outcome.DONE, 1)
        return taken.record.name, (*taken.menu.problems, *problems)

    def install_b(self) -> None:
        self.add_kernel(B)
        self.choose(B)

    # What the loader finds.

    @property
    def setting(self) -> Path:
        """The file that says which entry is the default."""
        return self.place / ("loader/loader.conf" if self.kind.systemd else "grub2/grubenv")

    def default_name(self) -> str:
        """Return the name of the entry that boots, as the file says it."""
        if self.kind.systemd:
            lines = self.setting.read_text().splitlines()
            told = dict(line.split(maxsplit=1) for line in lines if not line.startswith("#"))
            return (told.get("preferred") or told["default"]).strip().removesuffix(".conf")
        data = self.setting.read_bytes()
        assert len(data) == 1024
        assert data.startswith(_HEAD)
        return next(
            line.partition("=")[2]
            for line in data.decode().splitlines()
            if line.startswith("saved_entry=")
        )

    def entry(self, name: str) -> dict[str, str]:
        """Return the keys of an entry."""
        text = (self.place / f"loader/entries/{name}.conf").read_text()
        return dict(line.split(maxsplit=1) for line in text.splitlines())

    def found(self, path: str) -> Path:
        """Return where the loader finds a path: GRUB reads btrfs from the top level."""
        outside = self.kind.filesystem == "ext4"
        return (self.place if outside else self.machine.top) / path.lstrip("/")

    def boots(self) -> str:
        """Return the kernel that the next boot starts, after proving that it comes up with it."""
        entry = self.entry(self.default_name())
        for key in ("linux", "initrd"):
            assert self.found(entry[key]).stat().st_size, f"the loader finds no {entry[key]}"
        version = entry["version"]
        assert (self.machine.next_root() / "usr/lib/modules" / version).is_dir(), version
        return version

    def ours(self) -> list[str]:
        """Return the names of the entries of snapshots."""
        return sorted(
            p.stem
            for p in (self.place / "loader/entries").glob("*.conf")
            if "fs-snapshots" in p.read_text(errors="replace")
        )

    def store(self) -> Path:
        return self.machine.top / "fs-snapshots"

    def saved(self) -> dict[str, Path]:
        """Return the saved boot files, without the lists of them."""
        place = self.store() / "boot"
        names = os.listdir(place) if place.is_dir() else []
        return {name: place / name for name in names if not name.endswith(".json")}


MakeBoot = Callable[..., BootMachine]


@contextmanager
def making(make_machine: MakeMachine) -> Iterator[MakeBoot]:
    """Give a function that makes a machine of a kind; what it mounts goes at the end."""
    made: list[BootMachine] = []

    def make(kind: str, size_bytes: int = 32 << 20) -> BootMachine:
        found = BootMachine(make_machine(KINDS[kind].layout), kind, size_bytes)
        made.append(found)
        found.create()
        return found

    try:
        yield make
    finally:
        for found in made:
            found.unmount()


@pytest.fixture
def make_boot(make_machine: MakeMachine) -> Iterator[MakeBoot]:
    """Give `making` to a test."""
    with making(make_machine) as make:
        yield make
