# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that were cut off in that moment, and on which somebody did something before the rescue."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from fs_rollback.errors import ProcessError
from fs_rollback.system.conversion import beginning, mending, returning, running
from tests import manifest
from tests.kernel.attached import attached
from tests.kernel.conversions import OWN, command, converted_on, expect, prepared_image
from tests.kernel.cut_scene import Scene, convert, reserved, save, second_superblock, write
from tests.kernel.ext4_images import copy, on
from tests.kernel.machine import run
from tests.kernel.write_log import Write

# What a boot, or a person, tries first: each writes to the superblock of an ext4.
Try = Callable[[Path, Path], None]


def _nothing(_: Path, __: Path) -> None:
    pass


def _mount(image: Path, directory: Path) -> None:
    (directory / "mounted").mkdir()
    with attached(image) as device:
        command = ["mount", "-t", "ext4", "-o", "ro", device, str(directory / "mounted")]
        assert subprocess.run(command, check=False, capture_output=True).returncode == 32


def _check(image: Path, _: Path) -> None:
    """Do what a boot does with its root; with so little left of it that may take for ever."""
    before = reserved(image)
    command = ["timeout", "20", "e2fsck", "-a", str(image)]
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0
    assert reserved(image) != before


def _torn(image: Path, scene: Scene) -> None:
    """Leave all but the first block of what is zeroed: to blkid(8) it is an ext4."""
    first = next(w for epoch in scene.there for w in epoch if w.offset == 64 << 10)
    write(image, [first, Write(4096, bytes(60 << 10))])


@pytest.mark.parametrize(("words", "tried"), [((), _mount), ((), _check), (("--back",), _nothing)])
def test_an_ext4_without_its_descriptors(
    words: tuple[str, ...], tried: Try, scene: Scene, tmp_path: Path
) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    _torn(image, scene)
    tried(image, tmp_path)
    with attached(image) as device:
        done = command("run", *words, "--device", device, "--yes", "--have-backup")
        assert done.code == 0, done
        assert "giving back" in done.err
    expect(image, "ext4" if words else "btrfs", scene.before)


def test_an_ext4_without_its_root_directory(scene: Scene, tmp_path: Path) -> None:
    image = prepared_image(tmp_path, "-O", "^resize_inode,^flex_bg")
    with on(image) as root:
        before = manifest.manifest(root, exclude=OWN)
    save(image)
    _torn(image, scene)
    _check(image, tmp_path)
    with attached(image) as device:
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    expect(image, "ext4", before)


@pytest.mark.parametrize("tried", [_nothing, _mount, _check])
def test_both_filesystems(tried: Try, scene: Scene, tmp_path: Path) -> None:
    """The way back, cut off behind its first block: the btrfs is whole, and nobody's to destroy."""
    image = copy(scene.image, tmp_path / "disk.img")
    first = reserved(image)[0][1][:4096]
    convert(image, scene)
    write(image, [Write(0, first)])
    tried(image, tmp_path)
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 3, done
        assert "'fs-rollback convert run --back' goes on" in done.err
        assert beginning.is_btrfs(device)
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    expect(image, "ext4", scene.before)


def test_both_filesystems_and_the_ext4_was_used(scene: Scene, tmp_path: Path) -> None:
    """The way back, cut off where only superblocks of the btrfs are left: LVM's names boot it."""
    image = copy(scene.image, tmp_path / "disk.img")
    first = reserved(image)[0][1]
    convert(image, scene)
    write(image, [Write(0, first[: 64 << 10])])
    with attached(image) as device:
        run("mount", "-t", "ext4", device, str(tmp_path))
        (tmp_path / "fs-snapshots/since").write_text("since\n")
        run("umount", str(tmp_path))
        done = converted_on(device)
        assert done.code == 3, done
        done = command("run", "--back", "--device", device, "--yes")
        assert done.code == 0, done
    with on(image) as root:
        assert (root / "fs-snapshots/since").read_text() == "since\n"
    expect(image, "ext4", scene.before)


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
    with on(image) as root:
        (root / "fs-snapshots/since").write_text("since\n")
    change(image)
    with on(image) as root:
        done = command("abort", "--root", str(root), "--yes")
        assert done.code == 3, done
        assert "is overwritten yet" in done.err
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
        for way in (running.run, returning.resume):
            with pytest.raises(ProcessError, match="cannot start debugfs"):
                way(device, str)
        with pytest.raises(ProcessError, match="cannot start debugfs"):
            mending.refuse_overwritten(device, "/nowhere")
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
    with on(scene.image) as root:
        data = (root / "data").read_bytes()
    with on(image) as root:
        (root / "data").rename(root / "damaged")
        (root / "data").write_bytes(data)
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
        assert "was taken back, the root is ext4 as before" in done.err
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
