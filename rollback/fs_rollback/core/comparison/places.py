# SPDX-License-Identifier: GPL-2.0-or-later
"""Counts files by directory, where there are too many to list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .files import FileChange

# Below these each service has a directory of its own.
_SERVICES = ("/var/lib/", "/var/opt/", "/var/spool/")


def by_place(changes: Iterable[FileChange]) -> dict[str, int]:
    """Count changes by the place of their directory; a directory counts as its own."""
    found: Counter[str] = Counter()
    for change in changes:
        path = change.path if change.kind == "directory" else change.path.rpartition("/")[0]
        found[place(path) or "/"] += 1
    return dict(sorted(found.items()))


def place(path: str) -> str:
    """Return the first two components of a path; three where each service has a directory."""
    depth = 3 if path.startswith(_SERVICES) else 2
    return "/".join(path.split("/")[: depth + 1])
