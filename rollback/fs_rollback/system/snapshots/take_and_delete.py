# SPDX-License-Identifier: GPL-2.0-or-later
"""Takes, deletes and prunes snapshots, and checks what may be deleted."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Callable

from ...core.formats.mountinfo import is_within_any
from ...core.packages import important
from ...core.snapshots.names import REPLACED_PREFIX, SNAPSHOT_PREFIX, free_name, label, trial_name
from ...core.snapshots.record import Kind, Record, Source, Transaction
from ...core.snapshots.retention import IS_MOUNTED, Action, Policy, Verdict, protection, retention
from ...core.snapshots.snapshot import STAGING, STORE, Roots, Snapshot
from ...errors import Error, KernelError, RefusedError
from ..linux import btrfs
from ..loader import places
from ..machine import kernels, usable
from ..machine.host import Host
from ..root import mounted, root_lines, roots_in_use, trial
from ..store.store import Store
from . import menu, saved_kernels

if TYPE_CHECKING:
    from ...core.snapshots.events import Event

# Told how many are deleted, of how many, and which is next.
Deleting = Callable[[int, int, Snapshot], None]
_WHEN = {Kind.PRE: "before the transaction", Kind.POST: "after the transaction"}


def take(
    host: Host,
    store: Store,
    kind: Kind,
    now: datetime,
    *,
    description: str = "",
    transaction: Transaction | None = None,
) -> Record:
    """Take a snapshot of the root, and save the kernels that it does not hold.

    `now` is aware. Needs the lock. Raises KernelError.

    The record on disk has no UUID yet: the caller writes what is returned when it suits.
    """
    source, own = btrfs.btrfsutil_info(host.root), (STORE, STAGING)
    record = Record(
        name=free_name(SNAPSHOT_PREFIX, now, store),
        kind=kind,
        created=now,
        uuid="",
        source=Source(btrfs.subvolume_path(host.root), source.id, source.uuid.hex()),
        description=description,
        kernels=kernels.with_modules(host.root_fd),
        boot_files=saved_kernels.save_outside(host, store),
        transaction=transaction,
        nested=tuple(p for p in btrfs.nested(host.root) if not is_within_any(p, own)),
        trial=trial.runs_other_root(host),
    )
    taken = store.take(record, host.root)
    from ..store import trace

    why = _WHEN.get(kind, description)
    with suppress(KernelError):  # it is taken, whether or not anybody is told
        number = btrfs.subvolume_id(host.path(f"{STORE}/{taken.name}"))
        trace.tell(host, trace.Event("taken", taken.name, number, taken.uuid, reason=why))
    return taken


def delete(
    host: Host, store: Store, snapshot: Snapshot, in_use: Roots, why: str = "requested"
) -> None:
    """Delete one snapshot, with what is nested in it. Needs the lock.

    `in_use` is what `roots_in_use.read` says; `why` goes into the trace. Raises RefusedError if the
    snapshot, or anything inside it, is in use or pinned.
    """
    from ..store import trace

    _clear_the_way(host, snapshot, in_use, places.entry_files(host.root_fd))
    event = _deletion(snapshot, why)
    is_kept = trace.keep(host, store.directory, [event])
    store.delete(snapshot)
    if not is_kept:  # there was no room for it before
        trace.keep(host, store.directory, [event])
    trace.tell(host, event)


def _deletion(snapshot: Snapshot, why: str) -> Event:
    from ...core.snapshots.events import Event

    uuid = snapshot.subvolume.uuid if snapshot.subvolume else ""
    return Event("deleted", snapshot.name, snapshot.id, uuid, reason=why)


def _clear_the_way(
    host: Host, snapshot: Snapshot, in_use: Roots, entry_files: Sequence[str]
) -> None:
    """Refuse what may not be deleted, and delete what stands on it; as `delete` says."""
    reason = obstacle(host, snapshot, in_use)
    if reason:
        hint = "Run 'fs-rollback unpin' first." if snapshot.pinned else ""
        if snapshot.id == in_use.way_back:
            hint = "Run 'fs-rollback guard off' first, or reboot into the guarded boot."
        if snapshot.id == in_use.waiting:
            hint = "Boot the machine into its new root first."
        raise RefusedError(f"{label(snapshot)} is not deleted: {reason}", hint=hint)
    _delete_trial(host, snapshot, in_use, entry_files)


def obstacle(host: Host, snapshot: Snapshot, in_use: Roots) -> str:
    """Return why a snapshot cannot be deleted now, "" if it can; `in_use` as for `delete`."""
    reason = protection(snapshot, in_use)
    if reason == IS_MOUNTED:
        return f"it is {_mounted_on(host, snapshot.id) or 'mounted'}"
    if not reason and snapshot.id in in_use.around:
        return "a subvolume in it, at a very long path, is mounted or the default"
    return reason or _in_use_inside(host, snapshot)


def _delete_trial(
    host: Host, snapshot: Snapshot, in_use: Roots, entry_files: Sequence[str]
) -> None:
    """Delete the writable copy of a snapshot, and its boot entry before that."""
    name = trial_name(snapshot.name)
    moment = name.partition("_")[2]
    has_copy = os.path.lexists(host.path(f"{STORE}/{name}"))
    if snapshot.is_replaced or not (has_copy or any(moment in path for path in entry_files)):
        return
    trial = host.by_path(f"{STORE}/{name}")
    used = {in_use.running, host.running_id, in_use.next, in_use.default, *in_use.mounted}
    if trial is not None and trial.id in used:
        raise RefusedError(
            f"{label(snapshot)} is not deleted: this machine runs a copy of it",
            hint="Reboot into the usual boot entry first.",
        )
    mounted.refuse_what_is_not_mounted(host)  # its entry may lie there
    problems = menu.remove(host, root_lines.read_layout(host), snapshot)
    if problems:
        raise Error(f"{label(snapshot)} is not deleted: {problems[0]}")


def _in_use_inside(host: Host, snapshot: Snapshot) -> str:
    """Return why something inside a snapshot keeps it from deletion, "" if nothing does."""
    if snapshot.subvolume is None or snapshot.is_top_level:
        return ""
    inside = []
    if snapshot.id in host.holders:
        inside = [s for s in host.subvolumes if s.path.startswith(snapshot.path + "/")]
    writable = {s.id for s in (snapshot.subvolume, *inside) if not s.read_only}
    swap = usable.active_swap(host, writable) if writable else ""
    if swap:
        return f"the swap file {swap} in it is active"
    if not inside:
        return ""
    by_name = root_lines.mounted_elsewhere(host)
    by_id = root_lines.mounted_by_id(host)
    for subvolume in inside:
        if subvolume.id in host.mounted_ids | {host.default_id}:
            where = _mounted_on(host, subvolume.id) or "in use"
            return f"the subvolume /{subvolume.path} in it is {where}"
        if subvolume.path in by_name or subvolume.id in by_id:
            return f"/etc/fstab mounts the subvolume /{subvolume.path} in it"
    return ""


def _mounted_on(host: Host, number: int) -> str:
    """Return in words where a subvolume is mounted, "" if no mount table has it."""
    ours = (m for m in host.mounts if m.device == host.mount.device)
    points = [m.point for m in ours if number and m.subvolume_id == number]
    return f"mounted on {' and '.join(points)}" if points else ""


def keeps_all(host: Host, store: Store, policy: Policy, now: datetime) -> bool:
    """Whether retention would surely delete nothing; False where only `judge` can tell.

    Told from the subvolumes, for each transaction: a record is read only of what is neither new
    enough nor taken of the own root, or of one that a rollback replaced.
    """
    present = sorted(store.subvolumes().items(), key=lambda item: item[1].id, reverse=True)
    own = {s.uuid for name, s in present if name.startswith(REPLACED_PREFIX)}
    own.add(host.root_subvolume.uuid)
    # A day less than what retention goes by, which believes the records: `created` is the kernel's.
    young = now - timedelta(days=policy.keep_days - 1)
    for rank, (name, subvolume) in enumerate(present, start=1):
        is_new = rank <= policy.keep_last or subvolume.created > young
        is_new = is_new and name.startswith(SNAPSHOT_PREFIX)
        if is_new and subvolume.parent_uuid in own:
            continue
        snapshot = store.snapshot_of(subvolume)
        if not (snapshot.pinned or (is_new and not snapshot.of_trial)):
            return False
    return not store.lost()


def judge(host: Host, store: Store, policy: Policy, now: datetime) -> tuple[Verdict, ...]:
    """Return retention's verdict on every snapshot; one of another system is not ours to delete."""

    def touched(snapshot: Snapshot) -> str:
        transaction = snapshot.record.transaction if snapshot.record else None
        packages = transaction.packages if transaction else ()
        found = important.important(packages, policy.important_packages)
        return found[0].name if found else ""

    verdicts = retention(store.load(), policy, roots_in_use.read(host), now, touched)
    return tuple(_spare_a_stranger(host, verdict) for verdict in verdicts)


