# SPDX-License-Identifier: GPL-2.0-or-later
"""A writable copy of a snapshot that lives as long as the process that made it.

That has a lock on the copy, and every command that has the store's lock deletes the copies on which
nobody has one: so nothing is left of a killed process for long.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from ...core.snapshots.names import SHELL_PREFIX, free_name
from ...core.snapshots.snapshot import OFFLINE_UPDATE, STORE, Snapshot
from ...errors import KernelError, kernel_errors
from ..execute.trees import Operations
from ..linux import btrfs, files, namespaces, syscalls
from ..machine.host import Host
from ..root import offline, stand_ins
from ..store.store import Store

_OURS = rf"{STORE}/{SHELL_PREFIX}\d{{14}}"


def make(host: Host, store: Store, snapshot: Snapshot, now: datetime) -> str:
    """Make a copy of a snapshot and return its name. Needs the lock until it is `mounted`.

    Where a subvolume was nested there is an empty directory that can be written to.
    """
    name = free_name(SHELL_PREFIX, now, store)
    operations, path = Operations(host), f"{STORE}/{name}"
    with files.opened(host.path(snapshot.path)) as tree:
        stubs = stand_ins.recorded(snapshot, tree)
    operations.snapshot(snapshot.path, path, read_only=False)
    for trigger in OFFLINE_UPDATE:
        operations.remove(path, trigger)
    for stub in stubs:
        operations.make_directory(host.root_subvolume.path, path, stub)
    host.forget()
    return name


def tidy(host: Host) -> list[KernelError]:
    """Delete the copies that no process uses any more; return why some of them stay.

    Needs the lock.
    """
    failures = []
    for subvolume in host.subvolumes:
        if not re.fullmatch(_OURS, subvolume.path):
            continue
        try:
            _delete_unused(host, subvolume.path)
        except KernelError as error:  # the others go all the same
            failures.append(error)
    return failures


def _delete_unused(host: Host, copy: str) -> None:
    path = host.path(copy)
    with files.opened(path) as opened:
        is_used = not syscalls.try_lock(opened)
    if not is_used:
        try:
            btrfs.delete_subvolume(path, recursive=True)
        except KernelError as error:
            raise KernelError("delete", f"/{copy}", OSError(error.errno, "")) from error
        host.forget()


@contextmanager
def mounted(host: Host, name: str) -> Iterator[str]:
    """Lock a copy, mount it for this process and its children alone, and give the directory.

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
