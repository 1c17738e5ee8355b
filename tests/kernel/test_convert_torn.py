# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that were cut off in that moment, as they are found: told apart, and what is done then.

Rare is what is like another one here or in test_convert_cut_and_booted.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.convert.torn import saved
from tests import manifest
from tests.kernel.attached import attached
from tests.kernel.commands import Done
from tests.kernel.conversions import (
    OWN,
    command,
    converted_on,
    expect,
    prepared_image,
)
from tests.kernel.cut_scene import (
    Scene,
    at,
    convert,
    is_reserved,
    reserved,
    save,
    second_superblock,
    write,
    zeroed,
)
from tests.kernel.ext4_images import copy, digest, on
from tests.kernel.machine import run
from tests.kernel.write_log import Write


def test_an_ext4_that_was_used_after_the_first_write(scene: Scene, tmp_path: Path) -> None:
    """It is mounted as ever, with a block of it overwritten; then it is to be converted again."""
    image = copy(scene.image, tmp_path / "disk.img")
    first = next(n for n, epoch in enumerate(scene.there) if any(map(is_reserved, epoch)))
    write(image, [write for epoch in scene.there[: first + 1] for write in epoch])
    looked = subprocess.run(["e2fsck", "-f", "-n", str(image)], check=False, capture_output=True)
    assert looked.returncode == 4
    with on(image) as root:
        (root / "srv/since").write_text("since\n")
        before = manifest.manifest(root, exclude=OWN)
    with attached(image) as device:
        again = converted_on(device)
        assert again.code == 0, again
    assert "has overwritten" in again.err
    expect(image, "btrfs", before)


@pytest.mark.parametrize("is_used", [pytest.param(False, marks=pytest.mark.rare), True])
def test_a_way_back_without_its_last_write(is_used: bool, scene: Scene, tmp_path: Path) -> None:
    """An ext4 that e2fsck calls whole, with a file that is not; even when it was used since."""
    image = copy(scene.image, tmp_path / "disk.img")
    wanted = reserved(image)
    convert(image, scene)
    write(image, [Write(*wanted[0])])
    run("e2fsck", "-f", "-n", str(image))
    if is_used:
        with on(image) as root:
            assert manifest.manifest(root, exclude=OWN) != scene.before
            (root / "fs-snapshots/since").write_text("since\n")
    with attached(image) as device:
        again = command("run", "--back", "--device", device, "--yes")
        assert again.code == 0, again
        assert "restoring" in again.err
        assert command("run", "--back", "--device", device, "--yes").code == 3
    expect(image, "ext4", scene.before)


def test_a_check_of_a_disk_that_was_cut_off_tells_what_goes_on(
    scene: Scene, tmp_path: Path
) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    zeroed(image)
    with attached(image) as device:
        done = command("check", "--device", device)
    assert done.code == 3, done
    assert f"'fs-rollback convert run --device {device}' restores" in done.out


def _there_and_back(device: str) -> Iterator[Done]:
    yield converted_on(device)
    yield command("run", "--back", "--device", device, "--yes")


def _torn_in_the_superblock(image: Path, scene: Scene) -> None:
    """Make a btrfs of it, with a sector of the ext4 in its first superblock."""
    copy(scene.image, image)
    offset = (64 << 10) + 512
    ((_, ext4),) = at(image, [(offset, bytes(512))])
    convert(image, scene)
    ((_, btrfs),) = at(image, [(offset, bytes(512))])
    assert ext4 != btrfs
    write(image, [Write(offset, ext4)])


def test_a_way_back_torn_in_the_superblock_of_the_btrfs(scene: Scene, tmp_path: Path) -> None:
    """blkid(8) may still see a btrfs, nothing mounts it, and there is no other superblock."""
    image = tmp_path / "disk.img"
    _torn_in_the_superblock(image, scene)
    write(image, [Write(*extent) for extent in reserved(scene.image)[1:]])
    damaged = reserved(image)
    with attached(image) as device:
        # Nobody has asked for the ext4.
        again = converted_on(device)
        assert again.code == 3, again
        assert "convert run --back" in again.err
        assert reserved(image) == damaged
        back = command("run", "--back", "--device", device)
        assert back.code == 2, back
        back = command("run", "--back", "--device", device, "--yes")
        assert back.code == 0, back
        assert "restoring" in back.err
    expect(image, "ext4", scene.before)


