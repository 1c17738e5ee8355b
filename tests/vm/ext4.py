# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks of a machine whose root is ext4, and btrfs once it is converted."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.sandbox.base import cache_directory
from tests.sandbox.namespace import Namespace
from tests.sandbox.rpms import Package

from .base import Base, Kernel
from .conversion import LVM_BYTES, LVM_START, ROOT_BYTES, ConversionBase, conversion_base
from .design import Boot, Ext4Design
from .disk import INSTALL, Disks, run, truncate
from .kernels import kernel_package
from .loader import NoBootError

# Arguments: ROOT TARBALL TREE BOOT_IMAGE VERSION. An empty BOOT_IMAGE is none.
_MOUNT_BOOT = """
set -eu
root=$1 tarball=$2 tree=$3 boot_image=$4 version=$5
mkdir -p "$root/boot"
[ -z "$boot_image" ] || mount -t ext4 -o loop "$boot_image" "$root/boot"
"""
# As an installer does it, in the system that it has installed. Where the host's kernel has no
# modules dracut-install says so, and takes all of the machine's.
_MAKE_INITRAMFS = """
for name in dev proc sys; do mount --rbind "/$name" "$root/$name"; done
mount -t tmpfs tmpfs "$root/run"
chroot "$root" dracut --quiet --force "/boot/initramfs-$version.img" "$version"
"""
# Arguments: ROOT DEVICE MAPPED SCRIPT. The host's own /dev stays as it is: what names the root's
# volume in the machine names here the loop device that it is on. dracut makes what it makes on the
# machine itself: with every driver there is, as in any other chroot, a boot takes minutes more.
_INSIDE = """
set -eu
root=$1 device=$2 mapped=$3 script=$4
for name in proc sys; do mount --rbind "/$name" "$root/$name"; done
mount -t tmpfs tmpfs "$root/run"
mount -t tmpfs tmpfs "$root/dev"
for name in null zero full random urandom tty; do cp -a "/dev/$name" "$root/dev/"; done
cp -a "$device" "$root/dev/"
ln -s /proc/self/fd "$root/dev/fd"
mkdir "$root/dev/mapper"
[ -z "$mapped" ] || ln -s "../${device##*/}" "$root$mapped"
mkdir "$root/run/tools"
cat >"$root/run/tools/dracut" <<'END'
#!/bin/sh
for word; do
    shift
    [ "$word" = --no-hostonly ] || set -- "$@" "$word"
done
PATH=${PATH#*:} exec dracut "$@"
END
chmod +x "$root/run/tools/dracut"
export PATH="/run/tools:$PATH"
exec chroot "$root" sh -euc "$script" 2>&1
"""


