# SPDX-License-Identifier: GPL-2.0-or-later
"""Remembers which subvolumes have which data: the kernel takes 0.1 ms to answer for each extent.

An answer holds as long as what the extent tree says of the extent is not newer than it, which the
caller has read anyway. Subvolumes that were deleted since drop out of it, and one that was made
since has what its source had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, NamedTuple, Optional

from ...core.space.extents import Extent
from ..store import cache

_VERSION = 1
_MOST = 4  # filesystems
_NO_UUID = "0" * 32

# The IDs of subvolumes; None stands for more than can be told.
Holders = Optional[frozenset[int]]


class Made(NamedTuple):
    """A subvolume, and what it was made of."""

    id: int
    uuid: str
    parent_uuid: str


class Known:
    """What is known of the filesystem with this UUID."""

    def __init__(self, filesystem: str, subvolumes: Iterable[Made]) -> None:
        self._name = f"holders-{filesystem}.json"
        self._subvolumes = sorted(subvolumes)
        self._until = 0
        self._has_asked = False
        self._before: dict[int, Holders] = {}
        self._found: dict[int, Holders] = {}
        self._by_leaves: dict[tuple[int, ...], Holders] = {}
        # Whatever is in the file, it is a cache.
        with suppress(AttributeError, LookupError, TypeError, ValueError):
            self._read()

    def holders(self, extent: Extent, ask: Callable[[int], Holders]) -> Holders:
        """Return who has an extent; `ask` is told its place where that is not known."""
        if extent.touched < self._until and extent.place in self._before:
            found = self._before[extent.place]
        elif extent.leaves in self._by_leaves:
            found = self._by_leaves[extent.leaves]
        else:
            found = ask(extent.place)
            self._has_asked = True
            if extent.leaves:
                self._by_leaves[extent.leaves] = found
        self._found[extent.place] = found
        return found

    def write(self, generation: int) -> None:
        """Keep what is known now; it was asked for after the beginning of this generation."""
        if not self._has_asked:  # nothing new
            return
        numbers: dict[Holders, int] = {}
        rows = [numbers.setdefault(found, len(numbers)) for found in self._found.values()]
        data = {
            "version": _VERSION,
            "generation": generation,
            "subvolumes": {s.uuid: s.id for s in self._subvolumes},
            "sets": [None if s is None else sorted(s) for s in numbers],
            "places": list(self._found),
            "of": rows,
        }
        cache.save(self._name, data, _MOST)

    def _read(self) -> None:
        data: dict[str, Any] = cache.load(self._name)
        if data["version"] != _VERSION:
            return
        sets = [None if row is None else set(row) for row in data["sets"]]
        if not self._follow(data["subvolumes"], sets):
            return
        holders = [None if row is None else frozenset(row) for row in sets]
        places, rows = data["places"], data["of"]
        self._before = {place: holders[row] for place, row in zip(places, rows)}
        self._until = int(data["generation"])

    def _follow(self, before: dict[str, int], sets: list[Optional[set[int]]]) -> bool:
        """Add the subvolumes that were made since; False where it is not known what of."""
        ids, old = dict(before), set(before.values())
        for made in self._subvolumes:  # a source has a lower ID
            if made.id in old:
                continue
            ids[made.uuid] = made.id
            if made.parent_uuid == _NO_UUID:
                continue
            if made.parent_uuid not in ids:
                return False
            for found in sets:
                if found is not None and ids[made.parent_uuid] in found:
                    found.add(made.id)
        return True
