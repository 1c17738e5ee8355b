# SPDX-License-Identifier: GPL-2.0-or-later
"""Filesystems and snapshots to measure with, made without the program under test."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path

import btrfsutil

from fs_rollback.core.snapshots import record
from fs_rollback.core.snapshots.record import (
    Kind,
    Outcome,
    PackageChange,
    Record,
    Source,
    Transaction,
)
from fs_rollback.core.snapshots.snapshot import STORE
from tests.kernel.machine import Machine

# The sizes of everyday transactions, in packages: a security fix, a few updates, a week's.
EVERYDAY = (1, 3, 12, 60)

# struct btrfs_ioctl_vol_args_v2 in linux/btrfs.h: fd, transid, flags, 32 unused bytes, name[4040].
_SNAP_CREATE_V2 = 0x50009417
_ARGUMENTS = struct.Struct("=qQQ32x4040s")
_SUBVOL_RDONLY = 2


@contextmanager
def machine(directory: Path, image_bytes: int = 512 << 20) -> Iterator[Machine]:
    """Make a machine laid out as Fedora's; its image is gone whatever ends this process."""
    directory.mkdir()
    made = Machine(directory, "named")
    try:
        made.create(image_bytes)
        made.image.unlink()
        yield made
    finally:
        made.destroy()


def transaction(packages: int, outcome: Outcome = Outcome.PENDING) -> Transaction:
    """Return an upgrade of so many packages."""
    changes = tuple(
        PackageChange("upgrade", f"package-{i:03}-libs", "x86_64", f"1:2.{i}.1-4.fc40", "1:3.0-1")
        for i in range(packages)
    )
    return Transaction("dnf4", ("dnf", "upgrade", "--refresh"), "admin", changes, outcome)


def add_snapshot(store: Path, source: Path, number: int, now: datetime) -> str:
    """Add a snapshot and its record as the program leaves them, older than any `keep_days`."""
    created = now - timedelta(days=100) + timedelta(minutes=number)
    name = f"yum_{created:%Y%m%d%H%M%S}"
    btrfsutil.create_snapshot(str(source), str(store / name), read_only=True)
    info = btrfsutil.subvolume_info(str(store / name))
    written = Record(
        name=name,
        kind=Kind.PRE,
        created=created,
        uuid=info.uuid.hex(),
        source=Source("root", 256, info.parent_uuid.hex()),
        kernels=("6.1.0-1",),
        transaction=transaction(EVERYDAY[number % len(EVERYDAY)], Outcome.DONE),
    )
    (store / f"{name}.json").write_text(record.dump(written), encoding="utf-8")
    return name


def bare_snapshot(source: Path, directory: Path, timed: AbstractContextManager[None]) -> Path:
    """Make a read-only snapshot of `source`, and time the system call and nothing else."""
    opened = [os.open(path, os.O_RDONLY | os.O_DIRECTORY) for path in (source, directory)]
    arguments = bytearray(_ARGUMENTS.pack(opened[0], 0, _SUBVOL_RDONLY, b"bare"))
    with timed:
        fcntl.ioctl(opened[1], _SNAP_CREATE_V2, arguments)
    for descriptor in opened:
        os.close(descriptor)
    return directory / "bare"


def make_store(made: Machine) -> Path:
    """Make the store of a machine; returns its path."""
    store = made.top / STORE
    store.mkdir(mode=0o700)
    return store


def utc_now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


def settle(top: Path) -> None:
    """Wait until nothing goes on in the filesystem: all is committed, and the cleaner is done.

    The kernel frees deleted subvolumes in a thread of its own, which would work at the expense
    of whichever case comes next. This sync wakes it (BTRFS_IOC_SYNC), and
    `list -d` shows what it has not freed yet.
    """
    _btrfs("filesystem", "sync", top)
    while _btrfs("subvolume", "list", "-d", top):
        time.sleep(0.005)
        _btrfs("filesystem", "sync", top)
    _btrfs("filesystem", "sync", top)


def _btrfs(*command: object) -> bytes:
    words = ("btrfs", *map(str, command))
    return subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout
