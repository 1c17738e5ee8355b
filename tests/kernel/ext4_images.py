# SPDX-License-Identifier: GPL-2.0-or-later
"""Machines with an ext4 root, as sparse images: formatted once, copied, changed, looked at."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.kernel import attached, commands
from tests.kernel.commands import Done
from tests.kernel.machine import run

GIB = 1 << 30
LEAST_BYTES = 5 * GIB // 2  # the gate wants 2 GiB free, and some tests read all of it
UUID = "5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d"
OLD, NEW = "6.1.0-1", "6.2.0-1"
WITH_BTRFS = b"MZ module\0ext2\0btrfs\0normal\0"
WITHOUT_BTRFS = b"MZ module\0ext2\0xfs\0normal\0"
GRUB_CFG = "set default=0\ninsmod blscfg\nblscfg\n"
_PIECE_BYTES = 1 << 16
# What the command starts of others; btrfs and btrfs-convert are what a test says they are.
_PROGRAMS = ("mount", "blkid", "cpio", "cat", "sh")


def write(tree: Path, path: str, data: str | bytes) -> None:
    (tree / path).parent.mkdir(parents=True, exist_ok=True)
    (tree / path).write_bytes(data if isinstance(data, bytes) else data.encode())


def add_kernel(tree: Path, version: str, *, btrfs: bool = True, in_initramfs: bool = True) -> None:
    """Put a kernel into a tree: modules, image, boot entry, and a real archive as initramfs."""
    module = "kernel/fs/btrfs/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz\n"
    modules = f"usr/lib/modules/{version}"
    write(tree, f"{modules}/modules.dep", "kernel/fs/xfs/xfs.ko.xz:\n" + module * btrfs)
    write(tree, f"{modules}/modules.builtin", "kernel/fs/ext4/ext4.ko\n")
    write(tree, f"boot/vmlinuz-{version}", "kernel\n")
    write(
        tree,
        f"boot/loader/entries/abc-{version}.conf",
        f"title Test {version}\nversion {version}\nlinux /boot/vmlinuz-{version}\n"
        f"initrd /boot/initramfs-{version}.img\noptions root=UUID={UUID} ro quiet\n",
    )
    names = ["init", f"usr/lib/modules/{version}/kernel/fs/xfs/xfs.ko.xz"]
    if in_initramfs:
        names.append(f"usr/lib/modules/{version}/kernel/fs/btrfs/btrfs.ko.xz")
    write(tree, f"boot/initramfs-{version}.img", archive(names))


def archive(names: list[str], text: str = "") -> bytes:
    """Return a cpio archive ("newc", cpio(5)) of files with a text, or nothing, in them."""
    found = b""
    for number, name in enumerate([*names, "TRAILER!!!"], start=1):
        size = len(text) * (number <= len(names))
        fields = (number, 0o100644, 0, 0, 1, 0, size, 0, 0, 0, 0, len(name) + 1, 0)
        found += b"070701" + b"".join(b"%08x" % field for field in fields)
        found += name.encode() + b"\0"
        found += bytes(-len(found) % 4)
        found += text.encode()[:size]
        found += bytes(-len(found) % 4)
    return found


def fill(tree: Path) -> None:
    """Make a system that nothing is said against."""
    write(tree, "etc/fstab", f"# made by a test\nUUID={UUID} / ext4 defaults,errors=panic 1 1\n")
    write(tree, "etc/os-release", 'ID=fedora\nPRETTY_NAME="Fedora Linux 44"\n')
    write(tree, "etc/kernel/cmdline", f"root=UUID={UUID} ro quiet\n")
    write(tree, "boot/grub2/grub.cfg", GRUB_CFG)
    write(tree, "boot/efi/EFI/fedora/grubx64.efi", WITH_BTRFS)
    for name in ("one", "two", "three"):
        write(tree, f"srv/{name}", f"{name}\n")
    add_kernel(tree, OLD)


def make(image: Path, tree: Path, *options: str, size_bytes: int = LEAST_BYTES) -> None:
    with image.open("wb") as file:
        file.truncate(size_bytes)
    place = (["-J", "size=4"] if "device=" not in "".join(options) else []) + list(options)
    offset = ["lazy_itable_init=1", "nodiscard"]
    if options[:1] == ("-E",):
        offset, place = [*offset, options[1]], place[: place.index("-E")] + list(options[2:])
    extended = ",".join(offset)
    command = ["mke2fs", "-q", "-F", "-t", "ext4", "-U", UUID, "-E", extended, *place]
    run(*command, "-d", str(tree), str(image))


def copy(source: Path, image: Path) -> Path:
    run("cp", "--sparse=always", str(source), str(image))
    return image


@contextmanager
def on(image: Path) -> Iterator[Path]:
    """Mount an image to change what is on it."""
    place = image.with_name(f"{image.name}.mounted")
    place.mkdir()
    run("mount", "-o", "loop", str(image), str(place))
    try:
        yield place
    finally:
        run("umount", str(place))
        place.rmdir()


def debugfs(image: Path, *requests: str) -> None:
    """Change an image behind the kernel's back."""
    for request in requests:
        done = subprocess.run(
            ("debugfs", "-w", "-R", request, str(image)), capture_output=True, text=True, check=True
        )
        said = [line for line in done.stderr.splitlines() if not line.startswith("debugfs ")]
        assert said == [], (request, said)


