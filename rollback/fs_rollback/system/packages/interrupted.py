# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds a transaction that was interrupted, so that the system is only half updated.

dnf leaves it like this after Ctrl-C (dnf 5), a kill or a power cut; nothing else reports it later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ...core.snapshots.record import Kind, Outcome, Record
from ...core.snapshots.snapshot import Snapshot
from ..machine.host import Host
from . import dnf_history


def find(host: Host, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """Return the snapshot from before the transaction that left the root half done.

    `snapshots` is in the order of age, oldest first, with the ends of transactions that
    settle_records.py knows. Of several that were cut off, one after the other, it is the first: the
    others began in what that had left. What failed since, or was cut off before rpm began (a
    transaction without a number), has mended nothing; one that was done has the last word.
    """
    found = None
    for snapshot in reversed(snapshots):
        if not _is_before_ours(host, snapshot):
            continue
        end = snapshot.record.transaction if snapshot.record else None
        if end is None or end.outcome is Outcome.DONE:
            break
        if end.outcome is Outcome.INTERRUPTED and end.history_id is not None:
            found = snapshot
    return found if found is not None and not _was_followed(host, found) else None


def is_in_doubt(host: Host, newest_first: Iterable[Snapshot]) -> bool:
    """Whether a transaction since the last one of this root that was done has no good end.

    Reads no more snapshots than it takes to tell.
    """
    for snapshot in newest_first:
        end = snapshot.record.transaction if snapshot.record else None
        if end is None:
            continue
        if end.outcome in (Outcome.PENDING, Outcome.INTERRUPTED):
            return True
        if end.outcome is Outcome.DONE and _is_before_ours(host, snapshot):
            return False
    return False


def _is_before_ours(host: Host, snapshot: Snapshot) -> bool:
    is_pre = snapshot.exists and snapshot.kind is Kind.PRE and not snapshot.of_trial
    return is_pre and snapshot.record is not None and is_of_root(host, snapshot.record)


def _was_followed(host: Host, snapshot: Snapshot) -> bool:
    """Whether the history has a later transaction that was done: its snapshot may be deleted."""
    end = snapshot.record.transaction if snapshot.record else None
    rows = dnf_history.rows(host, end.tool, end.history_id or 0) if end else None
    return any(row.outcome is Outcome.DONE for row in rows or ())


def sentence(snapshot: Snapshot, reference: str = "") -> str:
    """Return what to say of a snapshot that `find` found.

    `reference` names it to the command `rollback` where that would not choose it by itself.
    """
    end = snapshot.record.transaction if snapshot.record else None
    count = sum(change.action != "reason" for change in end.packages) if end else 0
    what = {0: "a transaction", 1: "1 package"}.get(count, f"{count} packages")
    who = "PackageKit" if end and end.tool == "packagekit" else "dnf"
    command = f"fs-rollback rollback {reference}".rstrip()
    return (
        f"{who} was interrupted in the middle of {what}; '{command}' returns to the state before it"
    )


def default_target(host: Host, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """Return the default target of `rollback`: the newest snapshot from before a transaction.

    None that was taken in a trial, or of another system on this filesystem. Where a transaction of
    this root was cut off it is what `find` says.
    """
    newest = newest_pre(host, snapshots)
    if newest is None or newest.record is None or not is_of_root(host, newest.record):
        return newest
    return find(host, snapshots) or newest


def newest_pre(host: Host, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """Return the last one from before a transaction, of this system and not taken in a trial."""
    pre = (s for s in reversed(snapshots) if s.exists and s.kind is Kind.PRE and not s.of_trial)
    return next((s for s in pre if not host.is_stranger_at(s.path)), None)


def is_of_root(host: Host, record: Record) -> bool:
    """Whether a snapshot was taken of the root that is worked on: not of one before a rollback.

    What an undo has made is a copy of the root that it went back to, and goes on with that.
    """
    root, source = host.root_subvolume, record.source
    # The ID as well: a top level that older tools have made has no UUID.
    is_itself = source.id == root.id and source.uuid == root.uuid
    return is_itself or (bool(source.uuid.strip("0")) and source.uuid == root.parent_uuid)
