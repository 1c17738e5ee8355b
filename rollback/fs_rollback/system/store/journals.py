# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal of a rollback: `pending.json` in the store, read and written."""

from __future__ import annotations

import os

from ...core.boot.layout import Kind
from ...core.rollback import journal as journal_file
from ...core.rollback.journal import Pending
from ...core.snapshots.snapshot import STORE, Subvolume
from ...errors import KernelError, StoreError, kernel_errors
from ..linux import durable, files
from ..machine.host import Host
from .store import PENDING, Store

STALE = PENDING + ".stale"
_MOST_BYTES = 1 << 30  # users may make thousands of subvolumes, and all are named in it


def read(store: Store) -> Pending | None:
    """Return the rollback that is under way or waits for its reboot. Raises StoreError."""
    text = files.read_in_tree(store.directory, PENDING, _MOST_BYTES)
    if text is None:
        return None
    try:
        return _with_known_root(store, journal_file.parse(text))
    except journal_file.PendingError as error:
        raise StoreError(
            f"the journal of a rollback cannot be read ({error})",
            hint="A newer fs-rollback may have written it: update fs-rollback. To view it: mount"
            f" -o subvolid=5 {store.host.mount.source} /mnt; less /mnt/fs-snapshots/{PENDING}. If"
            " it is damaged, move it away; 'fs-rollback check' then shows what the next boot"
            " uses.",
        ) from error


def glance(top: int) -> Pending | None:
    """Return the journal in the store of an open top level; None if there is none, or none to read.

    For what does not act on it: who does, says what is wrong with it.
    """
    text = files.read_in_tree(top, f"{STORE}/{PENDING}", _MOST_BYTES)
    try:
        return journal_file.parse(text) if text is not None else None
    except journal_file.PendingError:  # see above
        return None


def time(store: Store) -> float:
    """Return when the journal was written last, in seconds since 1970. Raises KernelError."""
    with kernel_errors("access", PENDING):
        return os.stat(PENDING, dir_fd=store.directory).st_mtime


def _with_known_root(store: Store, journal: Pending) -> Pending:
    """Return the journal with the UUID of its new root.

    A crash may have come before that was written, and older programs did not write it. Then it is
    what lies where the plan puts the new root and is a snapshot of the target.
    """
    if journal.new_uuid:
        return journal
    roots = journal.roots
    by_path = {subvolume.path: subvolume for subvolume in store.host.subvolumes}
    target = by_path.get(roots.target_path)
    for path in (roots.spare,) if roots.in_top_level else (roots.spare, roots.root):
        found = by_path.get(path)
        ours = found and target and found.parent_uuid == target.uuid
        if found is None or not ours or found.uuid == journal.old_uuid:
            continue
        if not journal.generation or found.born <= journal.generation:
            return journal._replace(plan=journal.plan.with_new_root(found.uuid))
    return journal


def next_root(host: Host, journal: Pending) -> Subvolume | None:
    """Return what lies where the commit of a rollback puts the new root."""
    if journal.roots.layout is Kind.NAMED:
        return host.by_path(journal.roots.root)
    return host.by_id(host.default_id)


def set_aside(store: Store) -> None:
    """Give the journal another name: nothing of it is to be done. Raises KernelError."""
    try:
        os.rename(PENDING, STALE, src_dir_fd=store.directory, dst_dir_fd=store.directory)
    except OSError as error:
        raise KernelError("set aside", PENDING, error) from error


def clear(store: Store) -> None:
    """Forget a rollback: the machine came up in its new root."""
    durable.remove_durably(store.directory, PENDING)


def write(store: Store, journal: Pending) -> None:
    """Write the journal durably. Raises KernelError."""
    durable.write_text(store.directory, PENDING, journal_file.dump(journal))
