# SPDX-License-Identifier: GPL-2.0-or-later
"""`settle`: what every writing command does first, and the first boot of a new root.

Every boot runs it: what it needs where there is something to do is imported only then.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

from ...errors import Error, RefusedError, UnsupportedRootError
from .. import command
from ..advice import addressed

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...system.machine.host import Host
    from ...system.pending.settle import Settled
    from ...system.store.store import Store

# fs-rollback-settle.service is started where this is.
_UNFINISHED = "/run/fs-rollback-unfinished"
# fs-rollback-guard.service is started where this is (system/guard/arm.py).
_GUARDED = "/run/fs-rollback-guard"
_WAITS = "a rollback is waiting for a reboot; 'fs-rollback undo' cancels it"
_WARNING = "<4>"  # sd-daemon(3): the priority of a line in the journal


def arguments(parser: ArgumentParser) -> None:
    """Add what `settle` takes."""
    command.json(parser)
    moment = parser.add_mutually_exclusive_group()
    moment.add_argument(
        "--at-boot",
        action="store_true",
        help="for fs-rollback-boot.service: copy what was written to the kept paths between the"
        " rollback and this boot",
    )
    moment.add_argument(
        "--forget",
        action="store_true",
        help="give up a rollback whose new root another tool has replaced: keep the root that"
        " boots now, move and delete nothing, and pin the old root",
    )
    moment.add_argument(
        "--missed",
        action="store_true",
        help="for fs-rollback-boot.service: say what --at-boot had not done when it was stopped",
    )


def run(args: Namespace) -> int:
    """`settle`: finish, undo or confirm a rollback; exit code 1 if something needs attention.

    Nothing to do, no store and no btrfs are no errors, and at boot it says nothing of them.
    """
    quiet = args.at_boot or args.missed
    # systemd.exec(5): what ended in order has said all there was to say.
    if args.missed and os.environ.get("SERVICE_RESULT") in ("success", "exit-code"):
        return 0
    try:
        done = _settle(args)
    except UnsupportedRootError as error:  # in order, see above
        done = None
        if not quiet:
            print(f"fs-rollback: nothing to settle: {error}", file=sys.stderr)
    if done is None and quiet and not args.json:
        return 0
    return _answer(args, done, quiet=quiet)


def _settle(args: Namespace) -> Settled | None:
    """Settle what there is; None if there is nothing."""
    from ...system.machine import host
    from ...system.pending import has_work
    from ...system.store import store

    with host.opened(args.root) as machine, store.opened(machine) as found:
        if args.at_boot and args.root == "/" and has_work.has_guard(machine):
            with open(_GUARDED, "w", encoding="ascii"):
                pass
        if found is None or not has_work.has_work(machine, found):
            return None
        from ...system.execute.trees import Operations
        from ...system.pending import settle as pending_settle
        from ...system.pending.state import Waiting
        from ..session import note
        from ..terminal import lines, progress

        if machine.mount.read_only:
            raise RefusedError(
                f"the filesystem on {machine.mount.source} is read-only",
                hint="'dmesg' may say why.",
            )
        with found.locked(note):
            if args.forget:
                return _forget(machine, found)
            # What nobody sits at is a console.
            watch = lines if args.at_boot or args.missed else progress
            done = pending_settle.settle(
                machine,
                found,
                Operations(machine, watch),
                bring=args.at_boot,
                cut_off=args.missed,
                watch=watch,
            )
            if done.postponed and args.root == "/":
                with open(_UNFINISHED, "w", encoding="ascii"):
                    pass
            is_settled = done.waiting is Waiting.NOTHING and not (args.missed or done.postponed)
            updated = _update_menu(machine, found) if is_settled else ()
            return done._replace(problems=(*done.problems, *updated))


def _forget(machine: Host, found: Store) -> Settled:
    """Give up a rollback whose machine has another root now. Raises RefusedError elsewhere."""
    from ...system.execute.trees import Operations
    from ...system.pending import settle as pending_settle
    from ...system.pending import state

    operations = Operations(machine)
    waiting, said = pending_settle.finish_cut_off(machine, found, operations)
    if waiting.journal is None:
        return pending_settle.Settled(state.Waiting.NOTHING, said)
    state.refuse_stranger(machine, waiting)
    if not state.has_another_root(machine, waiting):
        state.refuse_while_waiting(machine, waiting)
        raise RefusedError(
            "there is nothing to forget: the next boot still uses a root of the rollback",
            hint="'fs-rollback settle' confirms it.",
        )
    done = pending_settle.forget(machine, found, waiting, operations)
    return pending_settle.Settled(state.Waiting.NOTHING, done)


def _update_menu(machine: Host, found: Store) -> tuple[str, ...]:
    """Renew the menu of a /boot that went back: it has the snapshots that there were then."""
    from ...system.root import mounted
    from ...system.snapshots import menu
    from ..session import usable_configuration

    try:
        mounted.refuse_what_is_not_mounted(machine)
    except Error:
        return ()  # before the mounts: that one did not go back
    return menu.update(machine, found, usable_configuration(machine).boot_entries).problems


def _answer(args: Namespace, done: Settled | None, *, quiet: bool) -> int:
    from ...system.pending.settle import Settled
    from ...system.pending.state import Waiting

    done = done or Settled(Waiting.NOTHING)
    said, problems = ([addressed(s, args) for s in lines] for lines in (done.said, done.problems))
    done = done._replace(
        said=tuple(said), problems=tuple(problems), hint=addressed(done.hint, args)
    )
    if args.json:
        _print_json(done)
    else:
        _print(done, addressed(_WAITS, args), quiet=quiet)
    elsewhere = done.waiting in (Waiting.ELSEWHERE, Waiting.DISPLACED)
    return 1 if elsewhere or (done.problems and not args.missed) else 0


def _print(done: Settled, waits: str, *, quiet: bool) -> None:
    from ... import report
    from ...system.pending.state import Waiting

    lines = list(done.said)
    if done.brought:
        lines.append(f"brought over what was written since the rollback: {', '.join(done.brought)}")
    if done.waiting is Waiting.REBOOT and not quiet:
        lines.append(waits)
    if not (lines or done.problems or quiet):
        lines.append("nothing to settle")
    for line in lines:
        print(f"fs-rollback: {report.clean(line)}")
    with suppress(BrokenPipeError):  # main() finds that out at the end
        sys.stdout.flush()  # what was said before comes before
    prefix = _WARNING if quiet else ""
    if done.waiting is Waiting.ELSEWHERE:
        start = "THE MACHINE WAS ROLLED BACK, BUT THIS BOOT DID NOT USE THE NEW ROOT"
        print(f"{prefix}fs-rollback: {start}", file=sys.stderr)
    for line in (*done.problems, *([done.hint] if done.hint else [])):
        print(f"{prefix}fs-rollback: {report.clean(line)}", file=sys.stderr)


def _print_json(done: Settled) -> None:
    from .. import session

    session.print_json(
        {
            "waiting": done.waiting.value,
            "said": list(done.said),
            "brought": list(done.brought),
            "problems": list(done.problems),
            "hint": done.hint or None,
        }
    )


# It is early at boot, and about the boot that this is.
_HELP = "finish or undo a rollback that a power cut interrupted"
COMMAND = command.Command(_HELP, arguments, run, on_own_root=False)
