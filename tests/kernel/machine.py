# SPDX-License-Identifier: GPL-2.0-or-later
"""A small machine on a real btrfs filesystem in a file: enough of a tree to be rolled back.

It is mounted, never booted: `root` is where its root is mounted, as a rescue system would do it,
and everything is done with `--root`. `reboot` mounts what the next boot would find.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Callable

import btrfsutil

from fs_rollback.core.rollback.operations import Operations
from fs_rollback.core.snapshots.record import Kind, Outcome, PackageChange, Transaction
from fs_rollback.core.snapshots.snapshot import Snapshot
from fs_rollback.system.execute import executor
from fs_rollback.system.execute.trees import Operations as RealOperations
from fs_rollback.system.hooks import transaction
from fs_rollback.system.machine import host
from fs_rollback.system.pending import settle
from fs_rollback.system.rollback import perform
from fs_rollback.system.rollback import propose as proposals
from fs_rollback.system.snapshots import take_and_delete
from fs_rollback.system.store import journals, store
from tests.kernel import running

KEEP = ("/home", "/root", "/var/log")
LAYOUTS = ("named", "named-and-default", "default", "top-level")
KERNEL = "6.1.0-1"
GRUB_CFG = """\
load_env
if [ "${next_entry}" ] ; then
   set default="${next_entry}"
   set next_entry=
   save_env next_entry
else
   set default="${saved_entry}"
