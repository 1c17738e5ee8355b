# SPDX-License-Identifier: GPL-2.0-or-later
"""What happens around a package transaction; the plugins for dnf 4 and dnf 5 both call this."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext, suppress
from datetime import datetime

from ...config import Config
from ...core.snapshots.record import Kind, Outcome, Record, Transaction
from ...core.snapshots.retention import Action
from ...core.snapshots.snapshot import STORE, Snapshot
from ...errors import Error, KernelError, StoreError, UnsupportedRootError
from ..guard import around
from ..guard.around import Around
from ..linux.process import Say
from ..machine import host, requester
from ..machine.host import Host
from ..machine.unprotected import Unprotected, unprotected
from ..packages import interrupted, settle_records
from ..root import trial
from ..snapshots import make_room, menu, min_free, take_and_delete
from ..snapshots.menu import Menu
from ..store import store, trace
from ..store.store import Store

_DEFAULTS = Config()
# btrfs frees most snapshots in milliseconds; the rest is for the next transaction, or for 'prune'.
_MOST_FOR_ROOM_S = 2.0
# Who makes a Transaction needs both.
command_line, requested_by = requester.command_line, requester.requested_by


class Taken:
    """The snapshot that protects a transaction.

    `menu` is the result for its entry in the boot menu. `guard` is the guard to set when the
    transaction has ended. `warnings` are findings of `check_before` that should not stop dnf, and
    news of an earlier rollback. It holds the store's lock until `after` or `release`, or until it
    is garbage, at the latest until the end of the process: a rollback in between would leave the
    transaction in the root that it has just set aside.
    """

    # Not a dataclass: what makes one takes a third of the time that a plugin has to load.

    def __init__(
        self, record: Record, store: Store, held: ExitStack, config: Config, menu: Menu
    ) -> None:
        self.guard: Around | None = None
        self.record = record
        self.store = store
        self.menu = menu
        self.config = config
        self.warnings: tuple[str, ...] = ()
        self.held = held
        # Where dnf never comes to its last hook, the end of its Base or of the process does it.
        self._end = weakref.finalize(self, held.close)

    @property
    def machine(self) -> Host:
        """The machine that it is of."""
        return self.store.host

    @property
    def path(self) -> str:
        """The path of the snapshot as people read it."""
        return f"/{STORE}/{self.record.name}"

    def leave(self) -> None:
        """Have the lock outlive this process, in a child of it that is made after this.

        It is one lock for both (flock(2)), and whoever gives it back does so for the other: here
        nothing of it may end, not even as garbage.
        """
        self._end.detach()
        _left.append(self)

    def release(self) -> None:
        """Release the lock if `after` is never called; the next run settles the end.

        A boot that was guarded before is guarded again.
        """
        with suppress(Error, OSError):  # the end of the process gives it back
            if self.guard is not None and self.guard.was_armed:
                guard(self)
            self.held.close()


_left: list[Taken] = []


def before(
    transaction: Transaction,
    root: str = "/",
    config: Config = _DEFAULTS,
    said: Say = str,
    *,
    coming: int | None = 0,
) -> Taken | Unprotected:
    """Take the snapshot before a transaction, and hold the store until `after`.

    If another process has the store, `said` is called with what this waits for. `coming` is the
    installed size of the new packages in bytes, None if unknown.

    The newest snapshots get boot menu entries: they can be booted if the machine does not boot
    after this transaction, or loses power during it.

    Raises RefusedError while a rollback is waiting for its reboot. Raises Error if the snapshot
    fails, if there is no room for the packages, or if `check_before` finds that this machine would
    not boot. The transaction should not run then.
    """
    reason = unprotected(root)
    if reason is not None:
        return reason
    with ExitStack() as stack:
        try:
            machine = stack.enter_context(host.opened(root))
        except UnsupportedRootError as error:  # unsupported is not failed
            return Unprotected(str(error), True)
        machine.asked_by = transaction.user, requester.in_one_line(transaction.command_line)
        unsupported = machine.unsupported()
        if unsupported:
            return Unprotected(f"no snapshot: {unsupported}", False)
        found = stack.enter_context(store.opened(machine, create=True))
        if found is None:
            raise StoreError(f"/{STORE} vanished while it was being opened")
        stack.enter_context(found.locked(said))
        warnings = _settle(machine, found)
        warnings += around.refuse_unattended(machine, found)
        warnings += _check(machine, config) if config.check_before else ()
        with make_room.advising(machine, found, lambda: config.policy):
            warnings += _look_back(machine, found)
            warnings += _make_room(machine, found, config, coming, said)
            now = datetime.now().astimezone()
            record = take_and_delete.take(machine, found, Kind.PRE, now, transaction=transaction)
        guard = None
        if record.trial:  # the menu is the own root's
            updated, warnings = Menu(), (trial.before_changes(machine), *warnings)
        else:
            guard = around.before(machine, found, config, record)
            updated = menu.update(machine, found, config.boot_entries)
        taken = Taken(record, found, stack.pop_all(), config, updated)
        taken.guard = guard
        taken.warnings = warnings
        return taken


def _check(machine: Host, config: Config) -> tuple[str, ...]:
    """Return what is broken in the chain of the next boot, in words.

    Raises Error with the first of it unless `on_failure` is "warn".
    """
    from ...core.boot.findings import Grade
    from ..check import next_boot

    broken = [link for link in next_boot.links(machine) if link.grade is Grade.FATAL]
    if broken and config.on_failure == "abort":
        raise Error(
            f"this machine would not boot: {broken[0].name}: {broken[0].text}",
            hint=f"{broken[0].advice} 'fs-rollback check' shows all problems.",
        )
    return tuple(f"this machine would not boot: {b.name}: {b.text}. {b.advice}" for b in broken)


def _make_room(
    machine: Host, found: Store, config: Config, coming: int | None, said: Say
) -> tuple[str, ...]:
    """Make room for what comes; return in words what is missing still.

    Raises Error with it unless `on_failure` is "warn": the transaction would fail in the middle.
    """
    short = make_room.for_transaction(machine, found, config.policy, coming, said)
    if short is None:
        return ()
    advice = make_room.for_shortage(machine, found, config.policy, short)
    if config.on_failure == "abort":
        raise Error(short.sentence(), hint=advice)
    return (f"{short.sentence()}. {advice}",)


def _settle(machine: Host, found: Store) -> tuple[str, ...]:
    """Settle a rollback whose reboot has happened; return what somebody has to know of it.

    Raises RefusedError while a rollback waits for its reboot.
    """
    if not found.has_journal():
        return ()
    from ..pending import settle, state

    waiting, said = settle.settle_in_passing(machine, found)
    state.refuse_while_waiting(machine, waiting)
    return said


def _look_back(machine: Host, found: Store) -> tuple[str, ...]:
    """Settle what earlier transactions left; return what is to be said of the last one."""
    found.tidy()  # what cannot be removed is said by the next command
    if not interrupted.is_in_doubt(machine, found.newest_first()):
        return ()
    with suppress(KernelError):  # what is not settled now is settled by the next run
        for settled in settle_records.settle(machine, found.load()):
            found.write(settled)
    last = interrupted.find(machine, found.load())
    return (interrupted.sentence(last, str(last.id)),) if last is not None else ()


def after(taken: Taken, outcome: Outcome, history_id: int | None) -> list[str]:
    """Record how the transaction ended, take the post snapshot if wanted, prune.

    Returns problems as sentences: nothing here may fail a transaction that has run.
    """
    problems: list[str] = []
    machine, config = taken.machine, taken.config
    with taken.held:
        try:
            _finish(taken, outcome, history_id, problems)
            if not taken.record.trial and (config.post_snapshot or not taken.menu.is_whole()):
                machine.forget()
                problems += menu.update(machine, taken.store, config.boot_entries).problems
            problems += guard(taken)
        except (Error, OSError) as error:  # as promised: in words
            trace.tell(machine, trace.Event("failed", taken.record.name, reason=str(error)))
            problems.append(str(error))
    return problems


def _finish(taken: Taken, outcome: Outcome, history_id: int | None, problems: list[str]) -> None:
    machine, found = taken.machine, taken.store
    if taken.record.transaction is None:
        return
    end = taken.record.transaction._replace(outcome=outcome, history_id=history_id)
    # If a crash loses this, the next run learns it from dnf's history.
    found.write(taken.record._replace(transaction=end), durable=False)
    if outcome is not Outcome.DONE:
        return
    if taken.config.post_snapshot:
        machine.forget()  # what the transaction has changed
        now = datetime.now().astimezone()
        found.write(take_and_delete.take(machine, found, Kind.POST, now, transaction=end))
    problems += prune(taken)


def guard(taken: Taken) -> Sequence[str]:
    """Guard the next boot, if that is wanted; returns problems as sentences."""
    wanted, taken.guard = taken.guard, None
    if wanted is None:
        return ()
    return around.after(taken.machine, taken.store, wanted, taken.record, taken.config)


def prune(taken: Taken) -> list[str]:
    """Delete the snapshots that retention no longer keeps; return problems as sentences.

    Deletes nothing in a trial: only the machine's own root decides about that.
    """
    if taken.record.trial:
        return []
    machine, found, policy = taken.machine, taken.store, taken.config.policy
    now = datetime.now().astimezone()
    failures: list[tuple[Snapshot, Error]] = []
    if not take_and_delete.keeps_all(machine, found, policy, now):
        machine.forget()
        verdicts = take_and_delete.judge(machine, found, policy, now)
        # Reclaiming an old root in the top level unlinks every file of a system: not inside dnf.
        doomed = [v for v in verdicts if not (v.action is Action.KEEP or v.snapshot.is_top_level)]
        if doomed:
            failures = take_and_delete.prune(machine, found, doomed)
    opened = nullcontext((machine, found))
    room = min_free.reach(machine, lambda: opened, policy, limit_s=_MOST_FOR_ROOM_S)
    return [str(error) for _, error in (*failures, *room.failures)]
