# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that make the new root, put it in its place, and set the old one aside.

Both roots are known by UUID alone: what has another UUID is never deleted, moved or written to.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ...errors import StoreError
from ..snapshots.record import Kind, Record, Source, dump, parse_time
from ..snapshots.replaced_by import ReplacedBy
from ..snapshots.snapshot import STORE
from .operations import Operations
from .steps import RootStep, mounted, named


class Standing(enum.Enum):
    """Which root the next boot finds where a rollback puts its new one, told by UUID."""

    OLD = "old"
    NEW = "new"
    GONE = "gone"  # nothing is there any more
    OTHER = "other"  # another subvolume, which somebody else put there


@dataclass(frozen=True)
class CreateRoot(RootStep):
    """Make a writable snapshot of the target as the new root; `new_uuid` is "" until it exists."""

    target: str
    spare: str
    old_uuid: str
    new_uuid: str = ""

    def describe(self) -> str:
        return f"Make a writable snapshot of {named(self.target)} as the new root: /{self.spare}."

    def apply(self, operations: Operations) -> None:
        operations.snapshot(self.target, self.spare, read_only=False)
        operations.end_unfinished(self.spare)

    def undo(self, operations: Operations) -> None:
        # The steps before this one in reverse have put the old root back under its own name. If
        # it is here all the same, something else moved it, and nothing may delete it.
        found = operations.subvolume(self.spare)[1]
        if found == self.old_uuid:
            raise StoreError(f"the old root is at /{self.spare}, where the new one should be")
        if found and self.is_ours(found, operations):
            operations.delete(self.spare)

    def is_ours(self, found: str, operations: Operations) -> bool:
        """Whether the subvolume with the UUID `found`, which is at the spare name, is ours.

        A crash may have come between the snapshot and the line that says its UUID; then it is a
        snapshot of the target.
        """
        if self.new_uuid:
            return found == self.new_uuid
        return operations.origin(self.spare) == operations.subvolume(self.target)[1]

    # Nothing by hand: a leftover harms nobody, and no hand should delete what may be the old root.


@dataclass(frozen=True)
class KeepNewRoot(RootStep):
    """When the rollback is undone, keep a new root that has been used, with a record.

    The steps before this one are undone after it, and find nothing at the spare name.
    """

    spare: str
    name: str
    created: str
    description: str
    new_uuid: str = ""

    def describe(self) -> str:
        return f"Keep the root that the rollback made: /{STORE}/{self.name}."

    def apply(self, operations: Operations) -> None:
        """Nothing to do: the new root is there already."""

    def undo(self, operations: Operations) -> None:
        place = f"{STORE}/{self.name}"
        if operations.subvolume(self.spare)[1] == self.new_uuid:
            operations.rename(self.spare, place)
        found, uuid = operations.subvolume(place)
        if uuid == self.new_uuid:
            record = Record(
                name=self.name,
                kind=Kind.REPLACED,
                created=parse_time(self.created),
                uuid=uuid,
                source=Source(place, found, uuid),
                description=self.description,
                kernels=operations.kernels(place),
            )
            operations.write_record(self.name, dump(record))

    # Nothing by hand: it is whole under its other name too.


@dataclass(frozen=True)
class Exchange(RootStep):
    """Exchange the names of the old and the new root; their UUIDs tell which is where."""

    root: str
    spare: str
    old_uuid: str
    new_uuid: str = ""

    def describe(self) -> str:
        return f"Exchange /{self.root} and /{self.spare} in one atomic step."

    def standing(self, operations: Operations) -> Standing:
        """Return what has the root's name now."""
        found = operations.subvolume(self.root)[1]
        known = {"": Standing.GONE, self.new_uuid: Standing.NEW, self.old_uuid: Standing.OLD}
        return known.get(found, Standing.OTHER) if found else Standing.GONE

    def done(self, operations: Operations) -> bool:
        """Whether the names are exchanged."""
        return self.standing(operations) is Standing.NEW

    def is_displaced(self, operations: Operations) -> bool:
        """Whether somebody else has put another root where this one put the new root."""
        return self.standing(operations) is Standing.OTHER and not self._is_before(operations)

    def _is_before(self, operations: Operations) -> bool:
        """Whether the new root is still at the spare name: nothing was exchanged yet."""
        return bool(self.new_uuid) and operations.subvolume(self.spare)[1] == self.new_uuid

    def apply(self, operations: Operations) -> None:
        if self.done(operations):
            return
        for path, uuid in ((self.root, self.old_uuid), (self.spare, self.new_uuid)):
            if operations.subvolume(path)[1] != uuid:
                raise StoreError(f"the subvolume at /{path} was replaced a moment ago")
        operations.exchange(self.root, self.spare)

    def undo(self, operations: Operations) -> None:
        standing = self.standing(operations)
        if standing is Standing.OLD or self._is_before(operations):
            return
        if standing is Standing.OTHER:
            raise StoreError(f"/{self.root} is neither the old root nor the one of this rollback")
        old = operations.locate(self.old_uuid)
        if old is None:
            raise StoreError("the old root no longer exists")
        if standing is Standing.GONE:
            operations.rename(old, self.root)
            return
        if old != self.spare and not operations.subvolume(self.spare)[1]:
            # Somebody moved it: what is made the spare root here is deleted, and only that.
            operations.rename(old, self.spare)
            old = self.spare
        operations.exchange(self.root, old)

    def by_hand(self) -> tuple[str, ...]:
        uuid = "-".join(
            self.old_uuid[a:b] for a, b in ((0, 8), (8, 12), (12, 16), (16, 20), (20, 32))
        )
        swap = (
            "import ctypes, os, sys; one, other = map(os.fsencode, sys.argv[1:]); sys.exit("
            'ctypes.CDLL(None).renameat2(-100, one, -100, other, 2) and "not exchanged")'
        )
        return (
            f"btrfs subvolume show {mounted(self.root)}   # unless this shows UUID {uuid}:",
            f"python3 -c '{swap}' {mounted(self.root)} {mounted(self.spare)}",
        )


