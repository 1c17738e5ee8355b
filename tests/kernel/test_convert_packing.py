# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert finish` where there is little room: the old ext4 goes only when a balance has succeeded.

On a real conversion of an ext4 whose free space is in pieces, by hand as the rescue sheet says: the
command itself refuses it.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from fs_rollback.convert.plan.plan import FSTAB
from fs_rollback.core.boot.conversion_state import NEW_FSTAB
from tests.kernel.attached import attached
from tests.kernel.commands import fs_rollback
from tests.kernel.converted import Converted
from tests.kernel.ext4_prepared import mounted
from tests.kernel.ext4_space import MIB, scatter
from tests.kernel.machine import run
from tests.kernel.test_convert_whole import _image, _machine  # noqa: F401 - fixtures

pytestmark = pytest.mark.usefixtures("btrfs_progs")


def _convert_by_hand(image: Path, directory: Path) -> None:
    with mounted(image, directory) as root:
        done = fs_rollback(root, "convert", "prepare", "--yes", "--have-backup")
        assert done.code == 0, done
        scatter(root, 4 * MIB, used=MIB, leave=120 * MIB)
    (directory / "root").rmdir()
    with attached(image) as device:
        run("e2fsck", "-f", "-p", device)
        run("btrfs-convert", "--uuid", "copy", "-O", "^block-group-tree", device)
    with mounted(image, directory) as root:
        shutil.copyfile(root / NEW_FSTAB, root / FSTAB)
        (root / NEW_FSTAB).unlink()


def _expect_way_back(machine: Converted, copy: Path) -> None:
    """Check that a copy of the disk can still be made what it was."""
    assert (machine.root / "ext2_saved/image").exists()
    os.sync()
    run("cp", "--sparse=always", str(machine.machine.image), str(copy))
    with attached(copy) as device:
        run("btrfs-convert", "-r", device)
        run("e2fsck", "-f", "-n", device)


def test_the_old_ext4_goes_when_a_balance_has_succeeded(
    machine: Converted, image: Path, tmp_path: Path
) -> None:
    _convert_by_hand(image, tmp_path)
    machine.start()
    ways = ("run --back --device UUID=", "btrfs subvolume delete ", "finish --balance")
    machine.finish("--remove-ext4").expect_refusal(
        "there is no room for a balance", "finish --balance --remove-ext4' repacks", *ways
    )
    _expect_way_back(machine, tmp_path / "copy.img")
    with suppress(OSError), (machine.root / "srv/new").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 << 30)
    free = os.statvfs(machine.root)
    with (machine.root / "srv/new").open("ab") as file:
        os.posix_fallocate(file.fileno(), 0, (free.f_bavail * free.f_frsize) - 100 * MIB)
    for words in (("--balance", "--remove-ext4"), ("--yes", "--balance")):
        machine.finish(*words).expect_refusal("MiB of free space, but there are only", *ways)
    assert (machine.root / "ext2_saved/image").exists()
    (machine.root / "srv/new").unlink()
    os.sync()
    done = machine.finish("--remove-ext4", "--balance", "--json")
    assert done.code == 0, done
    assert done.json["finished"] == ["balance", "remove-ext4"]
    assert not (machine.root / "ext2_saved").exists()
