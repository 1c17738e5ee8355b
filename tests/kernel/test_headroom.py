# SPDX-License-Identifier: GPL-2.0-or-later
"""The room that is said to be left on a filesystem, held against what can be written to it."""

from __future__ import annotations

import errno
import itertools
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from fs_rollback.core.snapshots.space import DATA
from fs_rollback.core.space.headroom import METADATA, Room, shortage
from fs_rollback.system.space import room
from tests.kernel.machine import run

MIB = 1 << 20


@contextmanager
def _made(directory: Path, mebibytes: Sequence[int], *options: str) -> Iterator[Path]:
    """Give a filesystem on devices of these sizes."""
    loops = []
    top = directory / "top"
    top.mkdir()
    try:
        for number, size in enumerate(mebibytes):
            disk = directory / f"disk{number}"
            with disk.open("wb") as file:
                file.truncate(size * MIB)
            loops.append(run("losetup", "--find", "--show", str(disk)).strip())
        run("mkfs.btrfs", "--quiet", *options, *loops)
        run("mount", loops[0], str(top))
        try:
            yield top
        finally:
            run("umount", str(top))
    finally:
        for loop in loops:
            run("losetup", "--detach", loop)


def _space(top: Path) -> Room:
    descriptor = os.open(top, os.O_RDONLY)
    try:
        return room.of_filesystem(descriptor)
    finally:
        os.close(descriptor)


def _fill(top: Path, name: str = "ballast", most: int = 1 << 40) -> int:
    """Write until there is no room, or so much; return how much was written."""
    block, count = os.urandom(MIB), 0
    with (top / name).open("wb", buffering=0) as file:
        while count * MIB < most:
            try:
                if file.write(block) < MIB:
                    break
                if count % 16 == 0:
                    os.fsync(file.fileno())
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
                break
            count += 1
    return count * MIB


def _fill_with_small_files(top: Path) -> int:
    """Write files that lie in the metadata until there is no room; return how many."""
    (top / "small").mkdir()
    for count in range(1 << 20):
        try:
            (top / f"small/{count}").write_bytes(b"small " * 300)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return count
            raise
    raise AssertionError


class Case(NamedTuple):
    name: str
    devices: tuple[int, ...]
    options: tuple[str, ...]


CASES = (
    Case("one", (600,), ("-d", "single", "-m", "dup")),
    Case("dup", (600,), ("-d", "dup", "-m", "dup")),
    Case("raid1", (500, 500), ("-d", "raid1", "-m", "raid1")),
    Case("raid1 of two sizes", (800, 400), ("-d", "raid1", "-m", "raid1")),
    Case("raid1 of three", (700, 400, 400), ("-d", "raid1", "-m", "raid1")),
    Case("raid1c3", (400, 400, 600), ("-d", "raid1c3", "-m", "raid1c3")),
    Case("raid0", (400, 400), ("-d", "raid0", "-m", "raid1")),
    Case("raid5", (400, 400, 400), ("-d", "raid5", "-m", "raid1")),
    Case("mixed", (300,), ("--mixed",)),
)


OFTEN = ("one", "raid1 of two sizes", "mixed")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, id=case.name, marks=() if case.name in OFTEN else pytest.mark.rare)
        for case in CASES
    ],
)
def test_what_fits(tmp_path: Path, case: Case) -> None:
    with _made(tmp_path, case.devices, *case.options) as top:
        run("btrfs", "filesystem", "sync", str(top))
        space = _space(top)
        told = space.free(DATA) + space.growth(DATA)
        written = _fill(top)
        assert told * 0.98 - MIB < written <= told  # where they are mixed metadata takes some
        run("btrfs", "filesystem", "sync", str(top))
        after = _space(top)
        assert after.free(DATA) + after.growth(DATA) < told * 0.02 + 2 * MIB
        missing = shortage(after, 100 * MIB, compresses=False)
        assert missing is not None
        assert missing.needed - missing.missing < 12 * MIB
        assert shortage(space, told // 2, compresses=False) is None


@pytest.mark.rare
def test_room_for_metadata(tmp_path: Path) -> None:
    """Data has all of the disk: there is room for it and none for what btrfs knows of files."""
    with _made(tmp_path, (600,), "-m", "dup") as top:
        for number in itertools.count():
            if _fill(top, f"{number}", most=4 * MIB) < 4 * MIB:
                break
        for file in list(top.iterdir()):
            if int(file.name) % 8:  # some are left in each block group: an empty one is given up
                file.unlink()
        run("btrfs", "filesystem", "sync", str(top))
        before = _space(top)
        assert before.free(DATA) > 300 * MIB
        count = _fill_with_small_files(top)
        run("btrfs", "filesystem", "sync", str(top))
        space = _space(top)
        assert space.free(DATA) > 300 * MIB
        fitted = before.free(METADATA) + before.growth(METADATA)
        assert count * 2000 < fitted < count * 4000  # about 2 KiB each
        for coming in (None, MIB):
            missing = shortage(space, coming, compresses=False)
            assert missing is not None
            assert missing.is_metadata
            assert 0 < missing.missing <= missing.needed
        assert shortage(space, 0, compresses=False) is None
