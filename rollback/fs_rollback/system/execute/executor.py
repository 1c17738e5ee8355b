# SPDX-License-Identifier: GPL-2.0-or-later
"""Carries out a plan, undoes it, and finishes or undoes it after a crash.

What happened is read from the machine (steps look before they act); the journal only says which
plan it was. One mechanism serves errors, signals, kills, power cuts and `undo`.
"""

from __future__ import annotations

import enum
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Callable, TypeVar

from ...core.rollback.journal import Pending, State
from ...core.rollback.kernel_steps import ReturnModules, modules_of
from ...core.rollback.operations import Operations
from ...core.rollback.plan import Plan
from ...core.rollback.root_steps import CreateRoot
from ...core.rollback.step import Step
from ...core.rollback.steps import RootStep, StepUndoneInNewRoot
from ...errors import Error, UndoFailedError, kernel_errors
from ..linux import durable, syscalls
from ..store import journals, trace
from ..store.store import PENDING, Store

AnyStep = TypeVar("AnyStep", bound=Step[Any])
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Moment(enum.Enum):
    """When an observer is called."""

    BEFORE = "before"
    AFTER = "after"


Observer = Callable[[Moment, int, RootStep], None]


def execute(store: Store, journal: Pending, operations: Operations, observe: Observer) -> None:
    """Carry out the plan of `journal`; on any failure undo what was done, then raise.

    Raises UndoFailedError if undoing fails too, otherwise what the failing step raised.
    """
    reached = -1

    def undo_what_was_done(error: BaseException) -> None:
        take_back(store, journal.plan.steps[: reached + 1], operations, error)

    with taken_back_on_failure(undo_what_was_done):
        # What is dirty gets its generation before the new root has its own: at the next boot all
        # that is newer was written after it was copied (bring_over.py).
        _sync(store)
        journals.write(store, journal)
        for reached in range(len(journal.plan.steps)):
            step = journal.plan.steps[reached]
            if reached == journal.plan.commit:
                journal = journal._replace(generation=_generation(store))
                journals.write(store, journal)
            apply_step(step, reached, operations, observe)
            if isinstance(step, CreateRoot):
                uuid = operations.subvolume(step.spare)[1]
                journal = journal._replace(plan=journal.plan.with_new_root(uuid))
                journals.write(store, journal)
        journals.write(store, journal._replace(state=State.COMMITTED))


@contextmanager
def taken_back_on_failure(take_back: Callable[[BaseException], None]) -> Iterator[None]:
    """If the block fails, also by a signal, undo what it did, then raise that.

    Signals are held back during the undo, and arrive afterwards.
    """
    try:
        yield
    except BaseException as error:
        with signals_held_back():
            take_back(error)
        raise


def apply_step(
    step: AnyStep, number: int, operations: Any, observe: Callable[[Moment, int, AnyStep], None]
) -> None:
    """Apply one step of a plan; a signal may interrupt it."""
    with signals_let_through():
        observe(Moment.BEFORE, number, step)
        step.apply(operations)
        observe(Moment.AFTER, number, step)


def take_back(
    store: Store,
    steps: Sequence[RootStep],
    operations: Operations,
    cause: BaseException | None = None,
) -> None:
    """Undo the steps in reverse and remove the journal. Raises UndoFailedError."""
    left = list(steps)
    made = next((step for step in steps if isinstance(step, CreateRoot)), None)
    try:
        while left:
            is_inside = isinstance(left[-1], StepUndoneInNewRoot)
            if not (is_inside and made and _is_elsewhere(made, operations)):
                left[-1].undo(operations)
            left.pop()
        # Removing the journal is durable at once, ahead of all that has not been synced: without
        # this a power cut would bring back the new root, and nothing would know it for a leftover.
        operations.sync()
        durable.remove_durably(store.directory, PENDING)
    except Error as error:
        commands = [f"mount -o subvolid=5 {store.host.mount.source} /mnt"]
        commands += [line for step in reversed(left) for line in step.by_hand()]
        commands += ["umount /mnt", "fs-rollback status   # the next command clears away the rest"]
        reason = f" after: {cause}" if cause is not None else ""
        raise UndoFailedError(
            f"undoing the rollback failed: {error}{reason}", commands=commands
        ) from error
    finally:
        store.host.forget()