class Ext4Disks(Disks):
    """The disks of a machine whose root is ext4, or was.

    What is on the root's disk is looked up each time: it is converted while the machine runs.
    """

    design: Ext4Design

    @property
    def root_type(self) -> str:
        """The type of the filesystem that the root is on now; empty if no tool sees one."""
        probe = ["blkid", "-p", "--offset", str(self.offset), "-s", "TYPE", "-o", "value"]
        done = subprocess.run(
            [*probe, os.fspath(self.root)], check=False, capture_output=True, text=True
        )
        # blkid(8): 2 is nothing, 8 two that contradict each other.
        assert done.returncode in (0, 2, 8), done.stderr
        return done.stdout.strip()

    def create(self, base: Base, rpms: Sequence[Path]) -> None:
        """Make the filesystems, with the system for conversions and the kernel of `base`."""
        self._conversion: ConversionBase = conversion_base(cache_directory(), say=print)
        super().create(base, rpms)

    @property
    def loader_writes(self) -> bool:
        """Whether GRUB can write to what it reads: not to btrfs."""
        return super().loader_writes or self.root_type == "ext4"

    @contextmanager
    def top(self) -> Iterator[Path]:
        """Give a path to the root's filesystem, on btrfs to its top level."""
        with self._mounted_root() as path:
            yield path

    @contextmanager
    def as_the_loader(self) -> Iterator[Path]:
        """Give the filesystem that GRUB reads, read-only and without its journal."""
        if self.design.boot is Boot.EXT4:
            with super().as_the_loader() as path:
                yield path
        else:
            if not self.root_type:
                raise NoBootError("there is no filesystem that GRUB reads")
            without = "noload" if self.root_type == "ext4" else "rescue=nologreplay"
            with self._mounted_root("ro", without) as path:
                yield path

    @property
    def offset(self) -> int:
        """Where on the root's disk its filesystem begins."""
        return LVM_START if self.design.lvm else 0

    @contextmanager
    def _mounted_root(self, *options: str) -> Iterator[Path]:
        fstype = self.root_type
        top_level = ["subvolid=5"] if fstype == "btrfs" else []
        joined = ",".join([f"offset={self.offset}", *top_level, *options])
        with self._mounted(self.root, fstype, joined) as path:
            yield path

    def _seen_by_loader(self) -> tuple[Path, int]:
        if self.design.boot is Boot.EXT4:
            return super()._seen_by_loader()
        return self.root, self.offset

    def _boot_files(self, kernel: Kernel) -> dict[str, Path]:
        vmlinuz, _ = self.design.kernel_files(kernel.version)
        return {vmlinuz: kernel.vmlinuz}

    def _kernel_package(self, kernel: Kernel) -> Package:
        return kernel_package(kernel, with_initramfs=False)

    def _make_root(self) -> None:
        size = ROOT_BYTES
        truncate(self.root, size)
        # The tables are all holes: the machine has not to write zeros to them while it runs.
        extended = f"offset={self.offset},lazy_itable_init=0,lazy_journal_init=0"
        if self.design.lvm:
            with self._conversion.lvm.open("rb") as header, self.root.open("r+b") as disk:
                shutil.copyfileobj(header, disk)
            size = LVM_BYTES
        command = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", self.uuids.root, "-E", extended]
        run(*command, os.fspath(self.root), f"{size // 1024}k")

    def run_inside(self, script: str) -> str:
        """Run a shell script in the system on the disks, which then is not booted; its output.

        Where the root is ext4: for what takes too long in the machine itself, as dracut(8) does.
        Raises CommandError where the script fails.
        """
        with tempfile.TemporaryDirectory(dir=self._directory) as point, Namespace() as namespace:
            options = f"loop,offset={self.offset}"
            namespace.run(["mount", "-t", "ext4", "-o", options, os.fspath(self.root), point])
            if self.design.boot is Boot.EXT4:
                boot = os.fspath(Path(point, "boot"))
                namespace.run(["mount", "-t", "ext4", "-o", "loop", os.fspath(self.boot), boot])
            find = ["findmnt", "--noheadings", "--output", "SOURCE", "--mountpoint", point]
            device = namespace.run(find).stdout.strip()
            mapped = self.design.root_device(self.uuids) if self.design.lvm else ""
            command = ["sh", "-c", _INSIDE, "inside", point, device, mapped, script]
            return namespace.run(command, timeout_s=300).stdout

    def _populate(self, tree: Path, base: Base) -> None:
        boot_image = os.fspath(self.boot) if self.design.boot is Boot.EXT4 else ""
        options = f"loop,offset={self.offset}"
        with tempfile.TemporaryDirectory(dir=self._directory) as point, Namespace() as namespace:
            namespace.run(["mount", "-t", "ext4", "-o", options, os.fspath(self.root), point])
            script = ["sh", "-c", _MOUNT_BOOT + INSTALL + _MAKE_INITRAMFS, "populate"]
            arguments = [point, self._conversion.tarball, tree, boot_image]
            arguments.append(base.kernels[0].version)
            namespace.run([*script, *map(str, arguments)], timeout_s=300)
