# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that were cut off in that moment, and on which somebody did something before the rescue.

Rare is what is like another one here or in test_convert_torn.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from fs_rollback.convert.machine import contents
from fs_rollback.convert.run import convert as run_convert
from fs_rollback.convert.run import go_back
from fs_rollback.convert.torn import mend
from fs_rollback.convert.torn import saved as torn_saved
from fs_rollback.errors import ProcessError
from tests import manifest
from tests.kernel.attached import attached
from tests.kernel.conversions import OWN, command, converted_on, expect, prepared_image
from tests.kernel.cut_scene import (
    BLOCK,
    Scene,
    convert,
    put_data_at,
    reserved,
    save,
    second_superblock,
    write,
)
from tests.kernel.ext4_images import copy, on
from tests.kernel.machine import run
from tests.kernel.newer_tools import newer_btrfs_progs
from tests.kernel.write_log import Write

# What a boot, or a person, does first.
Try = Callable[[Path, Path], None]


def _nothing(_: Path, __: Path) -> None:
    pass


def _mount(image: Path, directory: Path) -> None:
    """Fail to mount it, which is noted in the superblock if the descriptors are there."""
    (directory / "mounted").mkdir()
    with attached(image) as device:
        command = ["mount", "-t", "ext4", device, str(directory / "mounted")]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 32


def _check(image: Path, _: Path) -> None:
    """Do what a boot does with its root; that may take for ever with so little left of it."""
    _fail("timeout", "20", "e2fsck", "-a", str(image))


def _check_with_a_slow_clock(image: Path, _: Path) -> None:
    """It comes back to that time when it finds one of the future."""
    with attached(image) as device:
        superblock = contents.superblock(device)
    assert superblock is not None
    _fail("env", f"E2FSCK_TIME={superblock.mounted - 3600}", "e2fsck", "-f", "-p", str(image))


def _fail(*command: str) -> None:
    assert subprocess.run(command, check=False, capture_output=True).returncode not in (0, 1)


def _cut_off(image: Path, scene: Scene, first: int) -> None:
    """Leave the first superblock of the btrfs, and from a block on those that become zero."""
    place = 64 << 10
    written = next(w for epoch in scene.there for w in epoch if w.offset == place)
    write(image, [written, Write(first * BLOCK, bytes(place - first * BLOCK))])


class _SmallGroups(NamedTuple):
    """An ext4 in which inodes lie in what is overwritten, right before that."""

    image: Path
    before: manifest.Manifest


