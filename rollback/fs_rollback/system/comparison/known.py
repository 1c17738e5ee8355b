# SPDX-License-Identifier: GPL-2.0-or-later
"""Caches the differences between two read-only snapshots, which never change."""

from __future__ import annotations

from typing import Optional

from ...core.comparison.files import FileChange
from ...core.snapshots.snapshot import Subvolume
from ..linux import btrfs
from ..machine.host import Host
from ..store import cache
from .owned import OwnedChange

_MOST = 8  # comparisons
_MOST_ROWS = 200_000  # some 20 MB


def key(host: Host, old: Subvolume, new: Subvolume) -> str:
    """Return the key of a comparison in the cache, "" if one of the two sides may change.

    Raises KernelError.
    """
    if not (old.read_only and new.read_only):
        return ""
    # One that was made writable for a while is another generation.
    sides = (f"{s.uuid}.{btrfs.generation(host.path(s.path))}" for s in (old, new))
    return f"diff-{'-'.join(sides)}.json"


def load(name: str) -> Optional[list[OwnedChange]]:
    """Return a cached comparison, None if there is none."""
    try:
        rows = cache.load(name)["rows"] if name else None
        return [_row(*row) for row in rows] if rows is not None else None
    except (TypeError, ValueError, KeyError):  # something else is there
        return None


def _row(change: list[object], package: Optional[str], is_edited: Optional[bool]) -> OwnedChange:
    path, action, kind, what, source = change
    if not isinstance(what, list):
        raise TypeError("not as save() writes it")
    return OwnedChange(
        FileChange(str(path), str(action), str(kind), tuple(what), str(source)), package, is_edited
    )


def save(name: str, rows: list[OwnedChange]) -> None:
    """Cache a comparison, if it has a key and is not too large."""
    if name and len(rows) <= _MOST_ROWS:
        cache.save(name, {"rows": rows}, _MOST)