def _is_elsewhere(made: CreateRoot, operations: Operations) -> bool:
    """Whether what lies at the spare name, if anything does, is not the new root."""
    found = operations.subvolume(made.spare)[1]
    return not found or not made.is_ours(found, operations)


def undo(store: Store, journal: Pending, operations: Operations) -> None:
    """Undo a rollback that is waiting for its reboot; `journal` is what was read.

    Raises KernelError if nothing was changed, UndoFailedError if it could not be completed.
    """
    # From here on it is under way again: the next run finishes what a crash leaves.
    journals.write(store, journal._replace(state=State.PREPARED))
    take_back(store, journal.plan.steps, operations)
    trace.tell(store.host, trace.Event("undone", journal.target))


def settle(
    store: Store, journal: Pending | None, operations: Operations
) -> tuple[Pending | None, str]:
    """Finish or undo an interrupted rollback; `journal` is what was read.

    Needs the lock. Undoes the rollback if it was interrupted before the commit, otherwise finishes
    it. Returns the journal after that (None if there is none), and what was done ("" if nothing).
    """
    if journal is None or journal.state is State.COMMITTED:
        return journal, ""
    plan = journal.plan
    if plan.is_foreign(operations):
        # Somebody repaired the machine by hand: nothing of this is ours to finish or take back.
        journals.set_aside(store)
        said = "a rollback was interrupted and repaired by hand; its journal is now"
        return None, _settled(store, journal, f"{said} {journals.STALE}")
    if plan.commit_step.is_displaced(operations):
        return journal, ""  # pending/state.py says so, and what to do
    with signals_held_back():
        if not plan.commit_step.done(operations):
            take_back(store, plan.steps, operations)
            return None, _settled(store, journal, "an interrupted rollback was undone")
        finish(store, plan, operations)
        journal = journal._replace(state=State.COMMITTED)
        journals.write(store, journal)
    lent = [s for s in plan.steps if isinstance(s, ReturnModules) and s.in_use(operations)]
    stays = "".join(
        f"; /{modules_of(step.kernel)} belongs to no package: remove it after the next reboot"
        for step in lent
    )
    return journal, _settled(store, journal, f"an interrupted rollback was finished{stays}")


def _settled(store: Store, journal: Pending, said: str) -> str:
    trace.tell(store.host, trace.Event("settled", journal.target, reason=said))
    return said


def finish(store: Store, plan: Plan, operations: Operations) -> None:
    """Apply what comes after the commit; each step looks before it acts."""
    for step in plan.steps[plan.commit + 1 :]:
        step.apply(operations)
    store.host.forget()


def _sync(store: Store) -> None:
    with kernel_errors("sync", store.host.mount.source):
        syscalls.sync_filesystem(store.host.top_fd)


def _generation(store: Store) -> int:
    with kernel_errors("read the generation of", store.host.mount.source):
        return syscalls.filesystem_generation(store.host.top_fd)


@contextmanager
def finishing() -> Iterator[None]:
    """Let signals through only while a step runs; signals at other times are discarded.

    Between the last step and the last message an interruption would be reported falsely: the
    machine is no longer as before.
    """
    with signals_held_back():
        try:
            yield
        finally:
            while signal.sigtimedwait(_SIGNALS, 0) is not None:
                pass


@contextmanager
def signals_let_through() -> Iterator[None]:
    """Let signals interrupt the block, even if they were held back outside."""
    before = signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def signals_held_back() -> Iterator[None]:
    """Hold back signals while the block runs; they arrive afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