def cut_off(image: Path, place: Path, *, frozen: bool) -> None:
    """Leave in `image` what a power cut leaves of the one mounted on `place`.

    With `frozen` it is a snapshot as LVM makes it: the journal is empty, deletions have not ended.
    """
    open_file = (place / "srv/deleted").open("w")
    try:
        open_file.write("x" * 10000)
        open_file.flush()
        (place / "srv/deleted").unlink()
        write(place, "srv/written", "in the journal\n")
        run("sync", "--file-system", str(place))
        if frozen:
            run("fsfreeze", "--freeze", str(place))
        try:
            copy(place.with_name(place.name.removesuffix(".mounted")), image)
        finally:
            if frozen:
                run("fsfreeze", "--unfreeze", str(place))
    finally:
        open_file.close()


def pieces(image: Path) -> Iterator[tuple[int, bytes]]:
    """Give what is in an image, with its place; reads no holes, and leaves out what is zero."""
    descriptor = os.open(image, os.O_RDONLY)
    try:
        end, size = 0, os.fstat(descriptor).st_size
        while end < size:
            try:
                start = os.lseek(descriptor, end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole is left
                break
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            end += -end % _PIECE_BYTES
            for offset in range(start - start % _PIECE_BYTES, end, _PIECE_BYTES):
                piece = os.pread(descriptor, _PIECE_BYTES, offset)
                if piece.strip(b"\0"):
                    yield offset, piece
    finally:
        os.close(descriptor)


def digest(image: Path) -> str:
    """Return a checksum of an image."""
    found = hashlib.sha256(b"%d" % image.stat().st_size)
    for offset, piece in pieces(image):
        found.update(b"%d " % offset + piece)
    return found.hexdigest()


def copy_behind(source: Path, image: Path, start: int) -> None:
    """Copy an image into another, from an offset on."""
    with image.open("r+b") as file:
        for offset, piece in pieces(source):
            file.seek(start + offset)
            file.write(piece)


class Tools(NamedTuple):
    """What is first in PATH; "" leaves a program out."""

    progs: str = "6.17.1"
    lister: str = """\
[ "$1" != -f ] || exec cpio --extract --to-stdout --quiet "$2" < "$3"
cpio --list --quiet < "$1"
"""
    builder: str = "exit 0"

    def environment(self, directory: Path) -> dict[str, str]:
        """Write the programs, and return the variables that make them the only ones."""
        directory.mkdir()
        for name, script in {
            "btrfs": self.progs and f"echo btrfs-progs v{self.progs}",
            "btrfs-convert": self.progs and f"echo btrfs-convert, part of btrfs-progs {self.progs}",
            "lsinitrd": self.lister,
            "dracut": self.builder,
        }.items():
            if script:
                (directory / name).write_text(f"#!/bin/sh\n{script}\n")
                (directory / name).chmod(0o755)
        for name in _PROGRAMS:
            found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
            assert found, name
            (directory / name).symlink_to(found)
        return {**commands.environment(), "PATH": str(directory)}


def start(environment: dict[str, str], *words: str) -> Done:
    """Run `convert` with these words; "--have-backup" and the like are up to the caller."""
    launcher = commands.arguments(Path("/"), ("convert",))[:-2]
    done = subprocess.run(
        [*launcher, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment,
        cwd="/",
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def check(image: Path, tools: Tools, *words: str) -> Done:
    """Look at an image with `convert check --device`; not a byte of it may change."""
    before = digest(image)
    with attached.attached(image) as device:
        environment = tools.environment(image.with_name("tools"))
        done = start(environment, "check", "--device", device, *words)
        # What is not seen on the device would be seen behind it later.
        run("blockdev", "--flushbufs", device)
    assert digest(image) == before, "the device has changed"
    return done


def complaints(done: Done) -> list[tuple[str, str]]:
    """Return verdict and name of the points of a JSON answer that are not ok."""
    return [(p["verdict"], p["name"]) for p in done.json["points"] if p["verdict"] != "ok"]
