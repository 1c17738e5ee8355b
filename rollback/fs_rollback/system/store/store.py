# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: `fs-snapshots/` at the top level, with snapshots, records and a lock."""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from ...core.snapshots import record as records
from ...core.snapshots.age import in_order
from ...core.snapshots.names import COPY_PREFIXES, REPLACED_PREFIX, SNAPSHOT_PREFIX
from ...core.snapshots.record import Record
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID, Snapshot, Subvolume
from ...errors import KernelError, LockedError, StoreError, kernel_errors
from ..linux import btrfs, files, process, syscalls
from ..linux import durable as writing
from ..machine.host import Host
from . import undeletable

if TYPE_CHECKING:
    from ...core.snapshots.events import Event

PENDING = "pending.json"
_DELETED_PREFIX = "deleted_"
_RECORD_SUFFIX = ".json"
LOCK_WAIT_S = 30.0
_SHORTLY_S = 0.3  # most that have the lock have it shorter than that: not worth a word


class Store:
    """The store of one filesystem. Writing needs the lock, which `locked` holds."""

    def __init__(self, host: Host, directory: int) -> None:
        self.host = host
        self.directory = directory
        self._parsed: dict[str, tuple[tuple[int, ...], Record]] = {}

    @contextmanager
    def locked(self, said: process.Say = str, *, wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
        """Hold the store's lock: one process a filesystem.

        While another has it `said` is told for whom this waits, at once, and anew for another one.
        Raises LockedError naming the holder.
        """
        begin = time.monotonic()
        look, holder = begin + _SHORTLY_S, ""
        while not syscalls.try_lock(self.directory):
            now = time.monotonic()
            if now >= begin + wait_s:
                raise LockedError(
                    f"the snapshot store is in use by {process.lock_holder(self.directory)}",
                    hint="Wait until it has finished, then try again.",
                )
            if now >= look:
                look, before, holder = now + 1, holder, process.lock_holder(self.directory)
                if holder != before:
                    left = begin + wait_s - now
                    said(f"waiting up to {left:.0f} seconds for {holder}")
            time.sleep(0.05)
        try:
            self.host.forget()
            yield
        finally:
            syscalls.unlock(self.directory)

    def is_busy(self) -> bool:
        """Whether another process has the lock: a command, or a transaction that is running."""
        if not syscalls.try_lock(self.directory):
            return True
        syscalls.unlock(self.directory)
        return False

    def has_journal(self) -> bool:
        """Whether a rollback is under way, or waits for its reboot."""
        return is_journal_in(self.host.top_fd)

    def __contains__(self, name: object) -> bool:
        """Whether a new snapshot cannot have this name: a subvolume or a record has it."""
        paths = (f"{name}", f"{name}{_RECORD_SUFFIX}")
        return any(os.path.lexists(f"/proc/self/fd/{self.directory}/{path}") for path in paths)

    def _entries(self) -> set[str]:
        try:
            # Opened anew each time: btrfs shows a directory that is open as it was when it was
            # opened (Linux 6.5 and later), without the files that were created since.
            return set(os.listdir(f"/proc/self/fd/{self.directory}"))
        except OSError as error:
            raise KernelError("list", f"/{STORE}", error) from error

    def load(self) -> list[Snapshot]:
        """Return all snapshots in the order in which they were made, oldest first (age.py)."""
        in_store = self.subvolumes()
        entries = self._entries()
        recorded = _recorded(entries)
        found = [
            self._snapshot(name, in_store.get(name), has_record=name in recorded)
            for name in in_store.keys() | recorded
        ]
        present = [s for s in found if s.exists or s.record]
        return in_order(present, self.host.subvolumes, self.host.root_id)

    def subvolumes(self) -> dict[str, Subvolume]:
        """Return what lies in the store and is a snapshot, or a replaced root, by name."""
        found = {}
        for subvolume in self.host.subvolumes:
            place, _, name = subvolume.path.rpartition("/")
            if place == STORE and not name.startswith(_NO_SNAPSHOT):
                found[name] = subvolume
        return found

    def newest_first(self) -> Iterator[Snapshot]:
        """Give what `subvolumes` has by falling ID, each with its record, read when it is its turn.

        For who needs the last few of perhaps thousands. A replaced root comes where its ID puts it.
        """
        for subvolume in sorted(self.subvolumes().values(), key=lambda s: s.id, reverse=True):
            yield self.snapshot_of(subvolume)

    def lost(self) -> set[str]:
        """Return the names of the records that have no subvolume in the store."""
        present = self.subvolumes()
        return {name for name in _recorded(self._entries()) if name not in present}

    def snapshot_of(self, subvolume: Subvolume) -> Snapshot:
        """Return the snapshot that a subvolume in the store is, with its record."""
        name = subvolume.path[len(STORE) + 1 :]
        has_record = os.path.lexists(f"/proc/self/fd/{self.directory}/{name}{_RECORD_SUFFIX}")
        return self._snapshot(name, subvolume, has_record=has_record)

    def _snapshot(self, name: str, subvolume: Subvolume | None, *, has_record: bool) -> Snapshot:
        if not has_record:
            return Snapshot(name, subvolume, None, "no record")
        try:
            record = self._read_record(name)
        except records.RecordError as error:  # it is incomplete: never pruned silently
            return Snapshot(name, subvolume, None, f"broken record: {error}")
        if subvolume is None and _is_of_top_level(record):
            top = (s for s in self.host.subvolumes if s.id == TOP_LEVEL_ID)
            return Snapshot(name, next(top), record)
        if subvolume is not None and record.uuid not in ("", subvolume.uuid):
            return Snapshot(name, subvolume, None, "its record belongs to another subvolume")
        return Snapshot(name, subvolume, record)

    def _read_record(self, name: str) -> Record:
        """Read a record, and none again that was not replaced: there may be thousands."""
        try:
            status = os.stat(name + _RECORD_SUFFIX, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return self._parse(name)  # which says what is wrong
        state = status.st_ino, status.st_mtime_ns, status.st_size
        known, record = self._parsed.get(name, (None, None))
        if record is None or known != state:
            record = self._parse(name)
            self._parsed[name] = state, record
        return record

    def _parse(self, name: str) -> Record:
        try:
            text = files.read_entry(self.directory, name + _RECORD_SUFFIX)
        except UnicodeError as error:
            raise records.RecordError(str(error)) from error
        if text is None:
            raise records.RecordError("not a file")
        record = records.parse(text)
        if record.name != name:
            raise records.RecordError(f"it names {record.name!r}")
        return record

    def take(self, record: Record, source: str) -> Record:
        """Take the read-only snapshot that `record` describes of the subvolume at path `source`.

        The record comes first and is made durable by the commit that the snapshot ends with:
        there is never a snapshot on disk without its record. The returned record has the UUID.
        """
        name = record.name + _RECORD_SUFFIX
        writing.write_for_next_commit(self.directory, name, records.dump(record))
        path = self.host.path(f"{STORE}/{record.name}")
        try:
            btrfs.create_snapshot(source, path, read_only=True)
        except KernelError:
            writing.remove_durably(self.directory, name)
            raise
        made = btrfs.subvolume(path, f"{STORE}/{record.name}")
        self.host.add(made)
        return record._replace(uuid=made.uuid)

    def write(self, record: Record, *, durable: bool = True) -> None:
        """Write a record; it is whole, old or new, at any time.

        If not `durable` it may take until the filesystem's next commit: right for what the next
        run would find out again. Raises StoreError if a newer version of this program wrote it.
        """
        if not record.writable:
            raise StoreError(
                f"the record of {record.name} has version {record.version}, but this program"
                f" supports only version {records.VERSION}",
                hint="Update fs-rollback to change it; you can still roll back to the snapshot.",
            )
        write = writing.write_text if durable else writing.write_for_next_commit
        write(self.directory, record.name + _RECORD_SUFFIX, records.dump(record))

    def delete(self, snapshot: Snapshot) -> None:
        """Delete a snapshot and its record, or what the record of a replaced top level stands for.

        The subvolume's name changes before its record goes, so that what a killed process leaves is
        known as a leftover and never taken for a whole root.
        """
        doomed = _DELETED_PREFIX + snapshot.name
        try:
            if snapshot.is_top_level:
                self._doom_record(snapshot.name)
            else:
                if snapshot.exists:
                    self._rename(snapshot.name, doomed)
                self._forget_record(snapshot.name)
        except OSError as error:  # a full filesystem gets another way
            if error.errno != errno.ENOSPC or snapshot.is_top_level:
                raise KernelError("delete", snapshot.name, error) from error
            self._delete_in_place(snapshot.name)
        else:
            is_alone = snapshot.id not in self.host.holders
            try:
                self._finish_deletion(doomed, top_level=snapshot.is_top_level)
            except KernelError as error:
                raise undeletable.kept(self, snapshot, doomed, error, is_alone=is_alone) from error

    def _delete_in_place(self, name: str) -> None:
        """Delete where a full filesystem has no room for another name: what makes room must work.

        The record goes first: what a killed process leaves is incomplete.
        """
        writing.remove_durably(self.directory, name + _RECORD_SUFFIX)
        for place in (name, _DELETED_PREFIX + name):
            path = self.host.path(f"{STORE}/{place}")
            if btrfs.is_subvolume(path):
                btrfs.delete_subvolume(path, recursive=True)
        self.host.forget()

    def _doom_record(self, name: str) -> None:
        with suppress(FileNotFoundError):  # an incomplete one has none
            self._rename(name + _RECORD_SUFFIX, _DELETED_PREFIX + name + _RECORD_SUFFIX)

    def _rename(self, old: str, new: str) -> None:
        os.rename(old, new, src_dir_fd=self.directory, dst_dir_fd=self.directory)

    def _finish_deletion(self, name: str, *, top_level: bool) -> None:
        path = self.host.path(f"{STORE}/{name}")
        if btrfs.is_subvolume(path):
            btrfs.delete_subvolume(path, recursive=True)
        if top_level:
            from .top_level import reclaim_top_level

            reclaim_top_level(self.host)
        with kernel_errors("delete", name):
            self._forget_record(name)

    def _forget_record(self, name: str) -> None:
        """Remove the record of what is deleted, durable with the next commit, as all of it is."""
        # An incomplete one has none; what somebody put there is not ours.
        with suppress(FileNotFoundError, IsADirectoryError):
            os.unlink(name + _RECORD_SUFFIX, dir_fd=self.directory)

    def deletions(self) -> list[Event]:
        """Return what is noted of snapshots that were deleted, the newest last.

        Of what is there still only the deletion was meant: it was cut off, or failed. Raises
        KernelError.
        """
        from . import trace

        present = self.subvolumes()

        def is_there(event: Event) -> bool:
            found = present.get(event.snapshot)
            if found is None or not event.snapshot_uuid:
                return event.snapshot in self
            return found.uuid == event.snapshot_uuid  # else a later one has its name

        return [event for event in trace.kept(self.directory) if not is_there(event)]

    def tidy(self) -> list[KernelError]:
        """Remove what killed processes left: half deleted snapshots, unfinished files.

        Returns why some of it could not be removed: a leftover is in nobody's way, so that stops
        nothing. Needs the lock.
        """
        problems: list[KernelError] = []
        entries = self._entries()
        doomed = {
            name[: -len(_RECORD_SUFFIX)] if _is_record(name) else name
            for name in filter(re.compile(_OUR_DELETED).fullmatch, entries)
        }
        for name in sorted(doomed):
            try:
                with kernel_errors("delete", name):
                    self._tidy_deletion(name, entries)
            except KernelError as error:  # said by who called this
                problems.append(error)
        temporary = set(filter(re.compile(_OUR_TEMPORARY).fullmatch, entries))
        for name in temporary | {name + _RECORD_SUFFIX for name in self._never_taken(entries)}:
            try:
                writing.remove_durably(self.directory, name)
            except KernelError as error:  # as above
                problems.append(error)
        if doomed:
            self.host.forget()
        return problems

    def _tidy_deletion(self, name: str, entries: set[str]) -> None:
        """Finish a deletion that was cut off."""
        top_level = self._stands_for_top_level(name)
        if top_level and TOP_LEVEL_ID in (self.host.root_id, self.host.default_id):
            return  # somebody went back to it by hand: nothing may take it away now
        original = name[len(_DELETED_PREFIX) :]
        if original not in entries:
            self._doom_record(original)
        self._finish_deletion(name, top_level=top_level)
        from . import trace

        reason = "its deletion was interrupted, and is now finished"
        trace.tell(self.host, trace.Event("deleted", original, reason=reason))

    def _never_taken(self, entries: set[str]) -> set[str]:
        """Return the names of the records whose snapshots a crash kept from being."""
        names = _recorded(entries) - entries
        alone = (self._snapshot(name, None, has_record=True) for name in names)
        return {s.name for s in alone if s.gone and s.record and not s.record.uuid}

    def _stands_for_top_level(self, name: str) -> bool:
        text = files.read_in_tree(self.directory, name + _RECORD_SUFFIX)
        if text is None:
            return False
        try:
            record = records.parse(text)
        except records.RecordError:  # then what lies at the top level stays: nothing is lost
            return False
        return _is_of_top_level(record)


# What begins like this is no snapshot: a leftover, a new root, a writable copy.
_NO_SNAPSHOT = (_DELETED_PREFIX, *COPY_PREFIXES)
# Only what has a name of our own shape is a leftover of ours.
_OUR_NAME = rf"(?:{SNAPSHOT_PREFIX}|{REPLACED_PREFIX})\d{{14}}"
_OUR_DELETED = rf"{_DELETED_PREFIX}{_OUR_NAME}(?:\.json)?"
_OUR_TEMPORARY = rf"(?:(?:[a-z]+_\d{{14}}|pending)\.json|log\.jsonl){re.escape(writing.TEMPORARY)}"


def _is_record(name: str) -> bool:
    return name.endswith(_RECORD_SUFFIX) and name != PENDING


def _is_of_top_level(record: Record) -> bool:
    """Whether a record stands for a replaced root that could not be moved."""
    return record.kind is records.Kind.REPLACED and record.source.id == TOP_LEVEL_ID


def _recorded(entries: set[str]) -> set[str]:
    """Return the names of snapshots that have a record among the entries of the store."""
    return {
        name[: -len(_RECORD_SUFFIX)]
        for name in entries
        if _is_record(name) and not name.startswith(_NO_SNAPSHOT)
    }


def is_journal_in(top: int) -> bool:
    """Whether an open top level has the journal of a rollback: most have none, and none is read."""
    return files.status_of(top, f"{STORE}/{PENDING}", follow=False) is not None


@contextmanager
def opened(host: Host, *, create: bool = False) -> Iterator[Store | None]:
    """Open the store; None where there is none yet and `create` is false. Raises StoreError."""
    path = host.path(STORE)
    try:
        if create and not os.path.lexists(path):
            os.mkdir(path, 0o700)
        status = os.lstat(path)
    except FileNotFoundError:  # nothing was ever taken
        yield None
        return
    except OSError as error:
        raise KernelError("make the snapshot store", f"/{STORE}", error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise StoreError(
            f"/{STORE} at the top level is not a directory",
            hint="Move it away: the snapshot store needs that name.",
        )
    with files.opened(path) as directory:
        if create and (status.st_mode & 0o077 or status.st_uid or status.st_gid):
            # Old, vulnerable setuid files in snapshots stay out of reach of everyone but root.
            os.fchown(directory, 0, 0)
            os.fchmod(directory, 0o700)
        yield Store(host, directory)
