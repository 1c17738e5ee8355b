# SPDX-License-Identifier: GPL-2.0-or-later
"""Settles a rollback after its reboot, and reports the result."""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import NamedTuple

from ...core.progress import Watch, unwatched
from ...core.rollback.journal import Pending, State
from ...core.rollback.operations import Operations
from ...core.rollback.root_steps import KeepNewRoot
from ...core.snapshots.names import REPLACED_PREFIX, free_name, label, labelled
from ...core.snapshots.record import format_time
from ...core.snapshots.replaced_by import ReplacedBy
from ...core.snapshots.snapshot import STAGING
from ...errors import Error
from ..execute import executor
from ..execute.trees import Operations as RealOperations
from ..linux import files
from ..loader import places
from ..machine import kernels
from ..machine.host import Host
from ..store import journals, trace
from ..store.store import Store
from . import bring_over, by_difference, staging, state
from .by_difference import Workplace
from .has_work import has_leftovers
from .state import Waiting, Window


class Settled(NamedTuple):
    """The state of the machine, sentences on what was done, and on what was not copied.

    `postponed`: settling the interrupted rollback needs /boot, which is not mounted yet.
    """

    waiting: Waiting
    said: tuple[str, ...] = ()
    brought: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    hint: str = ""
    postponed: bool = False


def settle(
    host: Host,
    store: Store,
    operations: Operations,
    *,
    bring: bool,
    cut_off: bool = False,
    watch: Watch = unwatched,
) -> Settled:
    """Settle as every writing command does first; with `bring` also copy changes to the new root.

    `cut_off`: the process that should have done that was killed. `watch` as in bring_over.py. Needs
    the lock. Raises Error.
    """
    journal, interrupted = journals.read(store), ""
    postponed = bring and _waits_for_boot(host, journal)
    if not postponed:
        journal, interrupted = executor.settle(store, journal, operations)
    said = [interrupted] if interrupted else []
    found = state.window_of(host, journal)
    if found.waiting in (Waiting.ELSEWHERE, Waiting.DISPLACED):
        why = state.explain(host, found)
        target = found.journal.target if found.journal else ""
        trace.tell(host, trace.Event("failed", target, reason=why.sentence))
        return Settled(found.waiting, tuple(said), (), (why.sentence,), why.hint)
    if found.waiting is Waiting.REBOOT:
        return Settled(found.waiting, tuple(said))
    brought: tuple[str, ...] = ()
    problems: list[str] = []
    if journal is not None and found.new_root is not None and not found.is_undone_by_hand:
        new = found.new_root
        if bring:
            brought, problems = bring_over.bring_over(host, journal, new, operations, watch)
        else:
            problems = bring_over.finish(host, journal, new, operations, watch)
        if cut_off:
            problems.append(
                f"it was stopped before everything was copied; {bring_over.where(journal)}"
            )
        elif not bring:
            problems += bring_over.left_behind(host, journal, new, operations)
    if postponed:
        said.append("a rollback was interrupted; it will be settled once /boot is mounted")
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


def _waits_for_boot(host: Host, journal: Pending | None) -> bool:
    """Whether a rollback was cut off that has to do with a /boot which is not mounted yet."""
    if journal is None or journal.state is State.COMMITTED:
        return False
    if not journal.plan.needs_boot:
        return False
    root = os.fstat(host.root_fd).st_dev
    points = {entry.point.strip("/") for entry in host.fstab_entries()} & set(places.POINTS)
    return any(files.device_of(host.root_fd, point) in (None, root) for point in points)


def finish_cut_off(
    host: Host, store: Store, operations: Operations
) -> tuple[Window, tuple[str, ...]]:
    """Finish or undo what a crash interrupted. Needs the lock.

    Returns the state of the machine, and sentences on what was done.
    """
    journal, said = executor.settle(store, journals.read(store), operations)
    return state.window_of(host, journal), (said,) if said else ()


def settle_in_passing(host: Host, store: Store) -> tuple[Window, tuple[str, ...]]:
    """Finish or undo what a crash interrupted, and forget a rollback whose reboot has happened.

    For callers with other work, while the machine is in use: nothing is copied to the new root, and
    an old root that has the only copy of something is pinned. Needs the lock. Returns the state of
    the machine, and sentences on what a person has to know.
    """
    operations = RealOperations(host)
    found, said = finish_cut_off(host, store, operations)
    if found.waiting is not Waiting.NOTHING or not (found.journal or has_leftovers(host)):
        return found, said
    left: list[str] = []
    if found.journal is not None and found.new_root is not None and not found.is_undone_by_hand:
        left = bring_over.finish(host, found.journal, found.new_root, operations)
        left += bring_over.left_behind(host, found.journal, found.new_root, operations)
    done = confirm(host, store, found, operations, incomplete=bool(left))
    is_news = left or found.journal is None
    return Window(Waiting.NOTHING), (*said, *left, *(done if is_news else ()))


