# SPDX-License-Identifier: GPL-2.0-or-later
"""What only snapshots hold, and so how much space deleting any of them frees."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple


class Held(NamedTuple):
    """Bytes of data on the disk, by the names of the snapshots that hold them together.

    Data that anything else on the filesystem shares is not in it.
    """

    shares: Mapping[frozenset[str], int]

    def alone(self, name: str) -> int:
        """Return what one snapshot holds alone: deleting it frees that many bytes."""
        return self.shares.get(frozenset((name,)), 0)

    def together(self, names: Collection[str]) -> int:
        """Return how many bytes deleting all of these snapshots frees."""
        doomed = frozenset(names)
        return sum(bytes_ for holders, bytes_ in self.shares.items() if holders <= doomed)

    def enough(self, names: Sequence[str], wanted_bytes: int) -> list[str]:
        """Return the first of the names that together free so many bytes, or all if none do."""
        for count in range(1, len(names)):
            if self.together(names[:count]) >= wanted_bytes:
                return list(names[:count])
        return list(names)

    def to_json(self) -> list[dict[str, Any]]:
        """Return the whole table, from which the answer for any set follows."""
        rows = [(sorted(holders), bytes_) for holders, bytes_ in self.shares.items()]
        return [{"snapshots": names, "bytes": bytes_} for names, bytes_ in sorted(rows)]
