# SPDX-License-Identifier: GPL-2.0-or-later
"""The time between a rollback and the reboot into its new root."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..core.pending import Pending
from ..core.snapshot import Subvolume
from ..core.steps import Exchange
from ..errors import KernelError, RefusedError
from . import executor
from .host import Host
from .store import Store

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Waiting(enum.Enum):
    """What a rollback that is done waits for."""

    NOTHING = "nothing"
    REBOOT = "reboot"
    ELSEWHERE = "elsewhere"  # the machine was booted since, but not into the new root


class Window(NamedTuple):
    """The rollback that is not settled yet, if there is one, and the root that it made."""

    waiting: Waiting
    journal: Pending | None = None
    new_root: Subvolume | None = None


def boot_id() -> str:
    """Return the identity of this boot of the running kernel."""
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError as error:
        raise KernelError("read", _BOOT_ID, error) from error


def look(host: Host, store: Store | None) -> Window:
    """Read where the machine stands. Changes nothing. Raises StoreError on a broken journal."""
    journal = executor.read_journal(store) if store is not None else None
    if journal is None:
        return Window(Waiting.NOTHING)
    new_root = _new_root(host, journal)
    if new_root is not None and new_root.id == host.root_id:
        return Window(Waiting.NOTHING, journal, new_root)
    waiting = Waiting.REBOOT if journal.boot_id == boot_id() else Waiting.ELSEWHERE
    return Window(waiting, journal, new_root)


def _new_root(host: Host, journal: Pending) -> Subvolume | None:
    """Return what lies where the commit puts the new root: before it, that is still the old one."""
    commit = journal.plan.commit_step
    by_path = {subvolume.path: subvolume for subvolume in host.subvolumes}
    if isinstance(commit, Exchange):
        return by_path.get(commit.root)
    return next((s for s in host.subvolumes if s.id == host.default_id), None)


def refuse_while_waiting(window: Window) -> None:
    """Raise RefusedError while a rollback waits for its reboot."""
    if window.waiting is Waiting.REBOOT:
        raise RefusedError(
            "a rollback waits for a reboot",
            hint="Reboot, or take it back with 'fs-rollback undo'.",
        )
    if window.waiting is Waiting.ELSEWHERE:
        raise RefusedError(
            "a rollback was made, but this boot did not use its root",
            hint="Reboot and choose the machine's usual boot entry; 'fs-rollback status' tells"
            " which root the next boot uses.",
        )


def settle(host: Host, store: Store) -> tuple[Window, str]:
    """Finish or take back what a crash cut off, and forget a rollback whose reboot has happened.

    Needs the lock. Returns where the machine stands now, and what was done in words.
    """
    from .operations import Operations

    said = executor.settle(store, Operations(host))
    window = look(host, store)
    if window.waiting is Waiting.NOTHING and window.journal is not None:
        executor.clear_journal(store)
        window = Window(Waiting.NOTHING)
    return window, said
