# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction that was cut off in the middle: the system is half one, half the other.

dnf leaves it so at Ctrl-C (dnf 5), at a kill and at a power cut; nothing else says it afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.record import Kind, Outcome, Record
from ..core.snapshot import Snapshot
from .host import Host


def find(host: Host, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """Return the snapshot from before the last transaction of the root, if that was cut off.

    `snapshots` is in the order of age, oldest first, with the ends of transactions that history.py
    knows. A transaction without a number was cut off before rpm began: nothing has changed.
    """
    ours = (s for s in reversed(snapshots) if s.exists and s.kind is Kind.PRE and not s.of_trial)
    newest = next((s for s in ours if s.record and is_of_root(host, s.record)), None)
    if newest is None or newest.record is None or newest.record.transaction is None:
        return None
    end = newest.record.transaction
    is_cut_off = end.outcome is Outcome.INTERRUPTED and end.history_id is not None
    return newest if is_cut_off else None


def sentence(snapshot: Snapshot, reference: str = "") -> str:
    """Return what to say of a snapshot that `find` found.

    `reference` names it to the command `rollback` where that would not choose it by itself.
    """
    end = snapshot.record.transaction if snapshot.record else None
    count = sum(change.action != "reason" for change in end.packages) if end else 0
    what = {0: "a transaction", 1: "1 package"}.get(count, f"{count} packages")
    who = "PackageKit" if end and end.tool == "packagekit" else "dnf"
    command = f"fs-rollback rollback {reference}".rstrip()
    return f"{who} was interrupted in the middle of {what}; '{command}' goes back to before it"


def newest_pre(host: Host, snapshots: Sequence[Snapshot]) -> Snapshot | None:
    """Return what `rollback` goes back to by itself: the newest from before a transaction.

    None that was taken in a trial, or of another system on this filesystem.
    """
    pre = (s for s in reversed(snapshots) if s.exists and s.kind is Kind.PRE and not s.of_trial)
    return next((s for s in pre if not host.is_stranger_at(s.path)), None)


def is_of_root(host: Host, record: Record) -> bool:
    """Whether a snapshot was taken of the root that is worked on: not of one before a rollback."""
    # The ID as well: a top level that older tools have made has no UUID.
    source = record.source
    return source.id == host.root_id and source.uuid == _root_uuid(host)


def _root_uuid(host: Host) -> str:
    return next((s.uuid for s in host.subvolumes if s.id == host.root_id), "")