@dataclass(frozen=True)
class SetDefault(RootStep):
    """Make the new root, which is at `path` by then, the default subvolume."""

    path: str
    old_id: int
    new_uuid: str = ""

    def describe(self) -> str:
        return f"Make the new root the default subvolume (currently ID {self.old_id})."

    def standing(self, operations: Operations) -> Standing:
        """Return what the default subvolume is now."""
        default = operations.default_id()
        if default == self.old_id:
            return Standing.OLD
        place = operations.locate(self.new_uuid) if self.new_uuid else None
        is_new = place is not None and operations.subvolume(place)[0] == default
        return Standing.NEW if is_new else Standing.OTHER

    def done(self, operations: Operations) -> bool:
        """Whether the new root is the default subvolume."""
        return self.standing(operations) is Standing.NEW

    def is_displaced(self, operations: Operations) -> bool:
        """Whether somebody else has made another subvolume the default one."""
        return self.standing(operations) is Standing.OTHER

    def apply(self, operations: Operations) -> None:
        if self.done(operations):
            return
        number, uuid = operations.subvolume(self.path)
        if uuid != self.new_uuid:
            raise StoreError(f"the subvolume at /{self.path} was replaced a moment ago")
        operations.set_default(number)

    def undo(self, operations: Operations) -> None:
        # What somebody else has set since is not ours to take back.
        if self.done(operations):
            operations.set_default(self.old_id)

    def by_hand(self) -> tuple[str, ...]:
        return (f"btrfs subvolume set-default {self.old_id} /mnt",)


@dataclass(frozen=True)
class Sync(RootStep):
    """Write to disk: neither a rename nor a new default is there when the call returns."""

    def describe(self) -> str:
        return "Write everything to the disk."

    def apply(self, operations: Operations) -> None:
        operations.sync()

    def undo(self, operations: Operations) -> None:
        operations.sync()

    def by_hand(self) -> tuple[str, ...]:
        return ("btrfs filesystem sync /mnt",)


@dataclass(frozen=True)
class SetAside(RootStep):
    """Move the old root to the store, with a record; a top level can only be recorded.

    `target_name` and `target_path` are the snapshot that the new root is a copy of. `description`
    is what version 0.1.0 writes into the record, which has these as fields.
    """

    spare: str
    name: str
    old_path: str
    old_id: int
    old_uuid: str
    created: str
    description: str
    boot_files: str = ""
    target_name: str = ""
    target_path: str = ""

    @property
    def in_top_level(self) -> bool:
        """Whether the old root is the top level."""
        return not self.old_path

    def describe(self) -> str:
        if self.in_top_level:
            return f"Record the old root, which stays in the top level, as {self.name}."
        return f"Set the old root aside, whole: /{STORE}/{self.name}."

    def apply(self, operations: Operations) -> None:
        place = f"{STORE}/{self.name}"
        if self.in_top_level:
            place = ""
        elif operations.subvolume(self.spare)[1] == self.old_uuid:
            operations.rename(self.spare, place)
        target_id = operations.subvolume(self.target_path)[0]
        record = Record(
            name=self.name,
            kind=Kind.REPLACED,
            created=parse_time(self.created),
            uuid=self.old_uuid,
            source=Source(self.old_path, self.old_id, self.old_uuid),
            kernels=operations.kernels(place),
            boot_files=self.boot_files,
            replaced_by=ReplacedBy(self.target_name, target_id or None),
        )
        operations.write_record(self.name, dump(record))

    def undo(self, operations: Operations) -> None:
        operations.remove_record(self.name)
        place = f"{STORE}/{self.name}"
        if not self.in_top_level and operations.subvolume(place)[1] == self.old_uuid:
            operations.rename(place, self.spare)

    def by_hand(self) -> tuple[str, ...]:
        if self.in_top_level:
            return (f"rm /mnt/{STORE}/{self.name}.json",)
        return (
            f"mv --no-target-directory /mnt/{STORE}/{self.name} /mnt/{self.spare}",
            f"rm /mnt/{STORE}/{self.name}.json",
        )
