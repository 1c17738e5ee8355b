# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a package transaction has room on a btrfs: for its files, and for their metadata.

A btrfs gives room to data and to metadata in large block groups. What is free in those of one kind
is of no use to the other, and what no block group has yet can become either.
"""

from __future__ import annotations

from typing import NamedTuple, Optional

from ..snapshots.space import DATA, BlockGroups, size, usable

# linux/btrfs_tree.h: BTRFS_BLOCK_GROUP_METADATA; BTRFS_SPACE_INFO_GLOBAL_RSV.
METADATA, RESERVE = 1 << 2, 1 << 49
# Measured with files of 20,000 bytes, a label and a long name each: 0.8 KiB of metadata for each
# where all of a tree is replaced, 2.1 KiB where a tenth of it is.
_METADATA_OF_DATA = 16
_LEAST_METADATA = 16 << 20
_BLOCK_GROUP = 1 << 30  # of data (calc_chunk_size() in fs/btrfs/volumes.c), on one device
# btrfs compresses what packages bring to about half (zstd:1); what was promised is refused never.
_COMPRESSED = 2


class Room(NamedTuple):
    """The room on a filesystem: its block groups, and what no block group has, by device."""

    groups: tuple[BlockGroups, ...]
    unallocated: tuple[int, ...]

    def free(self, kind: int) -> int:
        """Return the free bytes in the block groups for data, or for metadata."""
        groups = [g for g in self.groups if g.flags & kind]
        free = sum(group.total - group.used for group in groups)
        reserve = sum(g.total for g in self.groups if g.flags & RESERVE)
        return max(free - reserve, 0) if kind == METADATA else free

    def growth(self, kind: int) -> int:
        """Return by how many bytes the block groups of a kind could grow, if nothing else grows."""
        groups = [g for g in self.groups if g.flags & kind]
        profile = max(groups, key=lambda g: g.total).flags if groups else 0
        return usable(profile, self.unallocated)

    def balance_usage(self) -> int:
        """Return a fill level in percent: a block group of data that is less full can be emptied.

        An emptied one becomes room for metadata. At least one group is no fuller than the average,
        and the others have room for its data if as much is free as one group is large. 0 if none
        can be emptied.
        """
        total = sum(g.total for g in self.groups if g.flags & DATA)
        idle = self.free(DATA)
        # A tenth of the filesystem at most, and a bit more, as copies are not counted here.
        whole = sum(g.total for g in self.groups if not g.flags & RESERVE) + sum(self.unallocated)
        if self.is_mixed or idle < min(_BLOCK_GROUP, whole // 8) * 5 // 4 or not total:
            return 0
        return min(101 - 100 * idle // total, 100)

    def is_short_of_metadata(self) -> bool:
        """Whether even the smallest transaction has no room for its metadata."""
        return not self.is_mixed and self._left(METADATA) < _LEAST_METADATA

    def can_balance(self) -> bool:
        """Whether there is enough room for metadata to move a block group of data.

        Without it a balance ends with "No space left on device": so it did with 6 MiB and less.
        """
        return self._left(METADATA) >= _LEAST_METADATA // 2

    def _left(self, kind: int) -> int:
        return self.free(kind) + self.growth(kind)

    @property
    def is_mixed(self) -> bool:
        """Whether data and metadata have the same block groups (mkfs.btrfs --mixed)."""
        return any(g.flags & DATA and g.flags & METADATA for g in self.groups)


_METADATA_IS = "metadata (what btrfs stores about files)"


class Shortage(NamedTuple):
    """What is missing for a transaction: bytes of data or of metadata, of those it needs."""

    is_metadata: bool
    needed: int
    missing: int

    def sentence(self) -> str:
        """Return it as a sentence."""
        what = _METADATA_IS if self.is_metadata else "files"
        return (
            f"the transaction needs about {size(self.needed)} of space for {what}, and"
            f" {size(self.missing)} of that is missing"
        )


def only_free(free: int, short: Shortage) -> str:
    """Return how much is free on a nearly full filesystem, and whether metadata has no space."""
    why = f", and there is no space for {_METADATA_IS}" if short.is_metadata else ""
    return f"only {size(free)} are free{why}"


def shortage(room: Room, coming: Optional[int], *, compresses: bool) -> Optional[Shortage]:
    """Return what space a transaction lacks; None if there is enough.

    `coming` is the installed size of the incoming packages in bytes, None if unknown. It is 0 if
    there are none: packages can be removed on a full filesystem, too.
    """
    if coming == 0:
        return None
    data = (coming or 0) // (_COMPRESSED if compresses else 1)
    metadata = _LEAST_METADATA + (coming or 0) // _METADATA_OF_DATA
    if room.is_mixed:
        missing = data + metadata - room.free(METADATA) - room.growth(METADATA)
        return Shortage(False, data + metadata, missing) if missing > 0 else None
    more, growth = metadata - room.free(METADATA), room.growth(METADATA)
    if more > growth:
        return Shortage(True, metadata, more - growth)
    taken = max(more, 0) / growth if growth else 0  # of what no block group has
    missing = data - room.free(DATA) - int(room.growth(DATA) * (1 - taken))
    return Shortage(False, data, missing) if missing > 0 else None