@pytest.fixture(scope="module", name="small_groups")
def _small_groups(tmp_path_factory: pytest.TempPathFactory) -> _SmallGroups:
    image = prepared_image(tmp_path_factory.mktemp("groups"), "-O", "^resize_inode,^flex_bg")
    with on(image) as root:
        before = manifest.manifest(root, exclude=OWN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{newer_btrfs_progs()}:{os.environ['PATH']}")
        save(image)
    return _SmallGroups(image, before)


@pytest.mark.parametrize(
    ("words", "tried"),
    [
        ((), _check_with_a_slow_clock),
        pytest.param(("--back",), _nothing, marks=pytest.mark.rare),
    ],
)
def test_an_ext4_without_its_descriptors(
    words: tuple[str, ...], tried: Try, scene: Scene, tmp_path: Path
) -> None:
    """To blkid(8) it is an ext4, and nothing mounts it."""
    image = copy(scene.image, tmp_path / "disk.img")
    _cut_off(image, scene, 1)
    before = reserved(image)
    tried(image, tmp_path)
    assert (reserved(image) != before) == (tried is not _nothing)
    with attached(image) as device:
        done = command("run", *words, "--device", device, "--yes", "--have-backup")
        assert done.code == 0, done
        assert "restoring" in done.err
    expect(image, "ext4" if words else "btrfs", scene.before)


@pytest.mark.rare
def test_an_ext4_without_its_root_directory(
    small_groups: _SmallGroups, scene: Scene, tmp_path: Path
) -> None:
    image = copy(small_groups.image, tmp_path / "disk.img")
    _cut_off(image, scene, 4)
    torn = reserved(image)
    _mount(image, tmp_path)
    assert reserved(image) != torn
    with attached(image) as device:
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    expect(image, "ext4", small_groups.before)


def _use(image: Path) -> None:
    with on(image) as root:
        (root / "fs-snapshots/since").write_text("since\n")


def _use_and_convert(image: Path, before: manifest.Manifest) -> None:
    _use(image)
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 0, done
    expect(image, "btrfs", before)


def test_an_ext4_without_some_inodes_that_was_used(
    small_groups: _SmallGroups, scene: Scene, tmp_path: Path
) -> None:
    """It is mounted, and what is in the directories that are gone cannot be seen."""
    image = copy(small_groups.image, tmp_path / "disk.img")
    _cut_off(image, scene, 6)
    _use_and_convert(image, small_groups.before)


@pytest.mark.rare
def test_an_ext4_without_its_room_to_grow_that_was_used(scene: Scene, tmp_path: Path) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    _cut_off(image, scene, 2)
    _use_and_convert(image, scene.before)


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_an_ext4_that_was_changed_and_not_mounted(
    is_cut_off: bool, scene: Scene, tmp_path: Path
) -> None:
    """Where the first superblock of the btrfs comes to lie is a bitmap, which is newer now."""
    image = prepared_image(tmp_path, "-O", "^resize_inode")
    with on(image) as root:
        put_data_at(root / "data", 64 << 20)
        before = manifest.manifest(root, exclude=OWN)
        put_data_at(root / "gone", (14 * 128 + 64) << 20)
    save(image)
    saved = reserved(image)
    run("debugfs", "-w", "-R", "rm /gone", str(image))
    run("e2fsck", "-f", "-n", str(image))
    assert saved[0][1][64 << 10 : 68 << 10] != reserved(image)[0][1][64 << 10 : 68 << 10]
    if is_cut_off:
        write(image, [second_superblock(scene)])
    now = reserved(image)
    with attached(image) as device:
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == (0 if is_cut_off else 3), done
    assert reserved(image)[0] == now[0]
    expect(image, "ext4", before)


@pytest.mark.rare
@pytest.mark.parametrize("tried", [_nothing, _check])
def test_both_filesystems(tried: Try, scene: Scene, tmp_path: Path) -> None:
    """The way back, cut off behind its first block: the btrfs is whole, and nobody's to destroy."""
    image = copy(scene.image, tmp_path / "disk.img")
    first = reserved(image)[0][1][:BLOCK]
    convert(image, scene)
    write(image, [Write(0, first)])
    tried(image, tmp_path)
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 3, done
        assert "'fs-rollback convert run --back' continues" in done.err
        assert torn_saved.is_btrfs(device)
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    expect(image, "ext4", scene.before)


def test_both_filesystems_were_used(scene: Scene, tmp_path: Path) -> None:
    """The way back, cut off where only superblocks of the btrfs are left: LVM's names boot it."""
    image = copy(scene.image, tmp_path / "disk.img")
    first = reserved(image)[0][1]
    with attached(image) as device:
        assert converted_on(device).code == 0
    write(image, [Write(0, first[: 64 << 10])])
    (tmp_path / "root").mkdir()
    with attached(image) as device:
        for kind, path in (("ext4", "fs-snapshots/ext4"), ("btrfs", "srv/important")):
            run("mount", "-t", kind, device, str(tmp_path / "root"))
            (tmp_path / "root" / path).write_text("since\n")
            run("umount", str(tmp_path / "root"))
        done = converted_on(device)
        assert done.code == 3, done
        done = command("run", "--back", "--device", device)
        assert done.code == 2, done
        assert "  /srv/important\n" in done.out
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    with on(image) as root:
        assert (root / "fs-snapshots/ext4").read_text() == "since\n"
    expect(image, "ext4", scene.before)


@pytest.mark.rare
def test_what_is_overwritten_and_its_save_is_damaged(scene: Scene, tmp_path: Path) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    _use(image)
    with attached(image) as device:
        place = torn_saved._places_of(device, torn_saved.FILE)[7]
    write(image, [Write(place, bytes(BLOCK))])
    damaged = reserved(image)
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 3, done
        assert "its saved copy is damaged" in done.err
        assert "icheck 16384" in done.err
    assert reserved(image)[1] == damaged[1]
    with on(image) as root:
        done = command("abort", "--root", str(root), "--yes")
        assert done.code == 3, done
        assert "icheck 16384" in done.err
        (root / "data").unlink()
    with on(image) as root:
        assert command("abort", "--root", str(root), "--yes").code == 0


def _grow(image: Path) -> None:
    with image.open("r+b") as file:
        file.truncate(260 << 30)


def _rename(image: Path) -> None:
    run("e2fsck", "-f", "-p", str(image))
    run("tune2fs", "-U", "11111111-2222-3333-4444-555555555555", str(image))


@pytest.mark.parametrize("change", [_grow, _rename])
def test_what_is_overwritten_in_a_disk_that_became_another(
    change: Callable[[Path], None], scene: Scene, tmp_path: Path
) -> None:
    """A file is damaged, e2fsck(8) sees nothing, and only what was saved has it."""
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    _use(image)
    change(image)
    with on(image) as root:
        done = command("abort", "--root", str(root), "--yes")
        assert done.code == 3, done
        assert "is still overwritten" in done.err
    with attached(image) as device:
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    with on(image) as root:
        assert manifest.compare(scene.before, manifest.manifest(root, exclude=OWN)) == []
        done = command("abort", "--root", str(root), "--yes")
        assert done.code == 0, done


def test_without_debugfs_nothing_is_said_to_be_gone(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    for name in ("blkid", "btrfs", "btrfs-convert", "e2fsck"):
        found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        (tmp_path / name).symlink_to(found or "")
    before = reserved(image)
    with attached(image) as device, monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        for way in (run_convert.run, go_back.resume):
            with pytest.raises(ProcessError, match="cannot start debugfs"):
                way(device, str)
        with pytest.raises(ProcessError, match="cannot start debugfs"):
            mend.refuse_overwritten(device)
    assert reserved(image) == before


def test_a_file_that_was_put_back_is_enough(scene: Scene, tmp_path: Path) -> None:
    """Its damaged block belongs to nothing then."""
    image = copy(scene.image, tmp_path / "disk.img")
    write(image, [second_superblock(scene)])
    with on(image) as root:
        (root / "srv/since").write_text("since\n")
    write(image, [Write((64 << 20) + 2000, b"somebody's")])
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 3, done
        assert "as a new file" in done.err
    with on(image) as root:
        (root / "data").rename(root / "damaged")
        (root / "data").write_bytes(b"from the backup\n")
        (root / "damaged").unlink()
    with on(image) as root:
        before = manifest.manifest(root, exclude=OWN)
    with attached(image) as device:
        assert command("run", "--back", "--device", device, "--yes").code == 3
        done = converted_on(device)
        assert done.code == 0, done
    expect(image, "btrfs", before)


def _tools(directory: Path, **scripts: str) -> str:
    """Make programs that stand in front of the real ones; returns the PATH."""
    for name, script in scripts.items():
        path = directory / "tools" / name.replace("_", "-")
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return f"{directory}/tools:{os.environ['PATH']}"


def test_where_btrfs_convert_cannot_go_back_what_was_saved_does(
    scene: Scene, tmp_path: Path
) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    convert_, btrfs = shutil.which("btrfs-convert"), shutil.which("btrfs")
    path = _tools(
        tmp_path,
        btrfs_convert=f'[ "$1" != -r ] || {{ echo "ERROR: cannot open"; exit 1; }}\n'
        f'exec {convert_} "$@"',
        btrfs=f'[ "$1" != check ] || {{ echo "ERROR: found"; exit 1; }}\nexec {btrfs} "$@"',
    )
    with attached(image) as device:
        done = converted_on(device, PATH=path)
        assert done.code == 1, done
        assert "was undone, and the root is ext4 as before" in done.err
    expect(image, "ext4", scene.before)


def test_what_was_never_an_ext4_is_not_asked_about(tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(300 << 20)
    run("mkswap", str(image))
    with attached(image) as device:
        done = command("run", "--back", "--device", device)
    assert done.code == 3, done
    assert "is not btrfs" in done.err
