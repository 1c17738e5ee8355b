# SPDX-License-Identifier: GPL-2.0-or-later
"""What the units of a guarded boot call, and the one that every boot with a guard's state runs."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from ... import report
from ...core.boot.entries import is_guarded
from ...core.guard.state import Guard
from ...errors import Error, LockedError
from ...system.guard import arm, around, health, outcome
from ...system.linux import process
from ...system.machine import host as machines
from ...system.machine import kernels
from ...system.pending import has_work
from ...system.store import guards, trace
from ...system.store import store as stores
from .. import session
from . import facts

if TYPE_CHECKING:
    from argparse import Namespace

    from ...core.guard.state import Failure
    from ...system.machine.host import Host
    from ...system.store.store import Store

# What `check` found, or is at: `give-up` runs when it has failed, or was killed.
_FOUND = "/run/fs-rollback-health"
_TRANSACTION_S = 3600.0  # what a large one may take
_GOING_DOWN_S = 60.0
# Nobody is there whom an inhibitor would help.
_REBOOT = ("systemctl", "reboot", "--no-block", "--check-inhibitors=no")


def run(args: Namespace) -> int:
    """Do what the action says; returns the exit code."""
    actions = {
        "check": _check,
        "confirm": _confirm,
        "give-up": _give_up,
        "again": _again,
        "report": _report,
    }
    return actions[args.action](args)


def _check(args: Namespace) -> int:
    """Look whether this boot is healthy; exit code 1 if it is not."""
    with machines.opened(args.root) as host:
        names = session.usable_configuration(host).health_units

    def begin(what: str) -> None:
        facts.write(_FOUND, f"{what} did not finish in time")

    reason = health.trouble(names, begin, lambda line: print(report.clean(line), flush=True))
    if not reason:
        with suppress(FileNotFoundError):  # nothing was to be looked at
            os.unlink(_FOUND)
        session.note("this boot is healthy")
        return 0
    facts.write(_FOUND, reason)
    session.note(f"this boot is not healthy: {reason}")
    return 1


def _confirm(args: Namespace) -> int:
    """End the guard: this boot was healthy. With `guard = always` the next one is guarded again.

    What a transaction of this very boot has guarded stays: that is for the next one.
    """
    if not is_guarded(kernels.running_command_line()):
        session.note("this boot is not guarded")
        return 0
    with machines.opened(args.root) as host, stores.opened(host) as store:
        if store is None:
            return 0
        config = session.usable_configuration(host)
        with store.locked(session.note, wait_s=_TRANSACTION_S):
            guard = guards.read(store)
            facts.say_at_login("")
            if guard.armed is None or guard.armed.boot_id == kernels.boot_id():
                guards.write(store, guard._replace(failure=None))
                return 0
            arm.disarm(host, store)
            session.note("this boot is healthy: the usual boot entry is the default again")
            guards.write(store, Guard())  # what had failed is over
            there = store.subvolumes()
            if config.guard == "always" and guard.armed.snapshot in there:
                back = store.snapshot_of(there[guard.armed.snapshot])
                arm.arm(host, store, back, config.boot_entries, is_unproven=False)
    return 0


def _give_up(_args: Namespace) -> int:
    """Say and write down why this boot is not healthy, and reboot, if that leads back.

    No transaction is cut off: it is waited for, and the next one is kept from its beginning.
    """
    if not is_guarded(kernels.running_command_line()):
        session.note("this boot is not guarded")
        return 0
    reason = _reason()
    _complain(f"this boot is not healthy: {reason}")
    with machines.opened("/") as host, stores.opened(host) as store, ExitStack() as held:
        if store is None:
            return 1
        try:
            held.enter_context(store.locked(session.note, wait_s=_TRANSACTION_S))
        except LockedError as error:  # who has it hangs, as this boot may
            session.note(error.line)
        config = session.usable_configuration(host)
        leads_back = _leads_back(host, store, reason)
        if not (leads_back and config.guard_reboot):
            why = "guard_reboot = no" if leads_back else "the next boot would not use the snapshot"
            session.note(f"not rebooting: {why}")
            return 1
        session.note("rebooting into the snapshot")
        process.run(_REBOOT)
        time.sleep(_GOING_DOWN_S)
    return 0


def _reason() -> str:
    # Without it `check` did not begin.
    with suppress(OSError), open(_FOUND, encoding="utf-8", errors="replace") as file:
        return file.read().strip()
    return f"it did not finish booting in time; {health.unfinished()}".rstrip("; ")


def _leads_back(host: Host, store: Store, reason: str) -> bool:
    """Write down the reason, and tell whether the next boot leads to the snapshot.

    What cannot be written, on a full disk or one that is read-only, is in the journal. Where the
    boot loader's files cannot be read either, it is as it was when the boot began.
    """
    armed = guards.glance(host.top_fd).armed
    if armed is None:
        return False
    # See above.
    with suppress(Error, OSError):
        outcome.note_reason(store, reason)
    trace.tell(host, trace.Event("unhealthy", armed.snapshot, reason=reason))
    if arm.why_out_of_reach(host, armed):
        return True  # it is not mounted, see above
    return arm.is_armed(host, armed) and not arm.has_next_boot(host, armed)


def _again(args: Namespace) -> int:
    """Guard the next boot again, where this one is for an update, or has made one."""
    with machines.opened(args.root) as host, stores.opened(host) as store:
        if store is None or not has_work.has_guard(host):
            return 0
        with store.locked(session.note, wait_s=_TRANSACTION_S):
            problems = around.again(host, store, session.usable_configuration(host))
    for problem in problems:
        session.note(problem)
    return 1 if problems else 0


def _report(args: Namespace) -> int:
    """Note and say what became of a guarded boot, in the boots after it."""
    with machines.opened(args.root) as host, stores.opened(host) as store:
        if store is None or not has_work.has_guard(host):
            facts.say_at_login("")
            return 0
        config = session.usable_configuration(host)
        with store.locked(session.note, wait_s=_TRANSACTION_S):
            guard, goes_back = _look(args, host, store, guards.read(store))
    failure = guard.unacknowledged
    if failure is None:
        facts.say_at_login("")
        return 0
    text = facts.attention_of(failure)
    _complain(text)
    facts.say_at_login(text)
    return _go_back(failure) if goes_back and config.guard_then == "rollback" else 0


def _look(args: Namespace, host: Host, store: Store, guard: Guard) -> tuple[Guard, bool]:
    """Note where this boot came out; returns the state, and whether to go back for it."""
    armed = guard.armed
    runs_guarded = is_guarded(kernels.running_command_line())
    if armed is None or (runs_guarded and armed.boot_id != kernels.boot_id()):
        return guard, False  # that boot is for `confirm` and `give-up`
    if not arm.is_armed(host, armed):
        arm.disarm(host, store)  # somebody has told the loader something else
        return guards.read(store), False
    if args.trial == armed.snapshot:
        if guard.failure is not None and guard.failure.boot_id == armed.boot_id:
            return guard, False  # it is known
        return outcome.fell_back(host, store, guard)
    if not arm.has_next_boot(host, armed):
        arm.set_next_boot(host, store, armed)
        session.note("another boot entry was used: the next boot is guarded instead")
    return guard, False


def _go_back(failure: Failure) -> int:
    """Make the snapshot the root, if it is healthy itself, and reboot into it."""
    code, _ = process.watch(("systemctl", "start", "fs-rollback-health.service"), session.note)
    if code:
        session.note(f"not rolling back: the snapshot is not healthy either: {_reason()}")
        return 1
    command = ("fs-rollback", "rollback", failure.snapshot, "--yes")
    code, last = process.watch(command, session.note)
    if code:
        session.note(f"the machine runs the snapshot, but cannot make it the root: {last}")
        return 1
    process.run(_REBOOT)
    return 0


def _complain(text: str) -> None:
    """Say an error to the journal, sd-daemon(3), and on the console."""
    print(f"<3>fs-rollback: {report.clean(text)}", file=sys.stderr, flush=True)
