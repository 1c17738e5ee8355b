# SPDX-License-Identifier: GPL-2.0-or-later
"""A filesystem with snapshots on it, what is said that they hold, and what deleting them frees."""

from __future__ import annotations

import fcntl
import os
import re
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Optional, cast

import btrfsutil

from fs_rollback.core.snapshots.snapshot import Snapshot, Subvolume
from fs_rollback.core.space.held import Held
from fs_rollback.system.linux import btrfs
from fs_rollback.system.machine.host import Host
from fs_rollback.system.space import holders
from tests.kernel.machine import run

STORE = "fs-snapshots"
_FICLONERANGE = 0x4020940D  # linux/fs.h


class Filesystem:
    """As much of a machine as is asked for what snapshots hold, with its root in `root`."""

    def __init__(self, top: Path) -> None:
        self.top = str(top)
        self.top_fd = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        self.uuid = "the-filesystem"
        self.mount = self
        self.source = "a disk"

    @property
    def subvolumes(self) -> tuple[Subvolume, ...]:
        return btrfs.subvolumes(self.top)

    @property
    def root_id(self) -> int:
        return btrfs.subvolume_id(f"{self.top}/root")

    def path(self, path: str) -> str:
        return f"{self.top}/{path}"

    def forget(self) -> None:
        """Nothing is remembered."""

    def snapshots(self) -> list[Snapshot]:
        names = (s.path.split("/") for s in self.subvolumes)
        found = [n[1] for n in names if n[0] == STORE and len(n) == 2 and n[1][:4] != "try_"]
        by_path = {s.path: s for s in self.subvolumes}
        return [Snapshot(name, by_path[f"{STORE}/{name}"], None) for name in sorted(found)]

    def held(self, limit_s: Optional[float] = None) -> Held:
        found = holders.held(cast(Host, self), self.snapshots(), limit_s=limit_s)
        assert found is not None
        return found

    def take(self, name: str, source: str = "root", *, read_only: bool = True) -> None:
        here, there = f"{self.top}/{source}", f"{self.top}/{STORE}/{name}"
        btrfsutil.create_snapshot(here, there, read_only=read_only)

    def freed(self, names: Sequence[str]) -> int:
        """Delete snapshots, as the command does, and return how much less data is on the disk."""
        before = self.data()
        for name in names:
            for path in (f"{STORE}/try_{name.partition('_')[2]}", f"{STORE}/{name}"):
                if os.path.exists(self.path(path)):
                    btrfs.delete_subvolume(self.path(path), recursive=True)
        return before - self.data()

    def data(self) -> int:
        """Return how much data is on the disk, as btrfs counts it for its block groups."""
        run("btrfs", "filesystem", "sync", self.top)
        while run("btrfs", "subvolume", "list", "-d", self.top):  # not cleaned up yet
            time.sleep(0.02)
            run("btrfs", "filesystem", "sync", self.top)
        run("btrfs", "filesystem", "sync", self.top)
        told = run("btrfs", "filesystem", "df", "--raw", self.top)
        return sum(map(int, re.findall(r"^Data.*used=(\d+)", told, re.MULTILINE)))


@contextmanager
def made(directory: Path, *options: str, size: int = 1 << 30) -> Iterator[Filesystem]:
    """Make a filesystem on which even the smallest file has data of its own."""
    disk, top = directory / "disk", directory / "top"
    with disk.open("wb") as file:
        file.truncate(size)
    run("mkfs.btrfs", "--quiet", str(disk))
    top.mkdir()
    run("mount", "-o", ",".join(("loop", "max_inline=0", *options)), str(disk), str(top))
    try:
        btrfsutil.create_subvolume(str(top / "root"))
        (top / STORE).mkdir()
        found = Filesystem(top)
        try:
            yield found
        finally:
            os.close(found.top_fd)
    finally:
        run("umount", str(top))


def write(path: Path, kib: int) -> None:
    path.write_bytes(os.urandom(kib << 10))


def share(source: Path, target: Path, *, start: int = 0, length: int = 0) -> None:
    """Copy by reflink, all or a part of it."""
    target.touch()
    with source.open("rb") as one, target.open("r+b") as other:
        request = struct.pack("=qQQQ", one.fileno(), start, length, start)
        fcntl.ioctl(other, _FICLONERANGE, request)
