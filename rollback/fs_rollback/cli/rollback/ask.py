# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks before a command changes what boots next, and holds no lock while a person thinks.

The command decides twice: before the question, and under the store's lock after the answer. If the
decisions differ, it says how, and asks again.
"""

from __future__ import annotations

from argparse import Namespace
from typing import Any, Callable, Optional, Protocol

from ...errors import Error
from ...system.machine.host import Host
from ...system.store.store import Store
from .. import session


class Intent(Protocol):
    """What a command is about to do. It holds no lock and no open file."""

    @property
    def question(self) -> str:
        """What is asked at the end."""

    @property
    def answer(self) -> dict[str, Any]:
        """What --json says of it; `done` is False."""

    def show(self, args: Namespace) -> None:
        """Print what a person has to know before the answer."""

    def differences(self, shown: Any) -> list[str]:
        """Return what differs from the intent that was `shown`, as far as it matters."""

    def carry_out(self, args: Namespace, host: Host, store: Store) -> int:
        """Do it under the lock, say how it ended, and return the exit code."""


# Reads the machine and decides; the third argument is what was shown before, if anything. Raises
# Error where there is nothing to do, or no safe way.
Decide = Callable[[Host, Store, Optional[Any]], Intent]


def ask_and_do(args: Namespace, decide: Decide) -> int:
    """Decide, show it, ask, and do it; returns the exit code. Raises Error."""
    if args.yes and not args.dry_run:
        with session.writing(args.root) as (host, store):
            intent = decide(host, store, None)
            _show(args, intent)
            return intent.carry_out(args, host, store)
    if not args.dry_run:
        with session.writing(args.root):
            pass  # what an earlier run left is settled before the question
    intent = _look(args, decide)
    while True:
        _show(args, intent)
        if args.dry_run or not session.confirm(intent.question, yes=False):
            return session.unchanged(args, intent.answer)
        with session.writing(args.root) as (host, store):
            try:
                now = decide(host, store, intent)
            except Error:
                session.note("the machine has changed since the question was asked")
                raise
            changed = now.differences(intent)
            if not changed:
                return now.carry_out(args, host, store)
        intent = now
        session.note(f"changed since the question was asked: {'; '.join(changed)}")


def _look(args: Namespace, decide: Decide) -> Intent:
    with session.reading(args.root) as (host, store):
        if store is None:
            raise session.no_store(host)
        return decide(host, store, None)


def _show(args: Namespace, intent: Intent) -> None:
    if not args.json:
        intent.show(args)