fi
blscfg
"""
_ROOT_NAME = {"named": "root", "named-and-default": "root", "default": "sys", "top-level": ""}
_IMAGE_BYTES = 512 << 20


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return done.stdout


class Machine:
    """One filesystem with a root, as `layout` has it."""

    def __init__(self, directory: Path, layout: str) -> None:
        self.layout = layout
        self.image = directory / "disk.img"
        self.root = directory / "root"
        self.top = directory / "top"
        self.root_name = _ROOT_NAME[layout]
        self.uuid = ""

    def create(self, image_bytes: int = _IMAGE_BYTES) -> None:
        """Make the filesystem and fill it."""
        with self.image.open("wb") as file:
            file.truncate(image_bytes)
        run("mkfs.btrfs", "--quiet", "--data", "single", "--metadata", "single", str(self.image))
        self.uuid = run("blkid", "-s", "UUID", "-o", "value", str(self.image)).strip()
        self.root.mkdir(exist_ok=True)
        self.top.mkdir(exist_ok=True)
        run("mount", "-o", "loop,noatime,subvolid=5", str(self.image), str(self.top))
        tree = self.top / self.root_name
        if self.root_name:
            btrfsutil.create_subvolume(str(tree))
            btrfsutil.create_subvolume(str(self.top / "home"))
        if self.layout in ("named-and-default", "default"):
            btrfsutil.set_default_subvolume(str(tree), btrfsutil.subvolume_id(str(tree)))
        self._fill(tree)
        self.boot()

    def _fill(self, tree: Path) -> None:
        named = self.layout.startswith("named")
        flags = " rootflags=subvol=root" if named else ""
        options = "subvol=root,compress=zstd:1" if named else "defaults"
        prefix = f"/{self.root_name}" if self.root_name else ""  # GRUB reads from the top level
        line = f"root=UUID={self.uuid} ro{flags} quiet\n"
        fstab = f"# made by a test\nUUID={self.uuid} /      btrfs   {options} 0 0\n"
        if self.root_name:
            fstab += f"UUID={self.uuid} /home  btrfs   subvol=home 0 0\n"
        for path, text in {
            "etc/fstab": fstab,
            "etc/kernel/cmdline": line,
            f"boot/loader/entries/abc-{KERNEL}.conf": f"title Test\nversion {KERNEL}\n"
            f"linux {prefix}/boot/vmlinuz-{KERNEL}\noptions {line}",
            f"boot/vmlinuz-{KERNEL}": "kernel\n",
            f"usr/lib/modules/{KERNEL}/modules.dep": "",
            "usr/bin/app": "version 1\n",
            "etc/app.conf": "setting 1\n",
            "root/.profile": "root's file 1\n",
            "home/user/letter": "letter 1\n",
            "var/log/messages": "line 1\n",
            "var/data": "data 1\n",
        }.items():
            self.write(tree, path, text)
        (tree / "var/lib").mkdir()
        shutil.copytree(_empty_rpmdb(self.image.parent), tree / "var/lib/rpm")
        btrfsutil.create_subvolume(str(tree / "var/lib/machines"))
        self.write(tree, "var/lib/machines/guest", "guest 1\n")
        btrfsutil.create_subvolume(str(tree / "var/lib/machines/inner"))
        self.write(tree, "var/lib/machines/inner/file", "inner 1\n")
        btrfsutil.set_subvolume_read_only(str(tree / "var/lib/machines/inner"), True)

    @staticmethod
    def write(tree: Path, path: str, text: str) -> None:
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)

    def boot(self) -> None:
        """Mount the root that a boot would find now."""
        running.begin_boot(self.root)
        option = "subvol=root" if self.layout.startswith("named") else "noatime"
        run("mount", "-o", f"loop,{option}", str(self.image), str(self.root))

    def reboot(self) -> None:
        run("umount", str(self.root))
        self.boot()

    def adopt(self, image: Path) -> None:
        """Become the machine that finds this image after a power cut, and boot it."""
        self.destroy()
        self.image = image
        run("mount", "-o", "loop,noatime,subvolid=5", str(self.image), str(self.top))
        self.boot()

    def destroy(self) -> None:
        for place in (self.root, self.top):
            subprocess.run(("umount", "--quiet", str(place)), check=False)

    # What an administrator and a package manager do to it.

    def upgrade(self, version: int = 2) -> str:
        """Do a transaction as the plugin does it; returns the snapshot's name."""
        change = PackageChange("upgrade", "app", "noarch", f"{version - 1}-1", f"{version}-1")
        taken = transaction.before(
            Transaction("dnf4", ("dnf", "upgrade"), "admin", (change,)), str(self.root)
        )
        assert isinstance(taken, transaction.Taken), taken
        (self.root / "usr/bin/app").write_text(f"version {version}\n")
        for path in ("etc/app.conf", "var/data"):
            (self.root / path).write_text(f"{version}\n")
        problems = transaction.after(taken, Outcome.DONE, version)
        assert problems == []
        return taken.record.name

    def use(self, number: int) -> None:
        """Write what a user writes."""
        for path in (
            "root/.profile",
            "home/user/letter",
            "var/log/messages",
            "var/lib/machines/guest",
        ):
            if (self.root / path).exists():
                (self.root / path).write_text(f"user's {number}\n")

    @contextmanager
    def writing(self) -> Iterator[tuple[host.Host, store.Store]]:
        """Open the machine as a command that writes does."""
        with host.opened(str(self.root)) as machine, store.opened(machine, create=True) as found:
            assert found is not None
            with found.locked():
                settle.settle_in_passing(machine, found)
                found.tidy()
                yield machine, found

    @contextmanager
    def unsettled(self) -> Iterator[tuple[host.Host, store.Store]]:
        """Open the machine locked, before anything an earlier run left is looked at."""
        with host.opened(str(self.root)) as machine, store.opened(machine) as found:
            assert found is not None
            with found.locked():
                yield machine, found

    def snapshots(self) -> list[Snapshot]:
        with host.opened(str(self.root)) as machine, store.opened(machine) as found:
            return found.load() if found else []

    def take(self, description: str = "") -> str:
        with self.writing() as (machine, found):
            now = datetime.now().astimezone()
            record = take_and_delete.take(machine, found, Kind.MANUAL, now, description=description)
            found.write(record)
            return record.name

    def roll_back(
        self,
        name: str,
        make_operations: Callable[[host.Host], Operations] = RealOperations,
        keep: Sequence[str] = KEEP,
    ) -> proposals.Proposal:
        with self.writing() as (machine, found):
            target = next(s for s in found.load() if s.name == name)
            now = datetime.now().astimezone()
            proposal = proposals.propose(machine, found, target, keep, now)
            operations = make_operations(machine)
            perform.carry_out(machine, found, proposal, "admin", operations=operations)
            return proposal

    def take_back(
        self, make_operations: Callable[[host.Host], Operations] = RealOperations
    ) -> None:
        """Undo a rollback that waits for its reboot."""
        with self.writing() as (machine, found):
            journal = journals.read(found)
            assert journal is not None
            executor.undo(found, journal, make_operations(machine))

    # What a test reads from it, without the program under test.

    def read(self, path: str) -> str:
        return (self.root / path).read_text()

    def next_root(self) -> Path:
        """Return the tree that the next boot finds, below the top level."""
        if self.layout.startswith("named"):
            return self.top / "root"
        number = btrfsutil.get_default_subvolume(str(self.top))
        path = "" if number == 5 else btrfsutil.subvolume_path(str(self.top), number)
        return self.top / path

    def subvolume_paths(self) -> list[str]:
        return sorted(path for path, _ in btrfsutil.SubvolumeIterator(str(self.top), 5))

    def label(self, name: str) -> str:
        """Return what messages call a snapshot, or a replaced root."""
        place = self.top / "fs-snapshots" / name
        number = btrfsutil.subvolume_id(str(place)) if place.exists() else 5
        return f"{number} ({name})"

    def uuid_of(self, path: Path) -> bytes:
        return bytes(btrfsutil.subvolume_info(str(path)).uuid)


def _empty_rpmdb(directory: Path) -> Path:
    path = directory / "rpmdb"
    if not path.exists():
        run("rpm", "--dbpath", str(path), "--initdb")
    return path
