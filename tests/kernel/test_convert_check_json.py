# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert check --json` of what cannot be mounted or has no system: all that is known, as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.kernel.attached import attached, nothing_stays  # noqa: F401 - a fixture
from tests.kernel.ext4_images import Tools, check, debugfs, make, start
from tests.kernel.machine import run


def _without_system(image: Path, part: str) -> list[dict[str, Any]]:
    """Check the answer, and return its points."""
    done = check(image, Tools(), "--json", "--have-backup")
    assert (done.code, done.err, done.json["verdict"]) == (3, "", "refused"), done
    points = done.json["points"]
    assert all("/dev/loop" in point["text"] for point in (points[0], points[-1]))
    assert (points[-1]["name"], points[-1]["verdict"]) == ("system", "refused")
    assert part in points[-1]["text"]
    assert points[-1]["advice"]
    assert isinstance(points, list)
    return points


def _are(points: list[dict[str, Any]], name: str, verdict: str, part: str = "") -> bool:
    """Whether one of the points is like this."""
    return any(
        (point["name"], point["verdict"]) == (name, verdict) and part in point["text"]
        for point in points
    )


@pytest.mark.parametrize("feature", ["inline_data", "encrypt", "casefold", "verity"])
def test_no_system_and_a_feature(tmp_path: Path, feature: str) -> None:
    image, tree = tmp_path / "disk.img", tmp_path / "tree"
    (tree / "etc").mkdir(parents=True)
    (tree / "small").write_text("x")
    make(image, tree, "-O", feature)
    points = _without_system(image, "")
    verdict = "refused" if feature == "inline_data" else "ok"
    assert _are(points, "ext4 features", verdict, feature)
    assert _are(points, "room for metadata", "ok")
    assert _are(points, "btrfs-progs", "ok")


@pytest.mark.parametrize("size", ["1024", "65536"])
def test_other_blocks(tmp_path: Path, ext4_tree: Path, size: str) -> None:
    image = tmp_path / "disk.img"
    make(image, ext4_tree, "-b", size, "-J", "size=64")
    run("debugfs", "-w", "-R", "rm /etc/fstab", str(image))
    done = check(image, Tools(), "--json")
    refused = {p["name"] for p in done.json["points"] if p["verdict"] == "refused"}
    assert "block size" in refused
    assert (done.code, done.err) == (3, "")


@pytest.mark.parametrize(
    ("offset", "data", "name", "part"),
    [
        (1024 + 0x3FC, b"\0\0\0\0", "system", "cannot be mounted read-only"),
        (1024 + 0x63, b"\x40", "ext4 features", "incompat 0x40000000 is set"),
        (1024 + 0x28, b"\0\0\0\0", "filesystem", "superblock that cannot be read"),
        (4096, b"\xff" * 4096, "ext4 state", "outside of it"),
    ],
    ids=["checksum", "unknown-feature", "numbers", "descriptors"],
)
def test_damage(
    tmp_path: Path, ext4_image: Path, offset: int, data: bytes, name: str, part: str
) -> None:
    with ext4_image.open("r+b") as file:
        file.seek(offset)
        file.write(data)
    points = _without_system(ext4_image, "cannot be mounted")
    assert _are(points, name, "refused", part)


def test_one_that_was_cut_off_and_has_no_system(tmp_path: Path) -> None:
    image, tree = tmp_path / "disk.img", tmp_path / "tree"
    tree.mkdir()
    make(image, tree, "-O", "^has_journal")
    debugfs(image, "set_super_value state 0")
    points = _without_system(image, "contains no system")
    assert _are(points, "ext4 state", "refused", "was not unmounted cleanly")


def test_what_names_no_filesystem_is_no_verdict(tmp_path: Path, ext4_image: Path) -> None:
    tools = Tools().environment(tmp_path / "programs")
    for words in (("--device", "/dev/nothing"), ("--device", str(ext4_image))):
        done = start(tools, "check", "--json", *words)
        assert (done.code, done.out) == (2, "")
    done = start(tools, "check", "--json", "--root", str(tmp_path))
    assert (done.code, done.out) == (3, "")
    with attached(ext4_image) as device:
        label = start(tools, "check", "--json", "--device", f"{device}x")
        assert (label.code, label.out) == (2, "")
