# SPDX-License-Identifier: GPL-2.0-or-later
"""What the tests of conversions stand on: files of every kind, and a list that tells them apart."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests import filling, manifest
from tests.sandbox.namespace import Namespace

_BYTES = 512 << 20
_PARTS = (0, 1, 999999999)  # of a second: what filling.py makes files with


@contextmanager
def _mounted(image: Path, fstype: str, options: str = "") -> Iterator[tuple[Namespace, Path]]:
    point = image.parent / "mnt"
    point.mkdir(exist_ok=True)
    with Namespace() as namespace:
        mount = ["mount", "-t", fstype, "-o", f"loop,{options}", os.fspath(image), os.fspath(point)]
        namespace.run(mount)
        yield namespace, namespace.path(os.fspath(point))


@pytest.fixture(name="ext4")
def _ext4(tmp_path: Path) -> Path:
    image = tmp_path / "ext4.img"
    with image.open("wb") as file:
        file.truncate(_BYTES)
    subprocess.run(["mke2fs", "-q", "-t", "ext4", image], check=True)
    with _mounted(image, "ext4") as (_, top):
        filling.fill(top / "filling")
    return image


def test_a_copy_has_the_same_manifest(ext4: Path, tmp_path: Path) -> None:
    copy = tmp_path / "btrfs.img"
    with copy.open("wb") as file:
        file.truncate(_BYTES)
    subprocess.run(["mkfs.btrfs", "-q", copy], check=True, capture_output=True)
    with _mounted(ext4, "ext4", "ro") as (_, old), _mounted(copy, "btrfs") as (_, new):
        trees = [os.fspath(top / "filling") for top in (old, new)]
        subprocess.run(["cp", "-a", "--sparse=always", *trees], check=True)
        first, second = manifest.manifest(old / "filling"), manifest.manifest(new / "filling")
        # cp(1) copies no attributes of inodes.
        assert manifest.compare(first, second, ignore=["attributes"]) == []
        assert manifest.load(manifest.dump(second)) == second
        assert "'flags/immutable': attributes: 'immutable' -> ''" in manifest.compare(first, second)


def test_every_change_is_told(ext4: Path) -> None:
    with _mounted(ext4, "ext4") as (_, top):
        before = manifest.manifest(top, exclude=["lost+found"])
        assert "lost+found" not in before
        inside = top / "filling"
        with (inside / "sizes/5000").open("r+b") as file:
            file.seek(4999)
            file.write(b"\0")
        os.utime(inside / "sizes/5000", ns=(0, 5))
        with (inside / "holes/over-4-gib").open("r+b") as file:
            file.seek((1 << 32) + 12345)
            file.write(b"\0")
        (inside / "sizes/1").unlink()
        (inside / "sizes/new").symlink_to("x")
        (inside / "modes/4755").chmod(0o755)
        os.setxattr(inside / "attributes/small", "user.empty", b"x")
        os.removexattr(inside / "lists/directory", "system.posix_acl_default")
        (inside / "links/name-050").unlink()
        (inside / "links/name-050").write_text("one file, several names\n")
        told = manifest.compare(before, manifest.manifest(top, exclude=["lost+found"]))
    fields = {tuple(line.split(": ")[:2]) for line in told}
    assert {
        ("'filling/sizes/5000'", "content"),
        ("'filling/sizes/5000'", "modified"),
        ("'filling/holes/over-4-gib'", "content"),
        ("'filling/sizes/1'", "missing"),
        ("'filling/sizes/new'", "new"),
        ("'filling/modes/4755'", "mode"),
        ("'filling/attributes/small'", "xattrs"),
        ("'filling/lists/directory'", "xattrs"),
        ("'filling/links/name-050'", "same as"),
        ("'filling/links/name-050'", "links"),
        ("'filling/links/name-099'", "links"),
        ("'filling/links/elsewhere/name'", "links"),
    } <= fields
    assert not any("times/" in path or "tree/" in path for path, _ in fields)


def test_another_filesystem_is_not_listed(ext4: Path) -> None:
    with _mounted(ext4, "ext4") as (namespace, top):
        (top / "point").mkdir()
        point = os.fspath(ext4.parent / "mnt/point")
        namespace.run(["mount", "-t", "tmpfs", "tmpfs", point])
        assert "point" not in manifest.manifest(top, exclude=["filling"])


def test_both_are_programs_of_their_own(tmp_path: Path) -> None:
    fill, describe = (module.__file__ for module in (filling, manifest))
    assert fill
    assert describe
    environment = {"PATH": os.environ.get("PATH", os.defpath)}
    small = tmp_path / "small"
    small.mkdir()
    (small / "file").write_text("x")
    lists = [tmp_path / "one", tmp_path / "other"]
    for listed in lists:
        command = [sys.executable, "-I", describe, "list", os.fspath(small)]
        done = subprocess.run(command, env=environment, check=True, capture_output=True)
        listed.write_bytes(done.stdout)
        (small / "file").write_text("y")
    command = [sys.executable, "-I", describe, "compare", "--ignore=modified"]
    command += map(os.fspath, lists)
    compared = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compared.returncode == 1
    assert compared.stdout.startswith("'file': content: ")
    assert compared.stdout.count("\n") == 1
    command = [sys.executable, "-I", fill, os.fspath(tmp_path / "filled")]
    subprocess.run(command, env=environment, check=True)
    assert "tree/wide" in manifest.manifest(tmp_path / "filled")
    subprocess.run(["chattr", "-R", "-f", "-ia", os.fspath(tmp_path / "filled/flags")], check=True)


@pytest.mark.usefixtures("btrfs_progs")
def test_the_newer_tools_convert(ext4: Path) -> None:
    def run(*command: str) -> str:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    found = re.search(r"v(\d+)\.(\d+)", run("btrfs-convert", "--version"))
    assert found is not None
    assert tuple(map(int, found.groups())) >= (6, 17)
    with _mounted(ext4, "ext4", "ro") as (_, top):
        before = manifest.manifest(top)
    run("btrfs-convert", "--no-progress", "--uuid", "copy", os.fspath(ext4))
    run("btrfs", "check", "--readonly", os.fspath(ext4))
    with _mounted(ext4, "btrfs", "ro") as (_, top):
        told = manifest.compare(before, manifest.manifest(top))
    # It takes 32 of the 34 bits of ext4's seconds, and without their sign.
    lost = [f"{year}-{nanosecond}" for year in (1901, 1969, 2106, 2400) for nanosecond in _PARTS]
    assert [line.partition(": ")[0] for line in told] == [f"'filling/times/{n}'" for n in lost]
    assert {line.split(": ")[1] for line in told} == {"modified"}
