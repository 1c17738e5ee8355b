# SPDX-License-Identifier: GPL-2.0-or-later
"""Deletes the oldest snapshots, one after the other, while less than `min_free` is free.

How much one of them gives back shows only after btrfs has freed it, in the background: so before
the next one goes, this waits for that, and gives up rather than delete one too many.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Callable, NamedTuple

from ...core.progress import Progress, untold
from ...core.snapshots.retention import Action, Policy, Verdict, next_for_room
from ...core.snapshots.snapshot import Snapshot
from ...core.snapshots.space import size
from ...errors import Error, LockedError
from ..linux import btrfs
from ..machine import usable
from ..machine.host import Host
from ..store.store import Store
from . import take_and_delete

# The kernel looks every 30 seconds (BTRFS_DEFAULT_COMMIT_INTERVAL) after what was held open and is
# not any more: if nothing is freed in a longer time somebody uses it.
_PATIENCE_S = 75.0
_LOOK_S = 0.02

Opened = Callable[[], AbstractContextManager["tuple[Host, Store]"]]


class Result(NamedTuple):
    """What was to go and why, what of it could not, and why too little is free now, if it is."""

    tried: tuple[Verdict, ...] = ()
    failures: tuple[tuple[Snapshot, Error], ...] = ()
    problem: str = ""


def shortage(host: Host, policy: Policy) -> str:
    """Return a sentence if less than `min_free` is free, "" if not. Raises KernelError."""
    if not (lacking := missing(host, policy)):
        return ""
    free = btrfs.data_space(host.path("")).free
    return f"{size(free)} free, {size(free + lacking)} wanted (min_free = {policy.min_free})"


def missing(host: Host, policy: Policy) -> int:
    """Return how many bytes less than `min_free` are free. Raises KernelError."""
    if not policy.min_free.number:
        return 0
    found = btrfs.data_space(host.path(""))
    return max(policy.min_free.of(found.size) - found.free, 0)


def out_of_reach(host: Host, policy: Policy) -> str:
    """Return a sentence if `min_free` is more than the whole filesystem, "" if not.

    Then nothing is deleted for it: otherwise everything would be, in vain. Raises KernelError.
    """
    if not policy.min_free.number:
        return ""
    total = btrfs.data_space(host.path("")).size
    if policy.min_free.of(total) < total:
        return ""
    return f"the filesystem has {size(total)} in all, so nothing is deleted for that"


def reach(
    host: Host,
    opened: Opened,
    policy: Policy,
    *,
    limit_s: float | None = None,
    progress: take_and_delete.Deleting = lambda *_: None,
    waiting: Progress = untold,
) -> Result:
    """Delete the oldest snapshots that may go until `min_free` is free.

    `opened` gives the machine and its store with the lock, which is not held while btrfs is waited
    for, unless the caller has it. After `limit_s` no second one is deleted; where that is None this
    ends when btrfs frees nothing any more. Raises Error where the machine cannot be read.
    """
    end = None if limit_s is None else time.monotonic() + limit_s
    tried: list[Verdict] = []
    failures: dict[str, tuple[Snapshot, Error]] = {}
    problem = out_of_reach(host, policy)
    while not problem and shortage(host, policy):
        is_late = end is not None and bool(tried) and time.monotonic() >= end
        if is_late or not freed(host.path(""), end, waiting):
            problem = "btrfs has not yet freed the deleted snapshots; try again later"
        elif short := shortage(host, policy):
            try:
                with opened() as (machine, store):
                    verdict = _next(machine, store, policy, short, failures)
                    doomed = () if verdict is None else (verdict,)
                    failed = take_and_delete.prune(machine, store, doomed, progress)
            except LockedError as error:  # said, with what was done before
                problem = str(error)
                continue
            failures.update((snapshot.name, (snapshot, error)) for snapshot, error in failed)
            tried += doomed
            problem = "" if doomed else "no other snapshot may be deleted"
    short = shortage(host, policy)
    text = f"{short}: {problem}" if problem and short else ""
    return Result(tuple(tried), tuple(failures.values()), text)


def _next(
    host: Host, store: Store, policy: Policy, short: str, failed: dict[str, tuple[Snapshot, Error]]
) -> Verdict | None:
    host.forget()
    passed = set(failed)
    verdicts = take_and_delete.judge(host, store, policy, datetime.now().astimezone())
    while (snapshot := next_for_room(verdicts, passed)) is not None:
        if not usable.of_stranger(host, snapshot):
            return Verdict(snapshot, Action.DELETE, f"the oldest that can be deleted; {short}")
        passed.add(snapshot.name)
    return None


def freed(top: str, end: float | None, waiting: Progress = untold) -> bool:
    """Wait until btrfs has freed everything that was deleted; False if it has not in time.

    `waiting` is called with the number of subvolumes that it has freed.
    """
    # Whoever has no time does not write either what others have not asked to be written.
    btrfs.commit(top, flush=end is None)
    left = btrfs.being_freed(top)
    total = len(left)
    until = time.monotonic() + _PATIENCE_S if end is None else end
    while left:
        if time.monotonic() >= until:
            return False
        waiting(max(total - len(left), 0), total)
        time.sleep(_LOOK_S)
        before, left = left, btrfs.being_freed(top)
        if end is None and len(left) < len(before):
            until = time.monotonic() + _PATIENCE_S
    btrfs.commit(top, flush=end is None)
    return True
