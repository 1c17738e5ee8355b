# SPDX-License-Identifier: GPL-2.0-or-later
"""`undo`: the way back from a rollback."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from .. import command
from .rollback import plan_options

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...core.rollback.journal import Pending
    from ...core.snapshots.snapshot import Snapshot
    from ...system.machine.host import Host
    from ...system.pending.state import Window
    from ...system.store.store import Store
    from .ask import Intent


def arguments(parser: ArgumentParser) -> None:
    """Add what `undo` takes."""
    plan_options(parser)
    parser.add_argument(
        "--to-replaced",
        action="store_true",
        help="go back to the root before the last rollback; refused while a rollback waits, and"
        " required with --yes if none does",
    )


def run(args: Namespace) -> int:
    """`undo`: cancel a rollback that waits for its reboot, or go back to the replaced root."""
    from .ask import ask_and_do

    return ask_and_do(args, partial(_decide, args))


def _decide(args: Namespace, host: Host, store: Store, shown: Optional[Intent]) -> Intent:
    from ...system.pending import state
    from .proposal import go_back
    from .target import Wish

    found = state.look(host, store)
    used = False
    if found.waiting is not state.Waiting.NOTHING:
        state.refuse_to_take_back(host, found)
        used = state.was_used(host, store, found)
        is_new = found.new_root is not None and found.new_root.id == host.root_id
        if not (used and is_new):
            cancel = _Cancel(found, used, _target(store, found))
            _refuse_another_meaning(args, cancel)
            return cancel
    target = _replaced(host, store, found.old_root.id if used and found.old_root else 0)
    by = target.record.replaced_by if target.record else None
    ended = "was given up" if by is not None and by.given_up else "was already booted"
    why = "root that the waiting rollback made has been used" if used else f"rollback {ended}"
    note = f"The {why}, so this goes back to the root from before it."
    wish = Wish("Undo the rollback: go back", target, (note,))
    intent = go_back(args, host, store, wish, found, shown)
    _refuse_to_guess(args, target, found)  # last: it must not hide why this cannot be done at all
    return intent


def _replaced(host: Host, store: Store, number: int) -> Snapshot:
    """Return the root that was replaced last, or that has this ID. Raises RefusedError."""
    from ...errors import RefusedError
    from ...system.machine import usable

    replaced = [
        s
        for s in store.load()
        if s.exists and s.is_replaced and not s.was_taken_back
        if not usable.of_stranger(host, s)
    ]
    if not replaced:
        raise RefusedError(
            "there is no rollback to undo", hint="'fs-rollback list' shows all snapshots."
        )
    if number:
        return next(s for s in replaced if s.id == number)
    # Roots are replaced in the order in which they were made, whatever the clock said.
    return max(replaced, key=lambda snapshot: snapshot.id)


def _target(store: Store, found: Window) -> str:
    """Return what messages call the snapshot that a waiting rollback goes back to."""
    from ...core.snapshots.names import label

    assert found.journal is not None, "a rollback waits"
    name = found.journal.target
    return next((label(s) for s in store.load() if s.name == name), name)


def _refuse_another_meaning(args: Namespace, cancel: _Cancel) -> None:
    from ...errors import RefusedError

    if args.to_replaced:
        raise RefusedError(
            f"the rollback to {cancel.target} waits for its reboot; --to-replaced works only when"
            " none waits",
            hint="To cancel that rollback: fs-rollback undo",
        )


def _refuse_to_guess(args: Namespace, target: Snapshot, found: Window) -> None:
    """Raise RefusedError where a script that wanted to cancel would get a rollback."""
    from ...core.snapshots.names import label
    from ...errors import RefusedError
    from ...system.pending.state import Waiting

    if args.yes and not (args.dry_run or args.to_replaced):
        waits = found.waiting is not Waiting.NOTHING
        why = "the new root has been used" if waits else "no rollback is waiting for a reboot"
        raise RefusedError(
            f"{why}, so there is nothing to cancel; with --yes, going back to the replaced root"
            f" {label(target)} needs --to-replaced",
            hint="fs-rollback undo --yes --to-replaced",
        )


class _Cancel(NamedTuple):
    """Cancels a rollback that waits for its reboot: an Intent of ask.py.

    `used`: the new root has changes of its own, and is kept. `target` is what messages call the
    snapshot that it is a copy of.
    """

    found: Window
    used: bool
    target: str

    @property
    def question(self) -> str:
        """What is asked at the end."""
        return f"Cancel the rollback to {self.target}?"

    @property
    def journal(self) -> Pending:
        """The rollback that waits."""
        assert self.found.journal is not None, "a rollback waits"
        return self.found.journal

    @property
    def answer(self) -> dict[str, Any]:
        """What --json says of it."""
        return {"target": self.journal.target, "taken_back": True, "done": False}

    def show(self, args: Namespace) -> None:
        """Say that nothing is lost."""
        from .question import paragraphs

        del args
        print(
            paragraphs(
                f"The rollback to {self.target} waits for its reboot. This cancels it: the next"
                " boot uses the root from before it, as if nothing had been done.",
                *(["The root that it made has been used, and is kept."] if self.used else ()),
            )
        )

    def differences(self, shown: Any) -> list[str]:
        """Return what differs from what was `shown`: which rollback, and whether it was used."""
        if not isinstance(shown, _Cancel):
            return ["a rollback is waiting for a reboot"]
        if self.journal.new_uuid != shown.journal.new_uuid:
            return ["another rollback is waiting for a reboot"]
        if self.used != shown.used:
            return ["the root that the rollback made has been used"]
        return []

    def carry_out(self, args: Namespace, host: Host, store: Store) -> int:
        """Undo the rollback; a new root that was used is kept."""
        from ...system.execute import executor
        from ...system.execute.trees import Operations
        from ...system.pending import state
        from ...system.rollback import verify
        from .. import session

        found, answer = self.found, self.answer
        journal = self._keeping_new_root(store) if self.used else self.journal
        with executor.finishing():
            executor.undo(store, journal, Operations(host))
            same_boot = found.waiting is not state.Waiting.ELSEWHERE
            verify.verify_taken_back(host, journal.old_uuid, running=same_boot)
            answer["done"] = True
            is_gone = found.new_root is not None and found.new_root.id == host.root_id
            if is_gone and not host.is_temporary:
                session.note(f"the new root is gone, but still mounted on {host.root}: unmount it")
            return session.reply(
                args, answer, "Rollback canceled: the machine is as it was before."
            )

    def _keeping_new_root(self, store: Store) -> Pending:
        from datetime import datetime

        from ...core.snapshots.names import REPLACED_PREFIX, free_name
        from ...core.snapshots.record import format_time
        from .. import session

        now = datetime.now().astimezone()
        name = free_name(REPLACED_PREFIX, now, store)
        made_by = f"made by the rollback to {self.journal.target}, and used"
        kept = self.journal.plan.keeping_new_root(name, format_time(now), made_by)
        session.note(f"the root that the rollback made has been used: it is kept as {name}")
        return self.journal._replace(plan=kept)


_HELP = "cancel a waiting rollback, or return to the root before the last one"
COMMAND = command.Command(_HELP, arguments, run, is_undone=True)
