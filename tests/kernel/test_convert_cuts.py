# SPDX-License-Identifier: GPL-2.0-or-later
"""The power goes while an ext4 becomes a btrfs, or on the way back: no byte of it is lost.

In the last moment of a conversion the disk has neither filesystem. What was saved before makes it
the ext4 again that it was, whatever of the writes is on the disk.
"""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

import pytest

from fs_rollback.convert.torn import mend
from fs_rollback.convert.torn import pieces as saved_pieces
from fs_rollback.convert.torn import saved as torn_saved
from fs_rollback.errors import Error
from tests.kernel import write_log
from tests.kernel.attached import attached
from tests.kernel.conversions import (
    converted_on,
    expect,
)
from tests.kernel.cut_scene import (
    BLOCK,
    Scene,
    at,
    convert,
    is_reserved,
    reserved,
    save,
    write,
    zeroed,
)
from tests.kernel.ext4_images import UUID, copy, on, pieces
from tests.kernel.machine import run
from tests.kernel.write_log import Write

_TORN_STATES = 24


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
        for found in (w for epoch in writes for w in epoch if not is_reserved(w)):
            first, last = found.offset // BLOCK, (found.offset + len(found.data) - 1) // BLOCK
            assert writes is scene.back or not used & set(range(first, last + 1)), found.offset


def _saved(image: Path) -> list[saved_pieces.Extent]:
    """Return what was saved on an image, found as the product finds it, once."""
    found = [
        saved_pieces.unpack(block)
        for _, data in pieces(image)
        for block in saved_pieces.blocks_in(data)
    ]
    unpacked = (piece for piece in found if piece is not None)
    uuid = bytes.fromhex(UUID.replace("-", ""))
    (saved,) = saved_pieces.whole(unpacked, image.stat().st_size, uuid)
    return list(saved.extents)


def _give_back(image: Path, *, scan: bool = False) -> bool:
    saves = torn_saved.named(str(image))
    if scan and not saves:
        saves = torn_saved.looked_for(str(image), UUID, str)
    fitting = torn_saved.fitting(str(image), saves)
    for saved in fitting:
        torn_saved.write(str(image), saved.extents)
    return bool(fitting)


@pytest.mark.parametrize("way", ["there", "back"])
def test_torn_in_the_last_moment(way: str, scene: Scene, tmp_path: Path) -> None:
    """Each state is known for what it is, and what was saved is the ext4, byte for byte."""
    image, chance = tmp_path / "disk.img", random.Random(1)
    run("cp", "--sparse=always", str(scene.image), str(image))
    wanted, saved = reserved(image), _saved(image)
    if way == "back":
        convert(image, scene)
    epochs = scene.there if way == "there" else scene.back
    states = set()
    critical = [n for n, epoch in enumerate(epochs) if any(map(is_reserved, epoch))]
    for number, epoch in enumerate(epochs):
        torn = _TORN_STATES // len(critical) if number in critical else 0
        present = [Write(*extent) for extent in reserved(image)] if torn else []
        for _ in range(torn):
            write(image, [w for w in write_log.torn(epoch, chance) if is_reserved(w)])
            states.add(hash(tuple(reserved(image))))
            now = [saved_pieces.Extent(*found) for found in at(image, saved)]
            assert saved_pieces.is_cut_off(saved, now), number
            write(image, [Write(*extent) for extent in saved])
            assert reserved(image) == wanted
            write(image, present)
        write(image, epoch)
    assert len(states) > _TORN_STATES // 4
    assert way == "back" or _give_back(image)
    assert reserved(image) == wanted
    run("e2fsck", "-f", "-n", str(image))


def _last_writes(scene: Scene) -> list[int]:
    """Return the numbers of some writes, from the last that changes nothing of the ext4 on."""
    every = [write for epoch in scene.there for write in epoch]
    first = next(number for number, write in enumerate(every) if is_reserved(write))
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
        image = copy(scene.image, tmp_path / f"{number}.img")
        with attached(image) as device:
            first = converted_on(device, PATH=path, CUT_TARGET=device, CUT_AT=str(number))
            # Killed in its last moment too: what was saved is given back at once.
            assert first.code == 1, (number, first)
            assert "is as before" in first.err
            again = converted_on(device)
            assert again.code == 0, (number, again)
        expect(image, "btrfs", scene.before)
        image.unlink()


def test_what_was_saved_before_the_ext4_was_used_again_is_not_given_back(
    scene: Scene, tmp_path: Path
) -> None:
    image = copy(scene.image, tmp_path / "disk.img")
    with on(image) as root:
        (root / "srv/since").write_text("since\n")
    damaged = reserved(image)
    # As a conversion would have left it, but for the superblock, which is of another time.
    write(image, [Write(64 << 10, b"\xff" * 4096)])
    assert not _give_back(image)
    write(image, [Write(offset, data) for offset, data in damaged])
    run("e2fsck", "-f", "-n", str(image))


def test_what_a_user_has_put_on_the_disk_is_not_given_back(scene: Scene, tmp_path: Path) -> None:
    """It may be made to fit, and to look newer: the file that only root can write is asked."""
    image = copy(scene.image, tmp_path / "disk.img")
    wanted = reserved(image)
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
    save(image)
    wanted = zeroed(image)
    assert _give_back(image)
    assert reserved(image) == wanted
    run("e2fsck", "-f", "-n", str(image))


def test_a_disk_within_the_disk_is_not_given_back(scene: Scene, tmp_path: Path) -> None:
    """The image of another machine that was prepared, of another UUID, has pieces like these."""
    image = copy(scene.image, tmp_path / "disk.img")
    others = [saved_pieces.Extent(offset, data[::-1]) for offset, data in reserved(image)]
    with on(image) as root:
        torn_saved.wipe(str(root))
        (root / "other.img").write_bytes(b"".join(saved_pieces.pack(b"o" * 16, b"s" * 16, others)))
    before = zeroed(image)
    assert not _give_back(image, scan=True)
    assert reserved(image) != before


@pytest.mark.rare
def test_two_that_fit_are_left_to_a_person(scene: Scene, tmp_path: Path) -> None:
    """Where the file cannot be asked for by its name."""
    image = copy(scene.image, tmp_path / "disk.img")
    with on(image) as root:
        os.rename(root / torn_saved.FILE, root / "earlier")
    save(image)
    with on(image) as root:
        os.rename(root / torn_saved.FILE, root / "later")
    run("e2fsck", "-f", "-p", str(image))
    wanted = zeroed(image)
    now = reserved(image)
    with attached(image) as device, pytest.raises(Error, match="different saved copies"):
        # Both were saved at other times: neither is what was there, and both would fit.
        mend.mend(device, str)
    assert reserved(image) == now
    assert wanted != now