def _recover(size: int, device: str) -> None:
    """Do what was said to be done; the first way does not see a btrfs without its magic."""
    if size == 8:
        run("btrfs-select-super", "-s", "1", device)
        return
    done = subprocess.run(
        ["btrfs", "rescue", "super-recover", "-y", device], check=False, capture_output=True
    )
    assert done.returncode == 2, "which says that it did"


def test_a_way_back_torn_before_it_came_to_the_second_superblock(
    scene: Scene, tmp_path: Path
) -> None:
    """It might as well be a btrfs that was used for years; nothing is lost with its second one."""
    image = tmp_path / "disk.img"
    _torn_in_the_superblock(image, scene)
    damaged = reserved(image)
    with attached(image) as device:
        for done in _there_and_back(device):
            assert done.code == 3, done
            assert f"btrfs rescue super-recover {device}" in done.err
        assert reserved(image) == damaged
        _recover(4096, device)
        back = command("run", "--back", "--device", device, "--yes")
        assert back.code == 0, back
    expect(image, "ext4", scene.before)


@pytest.mark.parametrize("size", [8, pytest.param(4096, marks=pytest.mark.rare)])
def test_a_btrfs_that_was_used_is_not_made_an_older_ext4(
    size: int, scene: Scene, tmp_path: Path
) -> None:
    """Its disk has damaged the first superblock, or only the magic in it; blkid(8) sees nothing."""
    image = copy(scene.image, tmp_path / "disk.img")
    with attached(image) as device:
        assert converted_on(device).code == 0
    with on(image) as root:
        btrfsutil.delete_subvolume(str(root / "ext2_saved"))
        (root / "srv/since").write_text("since\n")
    write(image, [Write((64 << 10) + (64 if size == 8 else 0), bytes(size))])
    damaged = digest(image)
    with attached(image) as device:
        for done in _there_and_back(device):
            assert done.code == 3, done
            assert f"btrfs-select-super -s 1 {device}" in done.err
        assert digest(image) == damaged
        _recover(size, device)
    with on(image) as root:
        assert (root / "srv/since").read_text() == "since\n"


@pytest.mark.rare
def test_a_superblock_of_an_earlier_life_of_the_disk(scene: Scene, tmp_path: Path) -> None:
    """It is whole and of this UUID, and was there before: what was saved is given back."""
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    with on(image) as root:
        saved.wipe(str(root))  # it was not saved before
        before = manifest.manifest(root, exclude=OWN)
    assert before != scene.before
    save(image)
    write(image, [Write(0, bytes(64 << 10))])
    with attached(image) as device:
        again = converted_on(device)
        assert again.code == 0, again
        assert "restoring" in again.err
    expect(image, "btrfs", before)


