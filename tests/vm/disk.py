# SPDX-License-Identifier: GPL-2.0-or-later
"""The disks of a machine: files with one filesystem each, made and read with the host's tools."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import struct
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from tests.sandbox.base import RELEASE
from tests.sandbox.layout import DNF_CONF, REPOSITORY_FILE
from tests.sandbox.namespace import CommandError, Namespace
from tests.sandbox.rpms import Package, build, publish

from . import guest
from .base import Base, Kernel
from .design import Boot, Design, Uuids
from .kernels import install_plugins, kernel_package

# Space is taken only by what is written.
_ROOT_BYTES = 3 * 1024**3
_BOOT_BYTES = 384 * 1024**2
_ESP_BYTES = 192 * 1024**2
_ESP_START = 1024**2  # where partitioning tools put the first partition

_FIBMAP, _FIGETBSZ = 1, 2  # linux/fs.h

_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"  # UEFI: EFI System Partition

# Arguments: TOP TARBALL TREE ROOT_SUBVOLUME DEFAULT BOOT_IMAGE then SUBVOLUMES. An empty
# ROOT_SUBVOLUME is the top level, an empty BOOT_IMAGE none; DEFAULT is yes or no. In TREE nested
# lists subvolumes inside the root; for the rest of it see below.
_SUBVOLUMES = """
set -eu
top=$1 tarball=$2 tree=$3 subvolume=$4 default=$5 boot_image=$6
shift 6
root=$top
if [ -n "$subvolume" ]; then
    btrfs --quiet subvolume create "$top/$subvolume"
    root=$top/$subvolume
fi
[ "$default" = no ] || btrfs subvolume set-default "$root"
device=$(findmnt --noheadings --nofsroot --output SOURCE --mountpoint "$top")
for name in "$@"; do
    btrfs --quiet subvolume create "$top/$name"
    mkdir -p "$root/$name"
    mount -t btrfs -o "subvol=$name" "$device" "$root/$name"
done
if [ -n "$boot_image" ]; then
    mkdir "$root/boot"
    mount -t ext4 -o loop "$boot_image" "$root/boot"
fi
while read -r nested; do
    mkdir -p "$root/${nested%/*}"
    btrfs --quiet subvolume create "$root/$nested"
done <"$tree/nested"
"""

# Variables: root, tarball, tree. In the tree: root/ comes on top of the system, release/ and
# kernel/ are packages, rpms/ is a repository.
INSTALL = """
tar --extract --file="$tarball" --directory="$root" --numeric-owner --xattrs \
    --xattrs-include='*' --exclude=./kernels --keep-directory-symlink
# Into directories that the system has as links (/lib, /sbin): not with cp -a.
tar --create --directory="$tree/root" . | tar --extract --directory="$root" --no-same-owner \
    --keep-directory-symlink
