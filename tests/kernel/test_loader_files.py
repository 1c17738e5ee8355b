# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written for a boot loader is there for one that replays no journal, like GRUB."""

from __future__ import annotations

from pathlib import Path

import pytest

from fs_rollback.system.linux import durable, files
from tests.kernel.images import Camera
from tests.kernel.machine import run

# How Linux mounts it as GRUB reads it.
_AS_GRUB = {"ext4": "ro,noload", "xfs": "ro,norecovery,nouuid"}


@pytest.mark.parametrize("fstype", _AS_GRUB)
def test_what_was_written_is_there(tmp_path: Path, fstype: str) -> None:
    image, point, other = (tmp_path / name for name in ("boot.img", "boot", "copy"))
    with image.open("wb") as file:
        file.truncate(320 << 20)
    run(f"mkfs.{fstype}", "-q", str(image))
    for directory in (point, other):
        directory.mkdir()
    camera = Camera((image,), tmp_path)
    run("mount", "-o", "loop", str(image), str(point))
    try:
        with files.opened(str(point)) as opened:
            for name, text in (("new", "first\n"), ("other", "same\n"), ("new", "second\n")):
                durable.replace(opened, name, (text.encode(),), for_loader=True)
                camera(name + text)
    finally:
        run("umount", str(point))
    seen: list[dict[str, str]] = []
    for _, (copy,) in camera.images:
        run("mount", "-o", f"loop,{_AS_GRUB[fstype]}", str(copy), str(other))
        try:
            found = sorted(other.iterdir())
            seen.append({path.name: path.read_text() for path in found if path.is_file()})
        finally:
            run("umount", str(other))
    first, second, same = {"new": "first\n"}, {"new": "second\n"}, {"other": "same\n"}
    assert seen == [first, {**first, **same}, {**second, **same}]