def test_without_btrfs_progs_a_btrfs_is_known_too(scene: Scene, tmp_path: Path) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    convert(image, scene)
    write(image, [Write(64 << 10, bytes(4096))])
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("blkid", "debugfs", "e2fsck", "mount", "umount"):
        (tools / name).symlink_to(shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin") or "")
    assert shutil.which("btrfs", path="/usr/sbin:/sbin") is None, "which is in PATH, too"
    damaged = digest(image)
    with attached(image) as device:
        words = ("run", "--device", device, "--have-backup", "--yes")
        for more in ((), ("--back",)):
            done = command(*words, *more, PATH=str(tools))
            assert done.code == 3, done
    assert digest(image) == damaged


def test_nobody_is_given_an_old_ext4_unasked(scene: Scene, tmp_path: Path) -> None:
    """Both superblocks are gone, and nothing tells whether the btrfs was used."""
    image = copy(scene.image, tmp_path / "disk.img")
    convert(image, scene)
    write(image, [Write(64 << 10, bytes(4096)), Write(64 << 20, bytes(4096))])
    damaged = digest(image)
    with attached(image) as device:
        for more in ((), ("--back",)):
            done = command("run", "--device", device, "--have-backup", *more)
            assert done.code == 2, done
        assert digest(image) == damaged
        assert command("run", "--back", "--device", device, "--yes").code == 0
    expect(image, "ext4", scene.before)


def test_a_way_back_cut_off_with_both_filesystems_there(scene: Scene, tmp_path: Path) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    first = reserved(image)[0][1][:4096]
    convert(image, scene)
    write(image, [Write(0, first)])
    with attached(image) as device:
        done = command("check", "--device", device)
        assert "'fs-rollback convert run --back --device" in done.out
        done = converted_on(device)
        assert done.code == 3, done
        assert "'fs-rollback convert run --back' continues" in done.err
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    expect(image, "ext4", scene.before)


def test_what_was_written_beside_a_superblock_is_not_overwritten(
    scene: Scene, tmp_path: Path
) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    with on(image) as root:
        (root / "srv/since").write_text("since\n")
    write(image, [Write((64 << 20) + 2000, b"somebody's")])
    damaged = reserved(image)[1]
    with attached(image) as device:
        for done in _there_and_back(device):
            assert done.code == 3, done
            assert "its content is damaged" in done.err
            assert "icheck 16384" in done.err
    assert reserved(image)[1] == damaged


def test_what_is_overwritten_is_not_forgotten(scene: Scene, tmp_path: Path) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    with on(image) as root:
        before = manifest.manifest(root)
        done = command("abort", "--root", str(root), "--yes")
        assert done.code == 3, done
        assert "'fs-rollback convert run --back" in done.err
        assert manifest.manifest(root) == before
    with attached(image) as device:
        assert command("run", "--back", "--device", device, "--yes").code == 0
    expect(image, "ext4", scene.before)
    with on(image) as root:
        assert command("abort", "--root", str(root), "--yes").code == 0


@pytest.mark.rare
def test_a_way_back_that_left_no_root_directory(tmp_path: Path, scene: Scene) -> None:
    """Without room for growing the inodes lie in what is overwritten: nothing has a name then."""
    image = prepared_image(tmp_path, "-O", "^resize_inode,^flex_bg")
    with on(image) as root:
        before = manifest.manifest(root, exclude=OWN)
    save(image)
    write(image, [Write(4096, bytes(60 << 10))])
    with attached(image) as device:
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
        assert "searching" in done.err
    expect(image, "ext4", before)


def test_a_boot_sector_does_not_make_a_disk_with_partitions_of_it(
    scene: Scene, tmp_path: Path
) -> None:
    """To blkid(8) it does, where it is the first that was written back."""
    image = copy(scene.image, tmp_path / "disk.img")
    code = b"\xeb\x63\x90".ljust(510, b"\0") + b"\x55\xaa"
    write(image, [Write(0, code)])
    save(image)
    zeroed(image)
    write(image, [Write(0, code)])
    with attached(image) as device:
        assert "PTTYPE" in run("blkid", "-p", device)
        again = converted_on(device)
        assert again.code == 0, again
        assert "restoring" in again.err
    expect(image, "btrfs", scene.before)


def test_a_disk_with_partitions_is_looked_through_for_nothing(tmp_path: Path) -> None:
    """It once had an ext4 on all of it, and is given instead of its partition."""
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(512 << 20)
    run("mke2fs", "-q", "-t", "ext4", "-b", "4096", str(image))
    run("wipefs", "--all", str(image))
    subprocess.run(["sfdisk", "--quiet", str(image)], input="2048,,L\n", text=True, check=True)
    before = image.read_bytes()
    with attached(image) as device:
        done = converted_on(device)
    assert (done.code, "searching" in done.err) == (3, False), done
    assert image.read_bytes() == before
