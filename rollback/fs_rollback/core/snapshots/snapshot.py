# SPDX-License-Identifier: GPL-2.0-or-later
"""Subvolumes as the kernel lists them, and snapshots: a subvolume in the store with its record."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple, Optional

from ..formats import mount_options
from .record import Kind, Record

TOP_LEVEL_ID = mount_options.TOP_LEVEL_ID
STORE = "fs-snapshots"
# In bytes, from the root, of a nested subvolume that a rollback carries over or brings back: any
# user can make longer ones, and many of them.
LONGEST_PATH = 16000
# Where the first boot of a new root makes what it brings over, in that root.
STAGING = ".fs-rollback-arrival"
# In the store. Not .json: older programs take each such file for the record of a snapshot.
GUARD = "guard.state"
# systemd.offline-updates(7): with one of these the next boot makes an update. The one that was
# scheduled when a snapshot was taken must not be made in a copy of it.
OFFLINE_UPDATE = ("system-update", "etc/system-update")


class Subvolume(NamedTuple):
    """A subvolume; `path` is from the top level, "" for the top level itself.

    `born` is the generation (transaction number of the filesystem) it was made in.
    """

    id: int
    path: str
    uuid: str
    parent_id: int
    parent_uuid: str
    read_only: bool
    created: datetime
    born: int


class Snapshot(NamedTuple):
    """An entry of the store. Either part may be missing, and `problem` says what is wrong."""

    name: str
    subvolume: Optional[Subvolume]
    record: Optional[Record]
    problem: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is a subvolume to go back to."""
        return self.subvolume is not None

    @property
    def incomplete(self) -> bool:
        """Whether the subvolume exists and has no readable record."""
        return self.subvolume is not None and self.record is None

    @property
    def gone(self) -> bool:
        """Whether only the record is left: the subvolume was deleted by other means."""
        return self.subvolume is None

    @property
    def id(self) -> int:
        """The btrfs subvolume ID, 0 if the subvolume is gone."""
        return self.subvolume.id if self.subvolume else 0

    @property
    def path(self) -> str:
        """The path from the top level."""
        return self.subvolume.path if self.subvolume else f"{STORE}/{self.name}"

    @property
    def kind(self) -> Optional[Kind]:
        """Why it exists; None without a record."""
        return self.record.kind if self.record else None

    @property
    def is_replaced(self) -> bool:
        """Whether it is an old root that a rollback set aside."""
        if self.record is None:
            return self.name.startswith("replaced_")
        return self.record.kind is Kind.REPLACED

    @property
    def was_taken_back(self) -> bool:
        """Whether it is a new root that an undo kept, because it was used: nothing to undo.

        Its place in the store is the only one that its record knows.
        """
        source = self.record.source.path if self.record and self.is_replaced else ""
        return bool(source) and source == self.path

    @property
    def of_trial(self) -> bool:
        """Whether it was taken of something else than the machine's own root: never offered."""
        return self.record is not None and self.record.trial

    @property
    def is_top_level(self) -> bool:
        """Whether it is a replaced root that lies in the top level and could not be moved."""
        return self.id == TOP_LEVEL_ID

    @property
    def created(self) -> datetime:
        """When it was taken (UTC)."""
        if self.record is not None:
            return self.record.created
        assert self.subvolume is not None, "an entry has a record or a subvolume"
        return self.subvolume.created

    @property
    def pinned(self) -> bool:
        """Whether the administrator wants it kept."""
        return self.record is not None and self.record.pinned

    @property
    def pending(self) -> bool:
        """Whether it is not known how its transaction ended."""
        return self.record is not None and self.record.pending


def origin(root: Optional[Subvolume], subvolumes: Iterable[Subvolume]) -> Optional[Subvolume]:
    """Return the subvolume that a root is a copy of: the snapshot that a rollback went back to.

    None if the root is not a copy, if its origin is gone, or if `root` is None. A copy remains one
    whatever has changed in it since.
    """
    parent = root.parent_uuid if root else ""
    if not parent.strip("0"):
        return None
    return next((s for s in subvolumes if s.uuid == parent), None)


class Roots(NamedTuple):
    """Which subvolume IDs are in use. `running` and `next` are 0 if unknown.

    `waiting` is the old root of a rollback that waits for its reboot, 0 without one. `named` are
    those that any line names as the root, if `next` is unknown. `origin` is what the running root
    is a copy of, 0 if that is gone or if it is no copy. `way_back` is the snapshot that a guarded
    boot goes back to if it is not healthy, 0 without one. `around` are those that contain, at any
    depth, a subvolume that is mounted or the default and whose path is too long to be known.
    """

    running: int
    next: int
    default: int
    mounted: frozenset[int] = frozenset()
    waiting: int = 0
    named: frozenset[int] = frozenset()
    origin: int = 0
    way_back: int = 0
    around: frozenset[int] = frozenset()
