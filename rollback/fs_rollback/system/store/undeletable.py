# SPDX-License-Identifier: GPL-2.0-or-later
"""Puts back a snapshot that the kernel refuses to delete, and finds the reason."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import Protocol

from ...core.snapshots.names import label
from ...core.snapshots.record import Record
from ...core.snapshots.snapshot import STORE, Snapshot
from ...errors import Error, KernelError
from ..linux import btrfs, process
from ..machine.host import Host


class Store(Protocol):
    """What is used of store.Store, which uses this."""

    @property
    def host(self) -> Host:
        """The machine."""

    @property
    def directory(self) -> int:
        """The open directory of the store."""

    def write(self, record: Record, *, durable: bool = ...) -> None:
        """Write a record."""


def kept(
    store: Store, snapshot: Snapshot, place: str, error: KernelError, *, is_alone: bool
) -> KernelError:
    """Return the error of a deletion with its cause, and put the snapshot back if `is_alone`.

    Its subvolume has been moved to `place` in the store. Where others are nested in it some of them
    may be gone: then it stays there as a leftover, which the next run tries to delete.
    """
    path = store.host.path(f"{STORE}/{place}")
    found = KernelError("delete", label(snapshot), OSError(error.errno, ""))
    if error.errno == errno.EPERM:
        reader = _reader(path)
        found.message += f": {reader or 'a process'} is sending it (btrfs-send(8))"
        found.hint = "Wait until that has finished, then try again."
        if not reader:
            # btrfs_delete_subvolume() has two reasons, and tells only the kernel's log which.
            found.message += ", or an active swap file lies in it"
            found.hint = "'dmesg' shows which; 'swapon --show' names the file."
    if is_alone and snapshot.subvolume is not None:
        with suppress(Error, OSError):  # as above
            if snapshot.subvolume.read_only:  # its deletion may have tried it without that
                btrfs.set_read_only(path, read_only=True)
            os.rename(place, snapshot.name, src_dir_fd=store.directory, dst_dir_fd=store.directory)
            if snapshot.record is not None:
                store.write(snapshot.record, durable=False)
    store.host.forget()
    return found


def _reader(path: str) -> str:
    """Return in words which process has a subvolume open, "" if that cannot be found out."""
    with suppress(OSError):  # see above
        return process.has_open(path)
    return ""
