# SPDX-License-Identifier: GPL-2.0-or-later
"""Advice for a full filesystem: which one it is, and which command makes room on it."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Callable

from ...core.formats import mountinfo
from ...core.snapshots.names import label
from ...core.snapshots.retention import Action, Policy, Verdict
from ...core.snapshots.snapshot import Snapshot
from ...core.snapshots.space import size
from ...core.space.headroom import Shortage
from ...core.space.held import Held
from ...errors import Error, KernelError, ProcessError
from ..machine import usable
from ..machine.host import Host
from ..root import roots_in_use, trial
from ..space import room
from ..store.store import Store
from . import min_free, take_and_delete

_BALANCED = 4  # block groups of data, of 1 GiB at most on one device
_LOOK_S = 1.0  # who has a full disk should not wait for advice
_WAIT_S = 30.0  # for what was deleted to come free: else the transaction does not run


@contextmanager
def advising(host: Host, store: Store, policy: Callable[[], Policy]) -> Iterator[None]:
    """Give errors about a full filesystem in the block a hint that fits this machine."""
    try:
        yield
    except (KernelError, ProcessError) as error:
        if _is_full(error):
            # What is full may be what keeps this from being found out.
            with suppress(Error, OSError):
                error.hint = _hint(host, store, policy(), error)
        raise


def _is_full(error: Error) -> bool:
    if isinstance(error, KernelError):
        return error.errno == errno.ENOSPC
    return str(error).endswith(os.strerror(errno.ENOSPC))  # cp(1)


def _hint(host: Host, store: Store, policy: Policy, error: Error) -> str:
    if isinstance(error, KernelError) and error.directory and error.filesystem != host.uuid:
        return beside_root(host, error.directory)
    host.forget()
    short = room.nearly_full(host)
    return for_shortage(host, store, policy, short) if short else on_root(host, store, policy)


def beside_root(host: Host, directory: str) -> str:
    """Return how to make room for the boot loader's files outside the root's btrfs."""
    mount = mountinfo.containing(host.mounts, directory)
    point = mount.point if mount else directory
    return (
        f"The filesystem on {point} is full, and deleting snapshots makes no room there. Remove a"
        f" kernel that you do not need ('rpm -q kernel-core' lists them); 'du -a {point}' shows"
        " what uses the space."
    )


def on_root(host: Host, store: Store | None, policy: Policy, wanted: int = 0) -> str:
    """Return which command makes room on the filesystem of the root. Raises KernelError.

    `wanted` is how many bytes of data are missing; 0 stands for as many as make it nearly full.
    """
    then = f"'btrfs filesystem usage {_place(host)} shows what is used."
    now = datetime.now().astimezone()
    verdicts = take_and_delete.judge(host, store, policy, now) if store is not None else ()
    held = _held(host, verdicts)
    doomed = [v.snapshot for v in verdicts if v.action is Action.DELETE and v.snapshot.exists]
    if doomed:
        many = "1 snapshot" if len(doomed) == 1 else f"{len(doomed)} snapshots"
        return f"'fs-rollback prune' makes room: it deletes {many}{_given(held, doomed)}. {then}"
    nothing = "'fs-rollback prune' would delete nothing now"
    free = [v.snapshot for v in _least_needed(verdicts) if _may_go(host, v)]
    if not free:
        return f"{nothing}, and no snapshot can be deleted: delete files. {then}"
    if not wanted:
        short = room.nearly_full(host)
        wanted = short.missing if short is not None else 0
    chosen, rest = _enough(held, free, wanted)
    numbers = " ".join(str(snapshot.id) for snapshot in chosen)
    given = _given(held, chosen)
    what = _described(chosen) + ("," if given and len(chosen) == 1 else "") + given
    return f"{nothing}. 'fs-rollback delete {numbers}' deletes {what}. {rest}{then}"


def _place(host: Host) -> str:
    return "DIR' on its mounted root" if host.is_temporary else f"{host.root}'"


def _held(host: Host, verdicts: Sequence[Verdict]) -> Held | None:
    """Return what the snapshots hold, None if that takes too long or cannot be known now."""
    from ..space import holders  # not in every transaction

    with suppress(KernelError):  # the advice says less
        return holders.held(host, [v.snapshot for v in verdicts], limit_s=_LOOK_S)
    return None


def _enough(
    held: Held | None, free: Sequence[Snapshot], wanted: int
) -> tuple[Sequence[Snapshot], str]:
    """Return the first ones that give back enough; where all do not, one, and what all would."""
    if held is None:
        return free[:1], ""
    names = [snapshot.name for snapshot in free]
    together = held.together(names)
    if together < wanted:
        if len(free) == 1:
            return free, "That is not enough: delete files too. "
        return free[:1], f"All that can be deleted would free {size(together)}. "
    return free[: len(held.enough(names, wanted))], ""


def _described(chosen: Sequence[Snapshot]) -> str:
    first = chosen[0]
    if len(chosen) > 1:
        what = "snapshots and old roots" if any(s.is_replaced for s in chosen) else "snapshots"
        return f"{len(chosen)} {what}"
    what = "the oldest replaced root" if first.is_replaced else "the oldest snapshot"
    return f"{what}, {label(first)}"


def _given(held: Held | None, doomed: Sequence[Snapshot]) -> str:
    """Return what deletion gives back, as the end of a sentence that says what is deleted."""
    if held is None:
        return ""
    return f" and frees {size(held.together([s.name for s in doomed]))}"


def _least_needed(verdicts: tuple[Verdict, ...]) -> list[Verdict]:
    """Return the verdicts in the order in which one can do without the snapshots."""
    present = [verdict for verdict in verdicts if verdict.snapshot.exists]
    ordinary = [verdict for verdict in present if not verdict.snapshot.is_replaced]
    replaced = [verdict for verdict in present if verdict.snapshot.is_replaced]
    return [*ordinary[:-1], *replaced, *ordinary[-1:]]


def _may_go(host: Host, verdict: Verdict) -> bool:
    snapshot = verdict.snapshot
    blocked = take_and_delete.obstacle(host, snapshot, roots_in_use.read(host))
    return not (blocked or snapshot.is_top_level or usable.of_stranger(host, snapshot))


def for_transaction(
    host: Host, store: Store, policy: Policy, coming: int | None, said: Callable[[str], object]
) -> Shortage | None:
    """Make room for packages of this installed size, by what retention deletes; needs the lock.

    `coming` is as for `shortage`; `said` is told that this deletes. Returns what is still missing.
    Raises KernelError.
    """
    short = room.missing(host, coming)
    if short is None or trial.runs_other_root(host):  # retention is for the own root to say
        return short
    now = datetime.now().astimezone()
    verdicts = take_and_delete.judge(host, store, policy, now)
    doomed = [v for v in verdicts if v.action is Action.DELETE and not v.snapshot.is_top_level]
    if not doomed:
        return short
    said(f"{short.sentence()}; deleting {len(doomed)} snapshots that are no longer kept")
    take_and_delete.prune(host, store, doomed)
    min_free.freed(host.path(""), time.monotonic() + _WAIT_S)
    return room.missing(host, coming)


def for_shortage(host: Host, store: Store | None, policy: Policy, short: Shortage) -> str:
    """Return the command that frees what is missing. Raises KernelError."""
    found = room.read(host)
    usage = found.balance_usage() if short.is_metadata else 0
    if not usage:
        return on_root(host, store, policy, 0 if short.is_metadata else short.missing)
    # Not all block groups that are so empty: on a large disk that takes hours.
    command = f"'btrfs balance start -dusage={usage},limit={_BALANCED} {_place(host)}"
    if found.can_balance():
        return f"{command} makes room for metadata from unused data space."
    return (
        f"{on_root(host, store, policy)} A balance itself needs some metadata space; once there is"
        f" some, {command} makes more from unused data space."
    )
