# SPDX-License-Identifier: GPL-2.0-or-later
"""What `restore` does with attributes that chattr(1) changes too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fs_rollback.system.execute import chattr
from tests.kernel.commands import done
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
