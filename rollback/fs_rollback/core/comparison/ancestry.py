# SPDX-License-Identifier: GPL-2.0-or-later
"""The generation after which two subvolumes may differ: from what each is a snapshot of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Optional

from ..snapshots.snapshot import Subvolume

_FOREVER = 2**64 - 1
_NO_UUID = "0" * 32


def parted(first: Subvolume, second: Subvolume, all_: Iterable[Subvolume]) -> Optional[int]:
    """Return the last generation of the common history of two subvolumes; None if unknown.

    A snapshot equals its source up to the end of the transaction that made it. Neither subvolume
    has to be a snapshot of the other: both may come from a third one, which may be deleted. Those
    between them and the third one must exist, because only they tell what they were made of.
    `all_` are the subvolumes of the filesystem.
    """
    by_uuid = {subvolume.uuid: subvolume for subvolume in all_}
    of_first = dict(_line(first, by_uuid))
    for uuid, until in _line(second, by_uuid):
        if uuid in of_first:
            return min(until, of_first[uuid])
    return None


def _line(
    subvolume: Optional[Subvolume], by_uuid: dict[str, Subvolume]
) -> Iterator[tuple[str, int]]:
    """Give the UUIDs that a subvolume's content was under, each with its last generation there."""
    until, uuid = _FOREVER, subvolume.uuid if subvolume else _NO_UUID
    while uuid != _NO_UUID:
        yield uuid, until
        if subvolume is None:
            return
        uuid, until = subvolume.parent_uuid, min(until, subvolume.born)
        subvolume = by_uuid.get(uuid)
