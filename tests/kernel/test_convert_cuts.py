# SPDX-License-Identifier: GPL-2.0-or-later
"""The power goes while an ext4 becomes a btrfs, or on the way back: no byte of it is lost.

In the last moment of a conversion the disk has neither filesystem. What was saved before makes it
the ext4 again that it was, whatever of the writes is on the disk.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from fs_rollback.core.conversion import beginning as saved_pieces
from fs_rollback.errors import Error
from fs_rollback.system.conversion import beginning
from tests import manifest
from tests.kernel import write_log
from tests.kernel.attached import attached
from tests.kernel.conversions import (
    OWN,
    command,
    converted_on,
    expect,
    observed,
    prepared_image,
)
from tests.kernel.ext4_images import UUID, on
from tests.kernel.machine import run
from tests.kernel.newer_tools import newer_btrfs_progs
from tests.kernel.write_log import Write

_BLOCK = 4096
_TORN_STATES = 40
_CONVERT = ("btrfs-convert", "--uuid", "copy", "--copy-label", "-O", "^block-group-tree")


class Scene(NamedTuple):
    """A disk right before the conversion, and the writes of the conversion and of the way back."""

    image: Path
    library: Path
    there: list[list[Write]]
    back: list[list[Write]]
    before: manifest.Manifest


@pytest.fixture(scope="module", name="scene")
def _scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", f"{newer_btrfs_progs()}:{os.environ['PATH']}")
        yield _made(tmp_path_factory.mktemp("cuts"))


def _made(directory: Path) -> Scene:
    image = prepared_image(directory)
    with on(image) as root:
        _put_data_at(root / "data", 64 << 20)
        before = manifest.manifest(root, exclude=OWN)
    with attached(image) as device:
        done = observed(device, "fail", "before", "convert")
        assert "before convert" in done.stdout, done
    library = write_log.library(directory)
    made = directory / "made.img"
    run("cp", "--sparse=always", str(image), str(made))
    there = _logged(library, made, directory / "there.log", *_CONVERT, str(made))
    back = _logged(library, made, directory / "back.log", "btrfs-convert", "-r", str(made))
    return Scene(image, library, there, back, before)


def _put_data_at(path: Path, place: int) -> None:
    """Make a file with data at a place of the device; its other blocks are free again."""
    space = os.statvfs(path.parent)
    size, most = 64 << 10, (space.f_bavail - space.f_blocks // 64) * space.f_bsize
    run("fallocate", f"--length={most}", str(path))
    pattern = r"^ *\d+: +(\d+)\.\. +\d+: +(\d+)\.\. +\d+: +(\d+)"
    extents = re.findall(pattern, run("filefrag", "-v", f"-b{_BLOCK}", str(path)), re.MULTILINE)
    (start,) = (
        (int(logical) - int(physical)) * _BLOCK + place
        for logical, physical, count in extents
        if int(physical) <= place // _BLOCK < int(physical) + int(count)
    )
    with path.open("r+b") as file:
        file.seek(start)
        file.write(random.Random(1).randbytes(size))
    for offset, length in ((0, start), (start + size, most)):
        run("fallocate", "--punch-hole", f"--offset={offset}", f"--length={length}", str(path))


def _logged(library: Path, image: Path, log: Path, *command: str) -> list[list[Write]]:
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    environment |= {"CUT_TARGET": str(image), "CUT_LOG": str(log)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return write_log.read(log)


def _reserved(image: Path) -> list[tuple[int, bytes]]:
    with image.open("rb") as file:
        found = []
        for offset, size in saved_pieces.ranges(image.stat().st_size):
            file.seek(offset)
            found.append((offset, file.read(size)))
        return found


def _is_reserved(write: Write) -> bool:
    return any(
        write.offset < start + size and start < write.offset + len(write.data)
        for start, size in saved_pieces.RANGES
    )


def _write(image: Path, writes: list[Write]) -> None:
    with image.open("r+b") as file:
        for write in writes:
            file.seek(write.offset)
            file.write(write.data)


def _used(image: Path) -> set[int]:
    """Return the numbers of the blocks that the ext4 uses."""
    said = run("dumpe2fs", str(image))
    blocks = set(range(int(said.partition("Block count:")[2].split()[0])))
    for line in said.splitlines():
        if line.startswith("  Free blocks: "):
            for part in line.partition(": ")[2].split(", "):
                first, _, last = part.partition("-")
                if first:
                    blocks -= set(range(int(first), int(last or first) + 1))
    return blocks


def test_only_what_is_saved_is_overwritten(scene: Scene) -> None:
    used = _used(scene.image)
    for writes in (scene.there, scene.back):
        for write in (w for epoch in writes for w in epoch if not _is_reserved(w)):
            first, last = write.offset // _BLOCK, (write.offset + len(write.data) - 1) // _BLOCK
            assert writes is scene.back or not used & set(range(first, last + 1)), write.offset


def _saved(image: Path) -> list[saved_pieces.Extent]:
    """Return what was saved on an image, found as the product finds it, once."""
    with image.open("rb") as file:
        data = file.read()
    found = [saved_pieces.unpack(block) for block in saved_pieces.blocks_in(data)]
    pieces = (piece for piece in found if piece is not None)
    uuid = bytes.fromhex(UUID.replace("-", ""))
    (saved,) = saved_pieces.whole(pieces, image.stat().st_size, uuid)
    return saved


def _give_back(image: Path, *, scan: bool = False) -> bool:
    return beginning.give_back(str(image), UUID, str, scan=scan)


@pytest.mark.parametrize("way", ["there", "back"])
def test_torn_in_the_last_moment(way: str, scene: Scene, tmp_path: Path) -> None:
    """Each state is known for what it is, and what was saved is the ext4, byte for byte."""
    image, chance = tmp_path / "disk.img", random.Random(1)
    run("cp", "--sparse=always", str(scene.image), str(image))
    wanted, saved = _reserved(image), _saved(image)
    if way == "back":
        _write(image, [write for epoch in scene.there for write in epoch])
    epochs = scene.there if way == "there" else scene.back
    states = set()
    critical = [n for n, epoch in enumerate(epochs) if any(map(_is_reserved, epoch))]
    for number, epoch in enumerate(epochs):
        present = [Write(offset, data) for offset, data in _reserved(image)]
        for _ in range(_TORN_STATES // len(critical) if number in critical else 0):
            _write(image, [w for w in write_log.torn(epoch, chance) if _is_reserved(w)])
            states.add(hash(tuple(_reserved(image))))
            now = [saved_pieces.Extent(*found) for found in _at(image, saved)]
            assert saved_pieces.is_cut_off(saved, now), number
            _write(image, [Write(*extent) for extent in saved])
            assert _reserved(image) == wanted
            _write(image, present)
        _write(image, epoch)
    assert len(states) > _TORN_STATES // 4
    assert way == "back" or _give_back(image)
    assert _reserved(image) == wanted
    run("e2fsck", "-f", "-n", str(image))


def _at(image: Path, places: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    with image.open("rb") as file:
        for offset, data in places:
            file.seek(offset)
            yield offset, file.read(len(data))


def _last_writes(scene: Scene) -> list[int]:
    """Return the numbers of some writes, from the last that changes nothing of the ext4 on."""
    every = [write for epoch in scene.there for write in epoch]
    first = next(number for number, write in enumerate(every) if _is_reserved(write))
    second = next(number for number, write in enumerate(every) if write.offset == 64 << 20)
    return [first - 1, second + 1, len(every) - 2]


def test_killed_in_front_of_a_write(scene: Scene, tmp_path: Path) -> None:
    """The command says what it left, and called again it converts: every file is there."""
    tools = tmp_path / "tools"
    tools.mkdir()
    # It alone: the command writes to the device itself.
    wrapper = f'#!/bin/sh\nLD_PRELOAD={scene.library} exec {shutil.which("btrfs-convert")} "$@"\n'
    (tools / "btrfs-convert").write_text(wrapper)
    (tools / "btrfs-convert").chmod(0o755)
    path = f"{tools}:{os.environ['PATH']}"
    for number in _last_writes(scene):
        image = tmp_path / f"{number}.img"
        run("cp", "--sparse=always", str(scene.image), str(image))
        with attached(image) as device:
            first = converted_on(device, PATH=path, CUT_TARGET=device, CUT_AT=str(number))
            # Killed in its last moment too: what was saved is given back at once.
            assert first.code == 1, (number, first)
            assert "is as before" in first.err
            again = converted_on(device)
            assert again.code == 0, (number, again)
        expect(image, "btrfs", scene.before)
        image.unlink()


def test_an_ext4_that_was_used_after_the_first_write(scene: Scene, tmp_path: Path) -> None:
    """It is mounted as ever, with a block of it overwritten; then it is to be converted again."""
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    first = next(n for n, epoch in enumerate(scene.there) if any(map(_is_reserved, epoch)))
    _write(image, [write for epoch in scene.there[: first + 1] for write in epoch])
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


@pytest.mark.parametrize("is_used", [False, True])
def test_a_way_back_without_its_last_write(is_used: bool, scene: Scene, tmp_path: Path) -> None:
    """An ext4 that e2fsck calls whole, with a file that is not; even when it was used since."""
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    wanted = _reserved(image)
    _write(image, [write for epoch in scene.there for write in epoch])
    _write(image, [Write(*wanted[0])])
    run("e2fsck", "-f", "-n", str(image))
    if is_used:
        with on(image) as root:
            assert manifest.manifest(root, exclude=OWN) != scene.before
            (root / "fs-snapshots/since").write_text("since\n")
    with attached(image) as device:
        again = command("run", "--back", "--device", device, "--yes")
        assert again.code == 0, again
        assert "giving back" in again.err
        assert command("run", "--back", "--device", device, "--yes").code == 3
    expect(image, "ext4", scene.before)


def test_what_was_saved_before_the_ext4_was_used_again_is_not_given_back(
    scene: Scene, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    with on(image) as root:
        (root / "srv/since").write_text("since\n")
    damaged = _reserved(image)
    # As a conversion would have left it, but for the superblock, which is of another time.
    _write(image, [Write(64 << 10, b"\xff" * 4096)])
    assert not _give_back(image)
    _write(image, [Write(offset, data) for offset, data in damaged])
    run("e2fsck", "-f", "-n", str(image))


def _zeroed(image: Path) -> list[tuple[int, bytes]]:
    """Leave what a conversion leaves in the middle of its last moment; return what was there."""
    before = _reserved(image)
    _write(image, [Write(0, bytes(64 << 10)), Write(64 << 20, b"\xff" * 4096)])
    return before


def test_a_check_of_a_disk_that_was_cut_off_tells_what_goes_on(
    scene: Scene, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    _zeroed(image)
    with attached(image) as device:
        done = command("check", "--device", device)
    assert done.code == 3, done
    assert f"'fs-rollback convert run --device {device}' gives back" in done.out


def test_what_a_user_has_put_on_the_disk_is_not_given_back(scene: Scene, tmp_path: Path) -> None:
    """It may be made to fit, and to look newer: the file that only root can write is asked."""
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    wanted = _reserved(image)
    evil = [saved_pieces.Extent(offset, data) for offset, data in wanted]
    evil[1] = saved_pieces.Extent(64 << 20, b"EVIL" * 1024 + evil[1].data[4096:])
    uuid = bytes.fromhex(UUID.replace("-", ""))
    with on(image) as root:
        for name, extents in {
            "whole": evil,
            "part": [saved_pieces.Extent(64 << 20, b"EVIL" * 100)],
            "behind": [saved_pieces.Extent(1 << 63, b"EVIL" * 100)],
        }.items():
            (root / name).write_bytes(b"".join(saved_pieces.pack(uuid, b"u" * 16, extents)))
        assert evil != wanted
    with attached(image) as device:
        assert "before convert" in observed(device, "fail", "before", "convert").stdout
    wanted = _zeroed(image)
    assert _give_back(image)
    assert _reserved(image) == wanted
    run("e2fsck", "-f", "-n", str(image))


def test_a_disk_within_the_disk_is_not_given_back(scene: Scene, tmp_path: Path) -> None:
    """The image of another machine that was prepared, of another UUID, has pieces like these."""
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    others = [saved_pieces.Extent(offset, data[::-1]) for offset, data in _reserved(image)]
    with on(image) as root:
        beginning.wipe(str(root))
        (root / "other.img").write_bytes(b"".join(saved_pieces.pack(b"o" * 16, b"s" * 16, others)))
    before = _zeroed(image)
    assert not _give_back(image, scan=True)
    assert _reserved(image) != before


def test_two_that_fit_are_left_to_a_person(scene: Scene, tmp_path: Path) -> None:
    """Where the file cannot be asked for by its name."""
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    with on(image) as root:
        os.rename(root / beginning.FILE, root / "earlier")
    with attached(image) as device:
        assert "before convert" in observed(device, "fail", "before", "convert").stdout
    with on(image) as root:
        os.rename(root / beginning.FILE, root / "later")
    run("e2fsck", "-f", "-p", str(image))
    wanted = _zeroed(image)
    now = _reserved(image)
    with pytest.raises(Error, match="different beginnings"):
        # Both were saved at other times: neither is what was there, and both would fit.
        _give_back(image, scan=True)
    assert _reserved(image) == now
    assert wanted != now


def test_a_way_back_torn_in_the_superblock_of_the_btrfs(scene: Scene, tmp_path: Path) -> None:
    """A sector of ext4 in it: blkid(8) may still see a btrfs, and nothing mounts it."""
    image = tmp_path / "disk.img"
    run("cp", "--sparse=always", str(scene.image), str(image))
    offset = (64 << 10) + 512
    ((_, ext4),) = _at(image, [(offset, bytes(512))])
    _write(image, [write for epoch in scene.there for write in epoch])
    ((_, btrfs),) = _at(image, [(offset, bytes(512))])
    assert ext4 != btrfs
    _write(image, [Write(offset, ext4)])
    damaged = _reserved(image)
    with attached(image) as device:
        # Nobody has asked for the ext4.
        again = converted_on(device)
        assert again.code == 3, again
        assert "convert run --back" in again.err
        assert _reserved(image) == damaged
        back = command("run", "--back", "--device", device)
        assert back.code == 2, back
        back = command("run", "--back", "--device", device, "--yes")
        assert back.code == 0, back
        assert "giving back" in back.err
    expect(image, "ext4", scene.before)


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
    assert (done.code, "looking on" in done.err) == (3, False), done
    assert image.read_bytes() == before
