# SPDX-License-Identifier: GPL-2.0-or-later
"""Which snapshot `rollback` goes back to, and what to say of that choice."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ...core.snapshots.names import label, resolve
from ...core.snapshots.snapshot import Snapshot, origin
from ...errors import RefusedError, UsageError
from ...system.machine.host import Host
from ...system.packages import interrupted


class Wish(NamedTuple):
    """What is to become the root; `notes` are shown before anything else."""

    verb: str
    target: Snapshot
    notes: tuple[str, ...] = ()


def wished(args: Namespace, host: Host, snapshots: Sequence[Snapshot]) -> Wish:
    """Return what the command line asks for; `snapshots` are in the order of age, oldest first.

    Raises UsageError where there is no such snapshot, and RefusedError where a script would have
    to choose.
    """
    # An empty one is a script's mistake, and not the same as none.
    reference = (args.trial or None) if args.snapshot is None else args.snapshot
    usual = interrupted.default_target(host, snapshots)
    if reference is not None:
        target = resolve(reference, snapshots)
        return Wish("Roll back", target, tuple(_notes(reference, host, snapshots, target, usual)))
    if usual is None:
        raise UsageError(
            "there is no snapshot from before a transaction",
            hint="'fs-rollback list' shows all snapshots; name one of them.",
        )
    older = _older(host, snapshots, usual) if _runs_copy_of(host, usual) else None
    if older is None:
        return Wish("Roll back", usual, tuple(_notes("", host, snapshots, usual, usual)))
    already = f"this machine already runs a copy of {label(usual)}"
    if args.yes and not args.dry_run:
        raise RefusedError(
            f"{already}, the newest snapshot from before a transaction",
            hint=f"To go back to {label(older)}, the next older one: fs-rollback rollback --yes"
            f" {older.id}; to {usual.id} again: fs-rollback rollback --yes {usual.id}",
        )
    note = (
        f"{already[0].upper()}{already[1:]}, so this goes back to the next older snapshot. To go"
        f" back to {usual.id} again: fs-rollback rollback {usual.id}"
    )
    return Wish("Roll back", older, (note,))


def _notes(
    reference: str,
    host: Host,
    snapshots: Sequence[Snapshot],
    target: Snapshot,
    usual: Optional[Snapshot],
) -> Iterator[str]:
    if _runs_copy_of(host, target):
        older = _older(host, snapshots, target)
        other = f" The next older snapshot is {label(older)}." if older else ""
        yield (
            f"This machine already runs a copy of {label(target)}: only changes made since then"
            f" revert.{other}"
        )
    if reference == "latest" and usual is not None and usual != target:
        yield (
            f"'latest' is {label(target)}, the newest snapshot of any kind; the newest from before"
            f" a transaction is {label(usual)}."
        )
    if not reference:
        taken = [s for s in snapshots if s.exists and not (s.is_replaced or s.of_trial)]
        if taken and taken[-1] != target:
            yield (
                f"There is a newer snapshot, but not from before a transaction: {label(taken[-1])}."
            )


def _runs_copy_of(host: Host, snapshot: Snapshot) -> bool:
    copied = origin(host.root_subvolume, host.subvolumes)
    return copied is not None and copied == snapshot.subvolume


def _older(host: Host, snapshots: Sequence[Snapshot], than: Snapshot) -> Optional[Snapshot]:
    """Return the newest from before a transaction that is older than another snapshot."""
    before = snapshots[: snapshots.index(than)]
    return interrupted.newest_pre(host, before)


def same_again(shown: Wish, snapshots: Sequence[Snapshot]) -> Wish:
    """Return what was `shown`, its snapshot known by its UUID. Raises RefusedError without it."""
    was = shown.target.subvolume
    for snapshot in snapshots:
        subvolume = snapshot.subvolume
        if subvolume and was and (subvolume.id, subvolume.uuid) == (was.id, was.uuid):
            return shown._replace(target=snapshot)
    raise RefusedError(
        f"{label(shown.target)} was deleted",
        hint="'fs-rollback list' shows what is left to go back to.",
    )
