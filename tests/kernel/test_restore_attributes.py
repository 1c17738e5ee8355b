# SPDX-License-Identifier: GPL-2.0-or-later
"""What `restore` does with attributes that chattr(1) changes too, or that a filesystem lacks."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from fs_rollback.system.linux import chattr
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.manifest import compare, manifest

_COMPRESSION = "btrfs.compression"
# Beside those of compression: what FS_IOC_SETFLAGS alone can set, and what protects as well.
_FLAGS = {"plain": "", "sealed": "i", "appended": "a", "quiet": "Ad", "in-step": "SD", "all": "iDS"}


def compressed(path: Path, how: str, letters: str) -> None:
    """Set an attribute of compression, and flags: with those that protect it chattr(1) changes it.

    Or it does not, where the filesystem is mounted with that compression.
    """
    changeable = letters.replace("i", "").replace("a", "")
    if changeable:
        run("chattr", "+" + changeable, str(path))
    os.setxattr(path, _COMPRESSION, how.encode())
    protecting = 0x10 * ("i" in letters) | 0x20 * ("a" in letters)  # linux/fs.h
    descriptor = os.open(path, os.O_RDONLY)
    try:
        chattr.set_inode_flags(descriptor, chattr.inode_flags(descriptor) | protecting)
    finally:
        os.close(descriptor)
    assert os.getxattr(path, _COMPRESSION) == how.encode()


def flags(path: Path) -> str:
    return run("lsattr", "-d", str(path)).split()[0].replace("-", "")


@pytest.mark.parametrize("how", ["zstd", "lzo", "zlib", "none"])
def test_compression_stays_what_it_was_whatever_else_is_set(named: Machine, how: str) -> None:
    place = named.root / "srv/z"
    for name, letters in _FLAGS.items():
        (place / name).mkdir(parents=True)
        file = place / name / "file"
        file.write_text("z" * 100_000)
        compressed(file, how, letters.replace("D", ""))  # that is for directories
        compressed(place / name, how, letters)
    paths = sorted(place.rglob("*"))
    before, letters_before = manifest(place), {path: flags(path) for path in paths}
    name = named.take()
    run("mv", str(place), str(named.root / "srv/moved"))
    done(named.root, "restore", "--yes", name, "/srv/z")
    assert compare(before, manifest(place)) == []
    assert {path: os.getxattr(path, _COMPRESSION) for path in paths} == dict.fromkeys(
        paths, how.encode()
    )
    assert {path: flags(path) for path in paths} == letters_before


@pytest.mark.parametrize("kind", ["ext4", "tmpfs"])
def test_a_filesystem_without_an_attribute_gets_all_else(
    named: Machine, tmp_path: Path, kind: str
) -> None:
    """As of files, where cp(1) leaves it out."""
    place = named.root / "srv/data"
    (place / "inside").mkdir(parents=True)
    os.chown(place / "inside", 12, 13)
    (place / "inside").chmod(0o2750)
    (place / "inside/file").write_text("z" * 10_000)
    os.setxattr(place / "inside", "trusted.mark", b"1")
    for path in (place, place / "inside", place / "inside/file"):
        os.setxattr(path, _COMPRESSION, b"zstd")
    name = named.take()
    aside, image = tmp_path / "other", tmp_path / "other.img"
    aside.mkdir()
    if kind == "tmpfs":
        run("mount", "-t", "tmpfs", "scratch", str(aside))
    else:
        run("truncate", "--size=64M", str(image))
        run("mkfs.ext4", "-q", str(image))
        run("mount", "-o", "loop", str(image), str(aside))
    try:
        done(named.root, "restore", "--aside", str(aside), name, "/srv/data")
        made, model = aside / "data/inside", place / "inside"
        assert (made / "file").read_text() == (model / "file").read_text()
        found, expected = made.stat(), model.stat()
        assert (found.st_mode, found.st_uid, found.st_gid, found.st_mtime_ns) == (
            expected.st_mode, expected.st_uid, expected.st_gid, expected.st_mtime_ns,
        )  # fmt: skip
        assert os.getxattr(made, "trusted.mark") == b"1"
        assert _COMPRESSION not in os.listxattr(made)
    finally:
        run("umount", str(aside))


def test_no_access_control_list_is_left_out(named: Machine, tmp_path: Path) -> None:
    """The mode has the list's mask where a group's rights are: alone it would let more in."""
    place = named.root / "srv/data"
    place.mkdir(parents=True)
    # linux/posix_acl_xattr.h: u::rwx, u:4321:rwx, g::---, m::rwx, o::---
    entries = ((1, 7, -1), (2, 7, 4321), (4, 0, -1), (16, 7, -1), (32, 0, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(place, "system.posix_acl_access", acl)
    name = named.take()
    aside = tmp_path / "other"
    aside.mkdir()
    run("mount", "-t", "ramfs", "scratch", str(aside))
    try:
        ended = fs_rollback(named.root, "restore", "--aside", str(aside), name, "/srv/data")
        assert (ended.code, os.listdir(aside)) == (1, [])
        assert "Operation not supported" in ended.err
    finally:
        run("umount", str(aside))
