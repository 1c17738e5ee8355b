# SPDX-License-Identifier: GPL-2.0-or-later
"""The mount options that a converted root keeps, and those that it loses, at a real btrfs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from fs_rollback.convert.plan import edits
from fs_rollback.core.boot import ext4_options
from tests import mount_options
from tests.kernel.attached import attached
from tests.kernel.machine import run


@pytest.fixture(scope="module", name="btrfs")
def _btrfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    image = tmp_path_factory.mktemp("btrfs") / "disk.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    run("mkfs.btrfs", "-q", str(image))
    with attached(image) as device:
        yield device


def _takes(device: str, options: str, point: Path) -> bool:
    command = ("mount", "--no-mtab", "--types", "btrfs", "--options", f"{options},ro")
    if subprocess.run((*command, device, str(point)), capture_output=True, check=False).returncode:
        return False
    run("umount", str(point))
    return True


def test_what_stays_is_taken(btrfs: str, tmp_path: Path) -> None:
    for option in (*mount_options.OF_ANY, *mount_options.OF_BOTH):
        assert _takes(btrfs, option, tmp_path), option


def test_what_is_not_taken_goes(btrfs: str, tmp_path: Path) -> None:
    refused = [o for o in mount_options.EXT4 if not _takes(btrfs, o, tmp_path)]
    assert len(refused) > 80
    for option in refused:
        assert edits.btrfs_fstab(f"X / ext4 {option} 0 1") == "X / btrfs defaults 0 0", option


def test_what_is_called_wrong_is_not_taken(btrfs: str, tmp_path: Path) -> None:
    wrong = [o for o in mount_options.EXT4 if ext4_options.keeps_btrfs_off(o)]
    assert len(wrong) > 30
    for option in wrong:
        assert not _takes(btrfs, option, tmp_path), option
