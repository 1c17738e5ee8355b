# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the package of each changed file, and whether that package or somebody else changed it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Optional

from ...core.comparison.files import FileChange
from ...core.packages.header import PackageFile
from ...errors import kernel_errors
from ..linux import files
from .database import Database

_PIECE_BYTES = 1 << 20
# What rpm puts beside a configuration file that somebody has edited.
_LEFT_BY_RPM = (".rpmnew", ".rpmsave", ".rpmorig")


class Side(NamedTuple):
    """One of the two roots that are compared: its open directory and its packages."""

    tree: int
    packages: Database


class OwnedChange(NamedTuple):
    """A change of a file, the name of its package ("" for none), and whether it was edited.

    `is_edited` is false if the package installed, removed or restored what is there now. Both are
    None if unknown.
    """

    change: FileChange
    package: Optional[str]
    is_edited: Optional[bool]


def owned(changes: Iterable[FileChange], old: Side, new: Side) -> Iterator[OwnedChange]:
    """Yield the changes between two roots with the packages of the files.

    Configuration is compared with the package's own digest; of all else, which is much, the package
    counts as having changed it where its version has changed. Raises DatabaseError, KernelError.
    """
    rows = list(changes)
    paths = {path for row in rows for path in (row.path, row.source) if path}
    before, after = old.packages.owners(paths), new.packages.owners(paths)
    for row in rows:
        file, was = after.get(row.path), before.get(row.source or row.path)
        known = was if row.action == "removed" else file or was
        name = known.package.name if known is not None else ""
        yield OwnedChange(row, name, _is_edited(row, was, file, new.tree))


def _is_edited(
    row: FileChange, was: Optional[PackageFile], file: Optional[PackageFile], tree: int
) -> bool:
    if row.action == "removed":
        return was is None or file is not None
    if file is None:
        return not row.path.endswith(_LEFT_BY_RPM)
    is_other = row.action != "changed" or not {"content", "type"}.isdisjoint(row.what)
    if is_other and file.digest and (file.is_config or file.path.startswith("/etc/")):
        return not _is_as_packaged(tree, row.path, file)
    # Of no digest in /usr are caches that the scripts of any package make anew.
    is_ghost = row.kind == "file" and not file.digest and row.path.startswith("/usr/")
    return was is not None and was.package == file.package and not is_ghost


def _is_as_packaged(tree: int, path: str, file: PackageFile) -> bool:
    """Whether what is at a path of the tree (an open directory) is a file with this content.

    False too where the package does not tell its content: a ghost, a directory, a link. Raises
    KernelError.
    """
    import hashlib  # loads all of OpenSSL

    if not file.digest or not file.algorithm:
        return False
    # Where cryptography is restricted, MD5 is refused unless it is said that this is none.
    digest = hashlib.new(file.algorithm, usedforsecurity=False)
    with files.regular_file(tree, path) as descriptor, kernel_errors("read", path):
        if descriptor is None:
            return False
        while piece := os.read(descriptor, _PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest() == file.digest
