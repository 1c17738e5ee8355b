# SPDX-License-Identifier: GPL-2.0-or-later
"""A writable copy of a snapshot that exists as long as the process that made it.

The process holds a lock on the copy. Every command that has the store's lock deletes the copies on
which nobody holds a lock, so a killed process leaves nothing for long. A record beside each copy
identifies it by UUID. The record is written before the copy is made: until it has the UUID, a copy
of the same snapshot that was made there since is ours.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple, Optional

from ...core.snapshots.names import SHELL_PREFIX, free_name
from ...core.snapshots.snapshot import STORE, Snapshot, Subvolume
from ...errors import KernelError, kernel_errors
from ..execute.trees import Operations
from ..linux import btrfs, durable, files, namespaces, syscalls
from ..machine.host import Host
from ..root import offline, stand_ins
from ..store.store import Store

_RECORD = re.compile(rf"({SHELL_PREFIX}\d{{14}})\.json")


class _Record(NamedTuple):
    """The record of a copy: the UUID of its snapshot, a generation before it, and its own UUID.

    `uuid` is "" until the copy exists.
    """

    source: str
    generation: int
    uuid: str = ""
    version: int = 1

    def is_of(self, subvolume: Subvolume) -> bool:
        """Whether a subvolume that has the copy's name is the copy."""
        if self.uuid:
            return subvolume.uuid == self.uuid
        return subvolume.parent_uuid == self.source and subvolume.born >= self.generation


def make(host: Host, store: Store, snapshot: Snapshot, now: datetime) -> str:
    """Make a copy of a snapshot and return its name. Needs the lock until it is `mounted`.

    In place of each nested subvolume it has an empty writable directory.
    """
    name = free_name(SHELL_PREFIX, now, store)
    operations, path = Operations(host), f"{STORE}/{name}"
    with files.opened(host.path(snapshot.path)) as tree:
        stubs = stand_ins.recorded(snapshot, tree)
    assert snapshot.subvolume is not None, "it has been looked for"
    with kernel_errors("read the generation of", host.mount.source):
        record = _Record(snapshot.subvolume.uuid, syscalls.filesystem_generation(host.top_fd))
    # The commit that the copy ends with makes it durable, as with a snapshot's own.
    _write(store, name, record)
    operations.snapshot(snapshot.path, path, read_only=False)
    _write(store, name, record._replace(uuid=btrfs.subvolume_uuid(host.path(path))))
    operations.end_unfinished(path)
    for stub in stubs:
        operations.make_directory(host.root_subvolume.path, path, stub)
    host.forget()
    return name


def _write(store: Store, name: str, record: _Record) -> None:
    text = json.dumps(record._asdict())
    durable.write_for_next_commit(store.directory, f"{name}.json", text)


def _read(store: Store, file: str) -> Optional[_Record]:
    """Return what is written of a copy; None where a newer version, or nobody, has written it."""
    text = files.read_in_tree(store.directory, file)
    try:
        record = _Record(**json.loads(text or ""))
    except (ValueError, TypeError):  # as promised
        return None
    return record if record.version == _Record._field_defaults["version"] else None


def tidy(host: Host, store: Store) -> list[KernelError]:
    """Delete the copies that no process uses; return why some of them cannot be deleted.

    Needs the lock. A subvolume with such a name that its record does not identify is not touched.
    """
    failures = []
    with kernel_errors("list", f"/{STORE}"):
        # Opened anew: see Store.load.
        found = sorted(os.listdir(f"/proc/self/fd/{store.directory}"))
    for file in found:
        match = _RECORD.fullmatch(file)
        record = _read(store, file) if match else None
        if match is None or record is None:
            continue
        copy = host.by_path(f"{STORE}/{match.group(1)}")
        try:
            if copy is None or not record.is_of(copy) or _delete_unused(host, copy.path):
                durable.remove(store.directory, file)
        except KernelError as error:  # the others go all the same
            failures.append(error)
    return failures


def _delete_unused(host: Host, copy: str) -> bool:
    """Delete a copy that no process has a lock on; whether it has gone. Raises KernelError."""
    path = host.path(copy)
    with files.opened(path) as opened:
        is_used = not syscalls.try_lock(opened)
    if is_used:
        return False
    try:
        btrfs.delete_subvolume(path, recursive=True)
    except KernelError as error:
        raise KernelError("delete", f"/{copy}", OSError(error.errno, "")) from error
    host.forget()
    return True


@contextmanager
def mounted(host: Host, name: str) -> Iterator[str]:
    """Lock a copy, mount it for this process and its children only, and yield the directory.

    The process keeps its mount namespace, without that mount. Enter it with the store's lock.
    """
    offline.take_own_mounts()
    number = btrfs.subvolume_id(host.path(f"{STORE}/{name}"))
    with offline.own_directory() as directory:
        with kernel_errors("mount", name), files.opened(directory) as place:
            syscalls.mount_subvolume(host.mount.source, number, place, read_only=False)
        try:
            with files.opened(directory) as copy:
                # Nobody else has it: what is made with the store's lock is locked with it, too.
                syscalls.try_lock(copy)
                try:
                    yield directory
                finally:  # for children too that are just being killed, and have it open still
                    syscalls.unlock(copy)
        finally:
            with kernel_errors("unmount", directory):
                namespaces.detach(directory)
