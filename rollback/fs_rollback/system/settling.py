# SPDX-License-Identifier: GPL-2.0-or-later
"""Settles a rollback whose reboot may have happened, and says what became of it."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import NamedTuple

from ..core import boot_steps
from ..core.operations import Operations
from ..core.pending import Pending, State
from ..errors import Error
from . import arrival, boot_sources, executor, files, kernels, places, window
from .host import Host
from .leftovers import STAGING, has_leftovers
from .operations import Operations as RealOperations
from .store import Store
from .window import Waiting, Window


class Settled(NamedTuple):
    """Where the machine stands, what was done in words, and what was not brought over.

    `postponed`: what was cut off needs /boot, which is not mounted yet.
    """

    waiting: Waiting
    said: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    hint: str = ""
    postponed: bool = False


def settle(
    host: Host, store: Store, operations: Operations, *, bring: bool, cut_off: bool = False
) -> Settled:
    """Do what every writing command does first and say so; with `bring` bring over what is left.

    `cut_off` is after a process that was to do that was killed. Needs the lock. Raises Error.
    """
    postponed = bring and _waits_for_boot(host, store)
    interrupted = "" if postponed else executor.settle(store, operations)
    said = [interrupted] if interrupted else []
    found = window.look(host, store)
    if found.waiting is Waiting.ELSEWHERE:
        why = window.explain(host, found)
        return Settled(found.waiting, tuple(said), (), (why.sentence,), why.hint)
    if found.waiting is Waiting.REBOOT:
        return Settled(found.waiting, tuple(said))
    journal = found.journal
    brought: tuple[str, ...] = ()
    problems: list[str] = []
    if journal is not None and not window.is_undone_by_hand(found):
        if bring and found.new_root is not None:
            brought, problems = arrival.bring_over(host, journal, found.new_root, operations)
        elif cut_off:
            problems.append(
                f"it was stopped before everything was brought over; {arrival.where(journal)}"
            )
    if postponed:
        said.append("a rollback was interrupted; that is settled as soon as /boot is mounted")
        return Settled(Waiting.NOTHING, tuple(said), brought, tuple(problems), postponed=True)
    said += confirm(host, store, found, operations, incomplete=bool(problems))
    hint = ""
    unfit = kernels.running_without_modules(host.root_fd) if host.is_running and journal else ""
    if unfit:
        problems.append(
            f"the boot loader started kernel {unfit} instead of its default entry, and the new root"
            " has no modules for it"
        )
        fitting = " or ".join(kernels.that_fit(host.root_fd))
        hint = f"Reboot and choose kernel {fitting} in the boot menu."
    return Settled(Waiting.NOTHING, tuple(said), brought, tuple(problems), hint)


def _waits_for_boot(host: Host, store: Store) -> bool:
    """Whether a rollback was cut off that has to do with a /boot which is not mounted yet."""
    journal = executor.read_journal(store)
    if journal is None or journal.state is State.COMMITTED:
        return False
    if not any(isinstance(step, boot_steps.OF_LOADER) for step in journal.plan.steps):
        return False
    root = os.fstat(host.root_fd).st_dev
    entries = boot_sources.fstab_entries(host.root_fd)
    points = {entry.point.strip("/") for entry in entries} & set(places.POINTS)
    return any(files.device_of(host.root_fd, point) in (None, root) for point in points)


def settle_in_passing(host: Host, store: Store) -> tuple[Window, str]:
    """Finish or take back what a crash cut off, and forget a rollback whose reboot has happened.

    For what has other work to do. Needs the lock. Returns where the machine stands now, and what
    was done in words.
    """
    operations = RealOperations(host)
    said = executor.settle(store, operations)
    found = window.look(host, store)
    if found.waiting is Waiting.NOTHING and (found.journal or has_leftovers(host)):
        confirm(host, store, found, operations)
        found = Window(Waiting.NOTHING)
    return found, said


def confirm(
    host: Host,
    store: Store,
    found: Window,
    operations: Operations,
    *,
    incomplete: bool = False,
) -> list[str]:
    """Forget the rollback, whose reboot has happened; returns that in words.

    Where what was brought over is `incomplete` the old root is pinned: it has the only copy.
    The record of the old root says it from now on. The journal goes before what was exchanged is
    deleted: a deletion that is cut off is finished by the next run. Needs the lock.
    """
    journal = found.journal
    if journal is None:
        _remove_leftovers(host, operations)
        return []
    # Removing a file is durable at once, ahead of what has not been synced.
    operations.sync()
    undone = window.is_undone_by_hand(found)
    problem = "" if undone else _note_in_record(store, journal, pin=incomplete)
    executor.clear_journal(store)
    for frozen in arrival.frozen(journal):
        operations.delete(frozen)
    _remove_leftovers(host, operations)
    if undone:
        return [f"the rollback to {journal.target} was taken back by hand"]
    if problem:  # the disk was full, perhaps of what is gone now
        operations.sync()
        problem = _note_in_record(store, journal, pin=incomplete)
    name = arrival.aside(journal).name
    said = f"came up in the new root: a copy of {journal.target}, the old root is kept as {name}"
    pinned = [f"{name} is pinned: no pruning takes it"] if incomplete and not problem else []
    return [said, *pinned, *([problem] if problem else [])]


def _remove_leftovers(host: Host, operations: Operations) -> None:
    root = next((s for s in host.subvolumes if s.id == host.root_id), None)
    if root is not None and has_leftovers(host):
        arrival.discard(host, operations, root.path, STAGING)


def _note_in_record(store: Store, journal: Pending, *, pin: bool) -> str:
    """Write into the old root's record that the new one runs; returns why it could not be."""
    aside = arrival.aside(journal)
    moment = f"{datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC"
    for snapshot in store.load():
        record = snapshot.record
        if record is None or snapshot.name != aside.name or record.description != aside.description:
            continue
        description = f"{aside.description}; came up in the new root {moment}"
        try:
            store.write(record._replace(description=description, pinned=record.pinned or pin))
        except Error as error:
            return f"that cannot be noted in the record of {aside.name}: {error}"
    return ""
