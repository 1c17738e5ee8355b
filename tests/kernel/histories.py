# SPDX-License-Identifier: GPL-2.0-or-later
"""Histories of a tree, made up by hypothesis: one thing after another is done to what is there."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import btrfsutil
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from fs_rollback.system.linux import syscalls

# The same ones each time; others, and many, where everything is wanted.
ALL = os.environ.get("FS_ROLLBACK_VM") == "full"


def examples(often: int, everything: int) -> settings:
    """Return how many histories hypothesis makes up for a test, often and with all that is rare."""
    return settings(
        max_examples=everything if ALL else often,
        derandomize=not ALL,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


NAMED = ["a", "b", "c", "d", "e"]
DATA = st.sampled_from([b"", b"x", b"y", b"small" * 100, b"large" * 2000, b"other" * 2000])
Operations = Sequence[tuple[Any, ...]]
# Something that is there, by its number in a listing (of any size); a new name in a directory that
# is there.
THERE = st.integers(0, 999)
NEW = st.tuples(THERE, st.sampled_from([*NAMED, "0", "5"]))


class Grower:
    """Does to a tree what each of its methods is called after, wherever it can be done."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree

    def paths(self, wanted: Callable[[Path], bool]) -> list[Path]:
        found = [self.tree]
        for place, directories, files in os.walk(self.tree):
            inside = [Path(place) / name for name in directories + files]
            found += inside
            nested = {path.name for path in inside if self.is_nested(path)}
            directories[:] = sorted(set(directories) - nested)
        return [path for path in sorted(found) if wanted(path)]

    def there(self, number: int, wanted: Callable[[Path], bool] = os.path.lexists) -> Path:
        found = self.paths(wanted)
        # Half of the time something near the top, which is not one of the 400.
        few = [path for path in found if len(path.relative_to(self.tree).parts) < 3]
        chosen = few if few and number % 2 else found
        return chosen[number // 2 % len(chosen)]

    def new(self, new: tuple[int, str]) -> Path:
        return self.there(new[0], self.is_directory) / new[1]

    def create(self, new: tuple[int, str], data: bytes) -> None:
        if not self.new(new).is_char_device():
            self.new(new).write_bytes(data)

    def replace(self, number: int, data: bytes) -> None:
        path = self.there(number, is_file)
        new = path.with_name("new")
        new.write_bytes(data)
        new.rename(path)

    def append(self, number: int, data: bytes) -> None:
        with self.there(number, is_file).open("ab") as file:
            file.write(data)

    def write_into(self, number: int, offset: int) -> None:
        with self.there(number, is_file).open("r+b") as file:
            file.seek(offset)
            file.write(b"in the middle")

    def truncate(self, number: int, size: int) -> None:
        os.truncate(self.there(number, is_file), size)

    def mkdir(self, new: tuple[int, str]) -> None:
        self.new(new).mkdir()

    def mknod(self, new: tuple[int, str], minor: int) -> None:
        os.mknod(self.new(new), stat.S_IFCHR | 0o600, os.makedev(1, minor))

    def symlink(self, new: tuple[int, str], target: str) -> None:
        self.new(new).symlink_to(target)

    def link(self, number: int, new: tuple[int, str]) -> None:
        os.link(self.there(number, is_file), self.new(new), follow_symlinks=False)

    def rename(self, number: int, new: tuple[int, str]) -> None:
        self.there(number).rename(self.new(new))

    def rename_over(self, number: int, other: int) -> None:
        self.there(number).rename(self.there(other))

    def make_anew(self, number: int, new: tuple[int, str]) -> None:
        """Move a directory away, and put a copy of it where it was."""
        path = self.there(number, lambda p: p != self.tree and self.is_directory(p))
        away = self.new(new)
        path.rename(away)
        shutil.copytree(away, path, symlinks=True)

    def exchange(self, number: int, other: int) -> None:
        # Of a stand-in for a subvolume the kernel (6.18) makes the filesystem read-only.
        one, two = (self.there(n, lambda p: not self.is_nested(p)) for n in (number, other))
        syscalls.exchange(str(one), str(two))

    def unlink(self, number: int) -> None:
        self.there(number, lambda p: not (self.is_directory(p) or self.is_nested(p))).unlink()

    def rmtree(self, number: int) -> None:
        shutil.rmtree(self.there(number, lambda p: p != self.tree and self.is_directory(p)))

    def chmod(self, number: int, mode: int) -> None:
        path = self.there(number)
        if not path.is_symlink() and not self.is_nested(path):
            path.chmod(mode)

    def chown(self, number: int, owner: int) -> None:
        path = self.there(number)
        if not self.is_nested(path):
            os.chown(path, owner, owner, follow_symlinks=False)

    def set_label(self, number: int, value: bytes) -> None:
        path = self.there(number)
        if not self.is_nested(path):
            os.setxattr(path, "trusted.label", value, follow_symlinks=False)

    def remove_label(self, number: int) -> None:
        os.removexattr(self.there(number), "trusted.label", follow_symlinks=False)

    def touch(self, number: int) -> None:
        os.utime(self.there(number), follow_symlinks=False)

    def read(self, number: int) -> None:
        self.there(number, is_file).read_bytes()

    def nest(self, new: tuple[int, str]) -> None:
        btrfsutil.create_subvolume(str(self.new(new)))

    def drop(self, number: int) -> None:
        btrfsutil.delete_subvolume(str(self.there(number, self.is_nested)))

    def is_nested(self, path: Path) -> bool:
        return path != self.tree and is_a_subvolume(path.lstat())

    def is_directory(self, path: Path) -> bool:
        return path.is_dir() and not path.is_symlink() and not self.is_nested(path)


def is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def is_a_subvolume(status: os.stat_result) -> bool:
    """Whether it is one that is nested, or the stand-in for it that a snapshot has."""
    return stat.S_ISDIR(status.st_mode) and status.st_ino in (2, 256)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just(Grower.create), NEW, DATA),
        st.tuples(st.just(Grower.replace), THERE, DATA),
        st.tuples(st.just(Grower.append), THERE, DATA),
        st.tuples(st.just(Grower.write_into), THERE, st.integers(0, 9999)),
        st.tuples(st.just(Grower.truncate), THERE, st.integers(0, 9999)),
        st.tuples(st.just(Grower.mkdir), NEW),
        st.tuples(st.just(Grower.mknod), NEW, st.sampled_from([3, 5])),
        st.tuples(st.just(Grower.symlink), NEW, st.sampled_from(NAMED)),
        st.tuples(st.just(Grower.link), THERE, NEW),
        st.tuples(st.just(Grower.rename), THERE, NEW),
        st.tuples(st.just(Grower.rename_over), THERE, THERE),
        st.tuples(st.just(Grower.make_anew), THERE, NEW),
        st.tuples(st.just(Grower.exchange), THERE, THERE),
        st.tuples(st.just(Grower.unlink), THERE),
        st.tuples(st.just(Grower.rmtree), THERE),
        st.tuples(st.just(Grower.chmod), THERE, st.sampled_from([0o600, 0o4755])),
        st.tuples(st.just(Grower.chown), THERE, st.sampled_from([0, 7])),
        st.tuples(st.just(Grower.set_label), THERE, st.sampled_from([b"", b"1", b"2"])),
        st.tuples(st.just(Grower.remove_label), THERE),
        st.tuples(st.just(Grower.touch), THERE),
        st.tuples(st.just(Grower.read), THERE),
        st.tuples(st.just(Grower.nest), NEW),
        st.tuples(st.just(Grower.drop), THERE),
    ),
    max_size=12,
)


def play(tree: Path, operations: Operations) -> None:
    """Do all that can be done of it to a tree."""
    for function, *arguments in operations:
        with suppress(OSError, ZeroDivisionError, shutil.Error, btrfsutil.BtrfsUtilError):
            function(Grower(tree), *arguments)
