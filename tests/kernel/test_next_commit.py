# SPDX-License-Identifier: GPL-2.0-or-later
"""What is left to the next commit of a btrfs is on the disk after it, whatever file it is."""

from __future__ import annotations

from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.system.linux import durable, files, syscalls
from tests.kernel.images import Camera
from tests.kernel.machine import run

_SHORT, _LONG = "a record\n" * 20, "a long record\n" * 500


@pytest.mark.parametrize(
    ("text", "options", "attribute", "inline"),
    [
        (_SHORT, "", "", True),
        (_LONG, "", "", False),
        (_SHORT, ",max_inline=0", "", False),
        (_SHORT, ",nodatacow", "", False),
        (_SHORT, "", "+C", False),
        (_SHORT, ",compress=zstd", "", True),
        ("", "", "", False),
    ],
    ids=["short", "long", "max_inline=0", "nodatacow", "chattr +C", "compressed", "empty"],
)
def test_the_next_commit_has_it(
    tmp_path: Path, text: str, options: str, attribute: str, inline: bool
) -> None:
    image, point, other = (tmp_path / name for name in ("disk.img", "disk", "copy"))
    with image.open("wb") as disk:
        disk.truncate(128 << 20)
    run("mkfs.btrfs", "--quiet", str(image))
    for directory in (point, other):
        directory.mkdir()
    camera = Camera((image,), tmp_path)
    # Nobody else commits in the meantime.
    run("mount", "-o", f"loop,commit=3600{options}", str(image), str(point))
    try:
        store, source = point / "store", point / "source"
        store.mkdir()
        if attribute:
            run("chattr", attribute, str(store))
        btrfsutil.create_subvolume(str(source))
        with files.opened(str(store)) as opened:
            durable.write_for_next_commit(opened, "record", text)
        btrfsutil.create_snapshot(str(source), str(point / "snapshot"))
        camera("after the commit")
        with (store / "record").open("rb") as file:
            assert syscalls.is_inline(file.fileno()) == inline
    finally:
        run("umount", str(point))
    run("mount", "-o", "loop", str(camera.images[0][1][0]), str(other))
    try:
        assert (other / "snapshot").is_dir()
        assert (other / "store/record").read_text() == text
    finally:
        run("umount", str(other))
