# SPDX-License-Identifier: GPL-2.0-or-later
"""The state of the guard: `guard.state` in the store, read and written."""

from __future__ import annotations

from ...core.guard import state
from ...core.guard.state import Guard
from ...core.snapshots.snapshot import GUARD, STORE
from ...errors import StoreError
from ..linux import durable, files
from .store import Store


def read(store: Store) -> Guard:
    """Return the state. Raises StoreError where it cannot be read."""
    text = files.read_in_tree(store.directory, GUARD)
    if text is None:
        return Guard()
    try:
        return state.parse(text)
    except state.GuardError as error:
        raise StoreError(
            f"the state of the guarded boot cannot be read ({error})",
            hint="A newer fs-rollback may have written it: use that one. Otherwise move"
            f" /{STORE}/{GUARD} away, and set the default boot entry by hand.",
        ) from error


def glance(top: int) -> Guard:
    """Return the state in the store of an open top level, an empty one where it cannot be read.

    For what does not act on it: who does, says what is wrong with it.
    """
    text = files.read_in_tree(top, f"{STORE}/{GUARD}")
    try:
        return state.parse(text) if text is not None else Guard()
    except state.GuardError:  # see above
        return Guard()


def write(store: Store, guard: Guard) -> None:
    """Write the state durably, no file where there is nothing to say. Raises KernelError."""
    if guard == Guard():
        durable.remove_durably(store.directory, GUARD)
    else:
        durable.write_text(store.directory, GUARD, state.dump(guard))
