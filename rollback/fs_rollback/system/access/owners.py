# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the packages that own files which are to be restored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

from ...core.packages.header import PackageFile
from ...core.snapshots.snapshot import Snapshot
from ...errors import kernel_errors
from ..comparison import database
from ..linux import files
from ..machine.host import Host
from .paths import Item

# Of a directory so many paths are looked up: a warning need not name all packages of /usr.
_MOST_PATHS = 2000
# linux/limits.h. No package has a file where no single call leads; paths there may be megabytes.
_PATH_MAX = 4096


def packages(host: Host, snapshot: Snapshot, items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
    """Return the names of the installed packages that have files at or below each item's path.

    Configuration files do not count: they are meant to differ from those of the package. Raises
    DatabaseError, KernelError.
    """
    with (
        files.opened(host.path(snapshot.path)) as tree,
        kernel_errors("look for packages' files in", snapshot.name),
    ):
        # Names of packages' files are UTF-8, and SQLite takes no others.
        wanted = {
            i.path: list(islice(filter(_is_utf8, _paths(tree, i)), _MOST_PATHS)) for i in items
        }
    with database.opened(host.root_fd) as opened:
        found = opened.owners([path for paths in wanted.values() for path in paths])
    rows = {
        item: {found[path].package.name for path in paths if _counts(found.get(path))}
        for item, paths in wanted.items()
    }
    return {item: tuple(sorted(names)) for item, names in rows.items() if names}


def _counts(file: PackageFile | None) -> bool:
    return file is not None and not file.is_config and bool(file.digest)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:  # bytes that are not, as os.fsdecode has them
        return False
    return True


def _paths(tree: int, item: Item) -> Iterator[str]:
    """Give the paths of all but directories at or below an item's."""
    if item.kind != "directory":
        yield f"/{item.path}"
        return
    for _, place, entries in files.walked(tree, tuple(item.path.split("/"))):
        directory = "/".join(("", *place, ""))
        if len(directory) < _PATH_MAX:  # else what lies below is passed over, too
            yield from (directory + entry.name for entry in entries)
