# SPDX-License-Identifier: GPL-2.0-or-later
"""An ext4 with a list of bad blocks: btrfs has none, so it is refused wherever it could begin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kernel.attached import attached, nothing_stays  # noqa: F401 - a fixture
from tests.kernel.commands import fs_rollback
from tests.kernel.conversions import command, converted_on, kind_of, prepared_image
from tests.kernel.ext4_images import Tools, check, complaints, copy, make, on
from tests.kernel.machine import run

_BAD = (300_000, 300_001, 500_000)


@pytest.fixture(name="listed")
def _listed(tmp_path: Path) -> str:
    path = tmp_path / "bad"
    path.write_text("".join(f"{number}\n" for number in _BAD))
    return str(path)


@pytest.mark.parametrize(
    "options",
    [(), ("-b", "4096", "-O", "^64bit,^flex_bg"), ("-O", "meta_bg,^resize_inode"),
     ("-O", "bigalloc"), ("-O", "^extent,^64bit")],
)  # fmt: skip
def test_check_says_it(
    tmp_path: Path, ext4_tree: Path, listed: str, options: tuple[str, ...]
) -> None:
    image = tmp_path / "disk.img"
    make(image, ext4_tree, *options, "-l", listed)
    done = check(image, Tools(), "--json", "--have-backup")
    assert ("refused", "bad blocks") in complaints(done)
    assert "a list of 3 blocks of /dev/loop" in done.out


def test_it_is_refused_everywhere_until_the_list_is_empty(
    tmp_path: Path, listed: str, monkeypatch: pytest.MonkeyPatch, btrfs_progs: None
) -> None:
    image = prepared_image(tmp_path, "-b", "4096")
    run("e2fsck", "-f", "-p", "-l", listed, str(image))
    with on(image) as root:
        done = fs_rollback(root, "convert", "prepare", "--yes", "--have-backup")
        assert done.code == 3
    with attached(copy(image, tmp_path / "copy.img")) as device:
        done = converted_on(device)
        assert (done.code, done.out) == (3, "")
        assert "bad blocks: ext4 has a list of 3 blocks" in done.err
        assert kind_of(device) == "ext4"
        (advice,) = re.findall(rf"e2fsck -f -c -y {device}", done.err)
        # The disk can be read: the list is empty then.
        run(*advice.split())
        done = command("check", "--device", device, "--json")
        assert "bad blocks" not in {point["name"] for point in done.json["points"]}
        assert converted_on(device).code == 0
        run("btrfs", "check", "--readonly", device)
