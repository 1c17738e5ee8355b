# SPDX-License-Identifier: GPL-2.0-or-later
"""What to say where a filesystem is full: which one it is, and which command makes room on it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Callable

from ...core.formats import mountinfo
from ...core.snapshots.names import label
from ...core.snapshots.retention import Action, Policy, Verdict
from ...errors import Error, KernelError, ProcessError
from ..machine import usable
from ..machine.host import Host
from ..root import roots_in_use
from ..store.store import Store
from . import take_and_delete


@contextmanager
def advising(host: Host, store: Store, policy: Callable[[], Policy]) -> Iterator[None]:
    """Give an error of a full filesystem that is raised inside the hint that is true here."""
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
    return on_root(host, store, policy)


def beside_root(host: Host, directory: str) -> str:
    """Return what makes room for the boot loader's files where they are not on the root's btrfs."""
    mount = mountinfo.containing(host.mounts, directory)
    point = mount.point if mount else directory
    return (
        f"The filesystem on {point} is full, and deleting snapshots makes no room there. Remove a"
        f" kernel that is not needed ('rpm -q kernel-core' lists them); 'du -a {point}' shows what"
        " is there."
    )


def on_root(host: Host, store: Store | None, policy: Policy) -> str:
    """Return which command makes room on the filesystem of the root. Raises KernelError."""
    place = "DIR' on its mounted root" if host.is_temporary else f"{host.root}'"
    then = f"'btrfs filesystem usage {place} shows what is used."
    now = datetime.now().astimezone()
    verdicts = take_and_delete.judge(host, store, policy, now) if store is not None else ()
    doomed = [v for v in verdicts if v.action is Action.DELETE and v.snapshot.exists]
    if doomed:
        many = "1 snapshot" if len(doomed) == 1 else f"{len(doomed)} snapshots"
        return f"'fs-rollback prune' makes room: it deletes {many}. {then}"
    nothing = "'fs-rollback prune' would delete nothing now"
    free = next((v.snapshot for v in _least_needed(verdicts) if _may_go(host, v)), None)
    if free is None:
        return f"{nothing}, and no snapshot may be deleted: delete files. {then}"
    what = "the root that was replaced first" if free.is_replaced else "the oldest snapshot"
    return f"{nothing}. 'fs-rollback delete {free.id}' deletes {what}, {label(free)}. {then}"


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