def _spare_a_stranger(host: Host, verdict: Verdict) -> Verdict:
    snapshot = verdict.snapshot
    doomed = verdict.action is Action.DELETE and snapshot.exists
    if doomed and usable.of_stranger(host, snapshot):
        return Verdict(snapshot, Action.KEEP, "it belongs to another system on this filesystem")
    return verdict


def prune(
    host: Host,
    store: Store,
    verdicts: Sequence[Verdict],
    progress: Deleting = lambda *_: None,
) -> list[tuple[Snapshot, Error]]:
    """Delete what the verdicts say, and the saved kernels that nothing needs. Needs the lock.

    Returns the failures, after all were tried.
    """
    from ..store import trace

    failures: list[tuple[Snapshot, Error]] = []
    doomed = [_deletion(v.snapshot, v.reason) for v in verdicts if v.action is Action.DELETE]
    by_name = {verdict.snapshot.name: verdict.snapshot for verdict in verdicts}
    # Read and written once for all of them.
    in_use, entry_files = roots_in_use.read(host), places.entry_files(host.root_fd)
    is_kept = trace.keep(host, store.directory, doomed)
    done: list[Event] = []
    for number, event in enumerate(doomed):
        snapshot = by_name[event.snapshot]
        progress(number, len(doomed), snapshot)
        try:
            _clear_the_way(host, snapshot, in_use, entry_files)
            store.delete(snapshot)
            done.append(event)
            trace.tell(host, event)
        except Error as error:  # returned, and the others are tried
            failures.append((snapshot, error))
            trace.tell_error(host, error, snapshot.name)
    if not is_kept:  # there was no room for it before
        trace.keep(host, store.directory, done)
    host.forget()
    saved_kernels.collect(store, store.load())
    return failures
