# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison of files, on trees that one would have to be lucky to get from a filesystem."""

from __future__ import annotations

import stat
import struct
from typing import NamedTuple, Optional

from fs_rollback.core.comparison.files import file_changes
from fs_rollback.core.comparison.inodes import Inode
from fs_rollback.core.progress import untold


def _inode(number: int, kind: int, *names: tuple[int, bytes]) -> Inode:
    return Inode(number, 7, 0, 0, 0, kind | 0o755, 0, 0, (0, 0), b"", names, {}, ())


class _Tree(NamedTuple):
    """A subvolume, by its inodes."""

    inodes: dict[int, Inode]

    def inode(self, number: int) -> Optional[Inode]:
        return self.inodes.get(number)

    def listing(self, number: int) -> list[bytes]:
        entries = [(i, n) for i in self.inodes.values() for at, n in i.names if at == number]
        return [struct.pack("<QB16xHHB", i.number, 1, 0, len(n), 0) + n for i, n in entries]


def test_a_number_that_is_something_else_without_a_history() -> None:
    """A directory with a file in it, and a device: one number, and one generation."""
    top, file = _inode(256, stat.S_IFDIR), _inode(301, stat.S_IFREG, (300, b"file"))
    old = _Tree({256: top, 300: _inode(300, stat.S_IFDIR, (256, b"a")), 301: file})
    new = _Tree({256: top, 300: _inode(300, stat.S_IFCHR, (256, b"b"))})
    numbers = [256, 300, 301]
    told = list(file_changes(old, new, (numbers, numbers), None, lambda *_: True, untold))
    assert [(change.action, change.path) for change in told] == [
        ("removed", "/a"),
        ("removed", "/a/file"),
        ("added", "/b"),
    ]


def test_a_directory_that_was_changed_in_both_trees_is_listed() -> None:
    """Each has got one name, in one tick of the clock: nothing but the names tells them apart."""
    top, etc = _inode(256, stat.S_IFDIR), _inode(300, stat.S_IFDIR, (256, b"etc"))
    one, two = (
        _inode(number, stat.S_IFREG, (300, name))._replace(generation=9)
        for number, name in ((301, b"one+"), (302, b"two+"))
    )
    old, new = _Tree({256: top, 300: etc, 301: one}), _Tree({256: top, 300: etc, 302: two})
    touched = [300, 301], [300, 302]
    told = list(file_changes(old, new, touched, 8, lambda *_: True, untold))
    assert [(change.action, change.path) for change in told] == [
        ("removed", "/etc/one+"),
        ("added", "/etc/two+"),
    ]
