# SPDX-License-Identifier: GPL-2.0-or-later
"""The time between a rollback and the reboot into its new root."""

from __future__ import annotations

import enum
from typing import NamedTuple

from ..core import elsewhere
from ..core.elsewhere import Explanation
from ..core.layout import Statement
from ..core.pending import Pending
from ..core.snapshot import Subvolume
from ..core.steps import Exchange
from ..errors import Error, KernelError, RefusedError
from . import boot_sources, executor
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
    if new_root is not None and new_root.id == host.root_id and not host.is_beside_trial:
        return Window(Waiting.NOTHING, journal, new_root)
    waiting = Waiting.REBOOT if journal.boot_id == boot_id() else Waiting.ELSEWHERE
    return Window(waiting, journal, new_root)


def _new_root(host: Host, journal: Pending) -> Subvolume | None:
    """Return the root that the commit made; before it, or where it was undone, the old one."""
    commit = journal.plan.commit_step
    by_path = {subvolume.path: subvolume for subvolume in host.subvolumes}
    if isinstance(commit, Exchange):
        return by_path.get(commit.root)
    # Where the names are exchanged after the commit, a crash may have come between the two.
    names = [step.root for step in journal.plan.steps if isinstance(step, Exchange)]
    places = (by_path.get(path) for path in (*names, commit.path))
    made = next((s for s in places if s is not None and s.id != journal.old_id), None)
    if host.default_id == journal.old_id and (made is None or made.id != host.root_id):
        return next((s for s in host.subvolumes if s.id == journal.old_id), None)
    return made


def is_undone_by_hand(window: Window) -> bool:
    """Whether somebody made the old root the next one again without this program."""
    journal, root = window.journal, window.new_root
    return journal is not None and root is not None and root.id == journal.old_id


def explain(host: Host, window: Window) -> Explanation:
    """Return why another root runs than the one that the rollback made, and what to do."""
    number = host.running_id if host.is_beside_trial else host.root_id
    running = next((s for s in host.subvolumes if s.id == number), None)
    if host.is_beside_trial:
        told = Statement(elsewhere.RUNNING, "", running.path if running else None, None, True)
        return elsewhere.explain(running, window.new_root, host.default_id, (told,))
    try:
        statements = boot_sources.read_statements(host, host.root_fd)
    except Error as error:
        found = elsewhere.explain(running, window.new_root, host.default_id, ())
        return found._replace(sentence=f"{found.sentence} ({error})", hint=error.hint or found.hint)
    return elsewhere.explain(running, window.new_root, host.default_id, statements)


def refuse_while_waiting(window: Window, *, beside_trial: bool = False) -> None:
    """Raise RefusedError while a rollback waits for its reboot.

    `beside_trial`: a new root that does not come up may be replaced from the trial of a snapshot.
    """
    if window.waiting is Waiting.REBOOT:
        raise RefusedError(
            "a rollback waits for a reboot",
            hint="Reboot, or take it back with 'fs-rollback undo'.",
        )
    if window.waiting is Waiting.ELSEWHERE and not beside_trial:
        raise RefusedError(
            "a rollback was made, but this boot did not use its root",
            hint="Reboot and choose the machine's usual boot entry; 'fs-rollback status' tells"
            " which root the next boot uses.",
        )
