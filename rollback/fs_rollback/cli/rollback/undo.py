# SPDX-License-Identifier: GPL-2.0-or-later
"""`undo`: the way back from a rollback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import command
from .rollback import plan_options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...system.machine.host import Host
    from ...system.pending.state import Window
    from ...system.store.store import Store


def arguments(parser: ArgumentParser) -> None:
    """Add what `undo` takes."""
    plan_options(parser)


def run(args: Namespace) -> int:
    """`undo`: take back a rollback that waits for its reboot, or go back to the replaced root."""
    from ...errors import RefusedError
    from ...system.machine import usable
    from ...system.pending import state
    from .proposal import opened, propose_and_do

    with opened(args) as (host, store):
        found = state.look(host, store)
        used = False
        if found.waiting is not state.Waiting.NOTHING:
            state.refuse_to_take_back(host, found)
            used = state.was_used(host, store, found)
            is_new = found.new_root is not None and found.new_root.id == host.root_id
            if not (used and is_new):
                return _take_back(args, host, store, found, used=used)
        replaced = [
            s
            for s in store.load()
            if s.exists and s.is_replaced and not s.was_taken_back
            if not usable.of_stranger(host, s)
        ]
        if not replaced:
            raise RefusedError(
                "there is no rollback to undo", hint="'fs-rollback list' shows what there is."
            )
        # Roots are replaced in the order in which they were made, whatever the clock said.
        last = max(replaced, key=lambda snapshot: snapshot.id)
        if used and found.old_root is not None:
            last = next(s for s in replaced if s.id == found.old_root.id)
        return propose_and_do(args, host, store, last, "Undo the rollback: go back", found)


def _take_back(args: Namespace, host: Host, store: Store, found: Window, *, used: bool) -> int:
    """Take back a rollback that waits; a new root that was `used` is kept."""
    from datetime import datetime

    from ...core.snapshots.names import REPLACED_PREFIX, free_name
    from ...core.snapshots.record import format_time
    from ...system.execute import executor
    from ...system.execute.trees import Operations
    from ...system.pending import state
    from ...system.rollback import verify
    from .. import session

    journal = found.journal
    assert journal is not None, "a rollback waits"
    if not args.json:
        print(
            f"The rollback to {journal.target} waits for its reboot: it can be taken back entirely."
        )
    if used:
        now = datetime.now().astimezone()
        name = free_name(REPLACED_PREFIX, now, store)
        made_by = f"made by the rollback to {journal.target}, and used"
        kept = journal.plan.keeping_new_root(name, format_time(now), made_by)
        journal = journal._replace(plan=kept)
        session.note(f"the root that the rollback made has been used: it is kept as {name}")
    answer: dict[str, Any] = {"target": journal.target, "taken_back": True, "done": False}
    if args.dry_run or not session.confirm("Take the rollback back?", yes=args.yes):
        return session.unchanged(args, answer)
    with executor.finishing():
        executor.undo(store, journal, Operations(host))
        same_boot = found.waiting is not state.Waiting.ELSEWHERE
        verify.verify_taken_back(host, journal.old_uuid, running=same_boot)
        answer["done"] = True
        is_gone = found.new_root is not None and found.new_root.id == host.root_id
        if is_gone and not host.is_temporary:
            session.note(f"what is mounted on {host.root} was the new root: unmount it")
        return session.reply(args, answer, "Taken back: the machine is as before the rollback.")


_HELP = "cancel a waiting rollback, or return to the root before the last one"
COMMAND = command.Command(_HELP, arguments, run, is_undone=True)
