# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback that waits for its reboot or was cut off, as the reading commands tell of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...errors import StoreError

if TYPE_CHECKING:
    from ...system.machine.host import Host
    from ...system.store.store import Store


def waiting(host: Host, store: Store | None) -> tuple[str, list[str]]:
    """Return what waits, in one word, and what to say of it."""
    if store is None or not store.has_journal():
        return "nothing", []
    from ...system.pending import state as pending_state

    try:
        found = pending_state.look(host, store)
    except StoreError as error:  # the answer
        return "unknown", [error.line]
    if found.journal is None:
        return "nothing", []
    target = pending_state.target_of(host, found.journal)
    if found.waiting is pending_state.Waiting.REBOOT:
        said = f"the rollback to {target} is waiting for a reboot; 'fs-rollback undo' cancels it"
        return "reboot", [said]
    if found.waiting is pending_state.Waiting.DISPLACED:
        why = pending_state.explain(host, found)
        return "displaced", [why.line]
    if found.waiting is pending_state.Waiting.ELSEWHERE:
        why = pending_state.explain(host, found)
        return "elsewhere", [
            f"the machine was rolled back to {target}, but this boot did not use that root:"
            f" {why.sentence}. {why.hint}"
        ]
    if found.journal.state.value == "prepared":
        return "interrupted", [
            f"a rollback to {target} was interrupted; the next command that changes something"
            " finishes or undoes it"
        ]
    return "nothing", []