def supersede(host: Host, store: Store, found: Window, operations: Operations) -> tuple[str, ...]:
    """End a rollback whose new root does not run and is about to be replaced itself.

    What the old root wrote since is brought over first, so that what comes next takes the newest
    state of each path from one place. Needs the lock. Returns what was done in words.
    """
    journal, new = found.journal, found.new_root
    assert journal is not None, "a rollback waits"
    said: list[str] = []
    problems: list[str] = []
    if new is not None:
        brought, problems = bring_over.bring_over(host, journal, new, operations)
        if brought:
            said.append(
                f"copied the changes made since the rollback to the new root: {', '.join(brought)}"
            )
    noted = ReplacedBy(journal.target)
    ended = _end(host, store, found, operations, pin=bool(problems), noted=noted)
    why = "another rollback replaces this one"
    trace.tell(host, trace.Event("settled", journal.target, reason=why))
    return (*said, *problems, *ended)


def forget(host: Host, store: Store, found: Window, operations: Operations) -> tuple[str, ...]:
    """Give up a rollback whose machine has another root now: that one stays, nothing is deleted.

    The old root is pinned: what was written between the rollback and the reboot is nowhere else.
    Needs the lock. Returns what was done in words.
    """
    journal = found.journal
    assert journal is not None, "a rollback waits"
    now = datetime.now().astimezone()
    name = free_name(REPLACED_PREFIX, now, store)
    made_by = f"made by the rollback to {journal.target}, which was given up"
    spare = journal.roots.spare
    if operations.subvolume(spare)[1] == journal.old_uuid:
        journal.plan.aside.apply(operations)  # somebody has exchanged the two by hand
        host.forget()
    KeepNewRoot(spare, name, format_time(now), made_by, journal.new_uuid).undo(operations)
    noted = ReplacedBy(journal.target, given_up=True)
    ended = _end(host, store, found, operations, pin=True, noted=noted)
    trace.tell(host, trace.Event("forgotten", journal.target, replaced=journal.roots.replaced))
    return (f"the rollback to {state.target_of(host, journal)} is given up", *ended)


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
        return _remove_leftovers(host, operations)
    if found.is_undone_by_hand:
        _end(host, store, found, operations, pin=False, noted=None)
        by_hand = f"the rollback to {state.target_of(host, journal)} was undone by hand"
        trace.tell(host, trace.Event("settled", journal.target, reason=by_hand))
        return [by_hand]
    noted = ReplacedBy(journal.target, confirmed=datetime.now(timezone.utc))
    ended = _end(host, store, found, operations, pin=incomplete, noted=noted)
    name = journal.roots.replaced
    target, old = state.target_of(host, journal), labelled(name, journal.old_id)
    why = "; ".join(("the machine came up in the new root", *ended))
    trace.tell(host, trace.Event("settled", journal.target, replaced=name, reason=why))
    return [
        f"came up in the new root, a copy of {target}; the old root is kept as {old}",
        *ended,
    ]


def _end(
    host: Host,
    store: Store,
    found: Window,
    operations: Operations,
    *,
    pin: bool,
    noted: ReplacedBy | None,
) -> tuple[str, ...]:
    """Forget the journal, and note in the old root's record what came of it; None writes nothing.

    The journal goes before what was exchanged is deleted: a deletion that is cut off is finished
    by the next run. But it stays as long as a pin cannot be written: pruning would take the old
    root, which has the only copy.
    """
    journal = found.journal
    assert journal is not None, "a rollback waits"
    # Removing a file is durable at once, ahead of what has not been synced.
    operations.sync()
    is_noted, problem = (False, "")
    if noted is not None:
        is_noted, problem = _note_in_record(store, journal, noted, pin=pin)
    if not problem:
        journals.clear(store)
    if journal.roots.frozen:
        operations.delete(journal.roots.frozen)
    _remove_leftovers(host, operations)
    if problem and noted is not None:  # the disk was full, perhaps of what is gone now
        operations.sync()
        is_noted, problem = _note_in_record(store, journal, noted, pin=pin)
        if problem and pin:
            return (f"{problem}; the next command tries again",)
        journals.clear(store)
    if problem:
        return (problem,)
    name = labelled(journal.roots.replaced, journal.old_id)
    return (f"{name} is pinned, so pruning never deletes it",) if pin and is_noted else ()


def _remove_leftovers(host: Host, operations: Operations) -> list[str]:
    """Remove what was exchanged; returns in words what had to be put back to its place before."""
    if not has_leftovers(host):
        return []
    root = host.root_subvolume.path
    # Without the journal, which somebody has removed, a path may lie there that was cut off at.
    back = by_difference.finish(Workplace(host, operations, root, unwatched), None)
    staging.discard(host, operations, root, STAGING)
    return back


def _note_in_record(
    store: Store, journal: Pending, noted: ReplacedBy, *, pin: bool
) -> tuple[bool, str]:
    """Write into the old root's record what came of the rollback.

    Returns whether that was done, False also where there is no record, and why it could not be.
    """
    name = journal.roots.replaced
    for snapshot in store.load():
        record = snapshot.record
        if record is None or snapshot.name != name or record.uuid != journal.old_uuid:
            continue
        noted = noted._replace(id=record.replaced_by.id if record.replaced_by else None)
        changed = record._replace(description="", replaced_by=noted, pinned=record.pinned or pin)
        try:
            store.write(changed)
        except Error as error:  # as promised: in words
            return False, f"the record of {label(snapshot)} cannot be updated: {error}"
        return True, ""
    return False, ""