[ -e "$root/usr/bin/dnf" ] || ln -s dnf-3 "$root/usr/bin/dnf"
# rpm 6 runs scriptlets in a mount namespace of their own, and needs a mount at / for that.
mountpoint --quiet "$root" || mount --rbind "$root" "$root"
mkdir "$root/rpms"
cp -r "$tree/release" "$tree/rpms" "$tree/kernel" "$root/rpms"
chroot "$root" sh -eu <<'END'
rpm --initdb
rpm --install /rpms/release/*.rpm
dnf --assumeyes --quiet --nogpgcheck --repofrompath=new,/rpms/rpms --repo=new install \
    $(rpm --query --package --queryformat '%{NAME} ' /rpms/rpms/*.rpm)
# Its files in /boot and its entry are there, as an installer makes them.
rpm --install --nodeps --noscripts /rpms/kernel/*.rpm
rm -r /rpms
END
# Those in subvolumes and in /boot too, which setfiles(8) does not come to by itself.
if [ -e "$root/etc/selinux/config" ]; then
    mount -t proc proc "$root/proc"
    chroot "$root" sh -eu <<'END'
find / -path /proc -prune -o -print0 |
    setfiles -F -q -0 -f - /etc/selinux/default/contexts/files/file_contexts
END
    umount "$root/proc"
fi
"""

_REPOSITORY_TEXT = f"""\
[test]
name=test
baseurl=file://{guest.REPOSITORY}
enabled=1
gpgcheck=0
metadata_expire=0
"""


class Disks:
    """The disks of one machine, in a directory: root.img, and boot.img or esp.img if it has one."""

    def __init__(self, design: Design, directory: Path) -> None:
        self.design = design
        self.root = directory / "root.img"
        self.boot = directory / "boot.img"
        self.esp = directory / "esp.img"
        serial = secrets.token_hex(4).upper()
        self.uuids = Uuids(
            str(uuid.uuid4()),
            str(uuid.uuid4()) if design.boot is Boot.EXT4 else "",
            f"{serial[:4]}-{serial[4:]}" if design.boot is Boot.ESP else "",
        )
        self._directory = directory

    @property
    def images(self) -> list[Path]:
        """The files there are, the root's first."""
        return [path for path in (self.root, self.boot, self.esp) if path.exists()]

    def create(self, base: Base, rpms: Sequence[Path]) -> None:
        """Make the filesystems with the base system, its older kernel and the RPMs on them."""
        with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
            tree = Path(scratch)
            self._write_tree(tree, base.kernels[0])
            nested = (f"{path}\n".lstrip("/") for path in self.design.nested)
            (tree / "nested").write_text("".join(nested))
            (tree / "kernel").mkdir()
            build([self._kernel_package(base.kernels[0])], tree / "kernel")
            (tree / "release").mkdir()
            build([RELEASE], tree / "release")
            (tree / "rpms").mkdir()
            for rpm in rpms:
                shutil.copy(rpm, tree / "rpms")
            publish(tree / "rpms")
            self._make_root()
            if self.design.boot is Boot.EXT4:
                self._make_boot()
            if self.design.boot is Boot.ESP:
                self._make_esp(tree / "root/boot/efi", base.systemd_boot)
                shutil.rmtree(tree / "root/boot/efi")
                (tree / "root/boot/efi").mkdir()
            self._populate(tree, base)

    @contextmanager
    def top(self) -> Iterator[Path]:
        """Give a path to the top level of the root's filesystem, seen by this process only."""
        with self._mounted(self.root, "btrfs", "subvolid=5") as path:
            yield path

    @contextmanager
    def as_the_loader(self) -> Iterator[Path]:
        """Give the filesystem that GRUB reads, read-only and as it reads it: without its journal.

        After a power cut that is what was committed; the running kernel would replay more.
        """
        if self.design.boot is Boot.EXT4:
            with self._mounted(self.boot, "ext4", "ro,noload") as path:
                yield path
        else:
            options = "ro,rescue=nologreplay,subvolid=5"
            with self._mounted(self.root, "btrfs", options) as path:
                yield path

    @property
    def loader_writes(self) -> bool:
        """Whether GRUB can write to what it reads: not to btrfs."""
        return self.design.boot is Boot.EXT4

    def overwrite_as_the_loader(self, path: str, data: bytes) -> None:
        """Write over the first block of a file as GRUB does: in place, past the filesystem.

        Mounted for that it would have its journal replayed, which a power cut may have left.
        """
        with self.as_the_loader() as top, (top / path.lstrip("/")).open("rb") as file:
            size, block = (_ioctl_int(file.fileno(), request) for request in (_FIGETBSZ, _FIBMAP))
        assert 0 < len(data) <= size
        assert block > 0, f"{path} has no block"
        image, start = self._seen_by_loader()
        with image.open("r+b") as disk:
            disk.seek(start + block * size)
            disk.write(data)

    @contextmanager
    def boot_partition(self) -> Iterator[Path]:
        """Give the ext4 partition of /boot, to be written to."""
        with self._mounted(self.boot, "ext4", "rw") as path:
            yield path

    def read_boot_files(self, directory: str) -> dict[str, bytes]:
        """Return the files of a directory below /boot, by name, as the loader finds them.

        Raises NotADirectoryError or FileNotFoundError where there is no such directory.
        """
        path = self.design.path_for_loader(directory)
        if self.design.boot is Boot.ESP:
            with tempfile.TemporaryDirectory(dir=self._directory) as scratch:
                image = f"{self.esp}@@{_ESP_START}"
                run("mcopy", "-Q", "-s", "-i", image, f"::{path}", scratch)
                return _read_files(Path(scratch, PurePosixPath(path).name))
        with self.as_the_loader() as top:
            return _read_files(top / path.lstrip("/"))

    def write_esp(self, files: Mapping[str, bytes]) -> None:
        """Put files on the ESP, each by its path there, in directories that it has."""
        for path, data in files.items():
            target = ["-i", f"{self.esp}@@{_ESP_START}", "-", f"::{path}"]
            subprocess.run(["mcopy", "-o", "-D", "o", *target], input=data, check=True)

    def copy_esp(self, target: Path) -> None:
        """Write the filesystem of the ESP to a file of its own, as fsck.vfat(8) wants it."""
        block = 64 * 1024
        run(
            "dd", "status=none", "conv=sparse", f"bs={block}", f"skip={_ESP_START // block}",
            f"if={self.esp}", f"of={target}", f"count={(_ESP_BYTES - 2 * _ESP_START) // block}",
        )  # fmt: skip

    def _seen_by_loader(self) -> tuple[Path, int]:
        """Return the image with the filesystem that GRUB reads, and where in it that begins."""
        return (self.boot if self.design.boot is Boot.EXT4 else self.root), 0

    @contextmanager
    def _mounted(self, image: Path, fstype: str, options: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(dir=self._directory) as point, Namespace() as namespace:
            mount = ["mount", "-t", fstype, "-o", f"loop,{options}", os.fspath(image), point]
            namespace.run(mount)
            yield namespace.path(point)

    def _write_tree(self, tree: Path, kernel: Kernel) -> None:
        """Write what the machine has beside the base system to tree/root."""
        root = tree / "root"
        texts = {
            **self.design.files(kernel.version, self.uuids),
            **guest.files(),
            **install_plugins(self.design),
            "etc/dnf/dnf.conf": DNF_CONF,
            REPOSITORY_FILE: _REPOSITORY_TEXT,
            # Debian's rpm keeps the database of root in /root/.rpmdb, as its own is dpkg's.
            "etc/rpm/macros": "%_dbpath /var/lib/rpm\n",
        }
        _write_files(root, texts)
        for name, target in guest.links().items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).symlink_to(target)
        for name, source in self._boot_files(kernel).items():
            target_file = root / name.lstrip("/")
            target_file.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target_file)
        for path in (root, *root.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)

    def _boot_files(self, kernel: Kernel) -> dict[str, Path]:
        """Return what is put beside the boot entry, by its path in the machine."""
        names = self.design.kernel_files(kernel.version)
        return dict(zip(names, (kernel.vmlinuz, kernel.initramfs)))

    def _kernel_package(self, kernel: Kernel) -> Package:
        return kernel_package(kernel)

    def _make_root(self) -> None:
        truncate(self.root, _ROOT_BYTES)
        run("mkfs.btrfs", "--quiet", "--uuid", self.uuids.root, os.fspath(self.root))

    def _make_boot(self) -> None:
        truncate(self.boot, _BOOT_BYTES)
        run("mkfs.ext4", "-q", "-U", self.uuids.boot, os.fspath(self.boot))

    def _make_esp(self, files: Path, systemd_boot: Path) -> None:
        """Make a disk with one partition that the firmware starts systemd-boot from."""
        for name in ("EFI/BOOT/BOOTX64.EFI", "EFI/systemd/systemd-bootx64.efi"):
            (files / name).parent.mkdir(parents=True)
            shutil.copyfile(systemd_boot, files / name)
        truncate(self.esp, _ESP_BYTES)
        table = f"label: gpt\nstart={_ESP_START // 512}, type={_ESP_TYPE}\n"
        run("sfdisk", "--quiet", os.fspath(self.esp), input=table)
        # The backup of the table is behind the partition: its size in blocks of 1 KiB.
        blocks = (_ESP_BYTES - 2 * _ESP_START) // 1024
        serial = self.uuids.esp.replace("-", "")
        sectors = f"--offset={_ESP_START // 512}"
        run("mkfs.vfat", "-F", "32", "-i", serial, sectors, os.fspath(self.esp), str(blocks))
        image = f"{self.esp}@@{_ESP_START}"
        run("mcopy", "-s", "-Q", "-i", image, *map(os.fspath, sorted(files.iterdir())), "::")

    def _populate(self, tree: Path, base: Base) -> None:
        design = self.design
        boot_image = os.fspath(self.boot) if design.boot is Boot.EXT4 else ""
        default = "yes" if design.root.is_default else "no"
        with tempfile.TemporaryDirectory(dir=self._directory) as point, Namespace() as namespace:
            namespace.run(["mount", "-t", "btrfs", "-o", "loop", os.fspath(self.root), point])
            arguments = (point, base.tarball, tree, design.root.subvolume, default, boot_image)
            script = [
                "sh",
                "-c",
                _SUBVOLUMES + INSTALL,
                "populate",
                *(str(value) for value in arguments),
            ]
            namespace.run([*script, *design.all_subvolumes], timeout_s=300)


def _ioctl_int(descriptor: int, request: int) -> int:
    (number,) = struct.unpack("i", fcntl.ioctl(descriptor, request, bytes(4)))
    return int(number)


def _write_files(root: Path, texts: Mapping[str, str]) -> None:
    for name, text in texts.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o755 if text.startswith("#!") else 0o644)


def _read_files(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def truncate(path: Path, size: int) -> None:
    """Make an empty file of a size, in which nothing takes space."""
    with path.open("wb") as file:
        file.truncate(size)


def run(*command: str, input: str = "") -> None:
    """Run one of the host's tools; raises CommandError with what it printed."""
    done = subprocess.run(command, input=input, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CommandError(done.returncode, command, done.stdout, done.stderr)
