# SPDX-License-Identifier: GPL-2.0-or-later
"""Removes the guard before a transaction, and sets it again afterwards.

While packages change, the usual entry must be the loader's default: scripts read it, and set it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ...config import Config
from ...core.snapshots.record import Record
from ...errors import Error, RefusedError
from ..machine.host import Host
from ..pending import has_work
from ..store import guards
from ..store.store import Store
from . import arm, health, outcome

_HINT = "After 'fs-rollback guard acknowledge', unattended updates run again."


class Around(NamedTuple):
    """The guard to set after a transaction: the snapshot to fall back to.

    `was_armed`: the boot was also guarded before the transaction.
    """

    back: str
    was_armed: bool


def refuse_unattended(host: Host, store: Store) -> tuple[str, ...]:
    """Return the warning about a failed guarded boot that nobody has acknowledged.

    Raises RefusedError with it if this process has no terminal.
    """
    if not has_work.has_guard(host):
        return ()
    failure = guards.read(store).unacknowledged
    if failure is None:
        return ()
    said = outcome.sentence(failure)
    if not is_attended():
        raise RefusedError(said, hint=_HINT)
    return (f"{said}. {_HINT}",)


def before(host: Host, store: Store, config: Config, record: Record) -> Around | None:
    """Remove a guard; returns the guard to set after the transaction of `record`, if any.

    Needs the lock. Raises Error.
    """
    was = guards.read(store).armed if has_work.has_guard(host) else None
    if was is not None and arm.why_out_of_reach(host, was):
        return None  # it stays as it is, and the scripts cannot read it either
    if was is not None and not arm.is_armed(host, was):
        was = None
    arm.disarm(host, store)
    if was is None and config.guard == "no":
        return None
    # Packages were changed since a boot was healthy: what runs now may not boot either.
    is_older = was is not None and was.is_unproven and was.snapshot in store.subvolumes()
    back = was.snapshot if was is not None and is_older else record.name
    return Around(back, was is not None)


def after(
    host: Host, store: Store, around: Around, record: Record, config: Config
) -> Sequence[str]:
    """Guard the next boot; returns problems as sentences. Needs the lock."""
    host.forget()
    never = health.never(host, config.health_units)
    if never:
        return (
            f"the next boot is not guarded because it could never be healthy: {never}"
            " (health_units)",
        )
    try:
        return _armed(host, store, config, (around.back, record.name))
    except Error as error:  # as promised: in words
        return (error.line,)


def again(host: Host, store: Store, config: Config) -> Sequence[str]:
    """Guard the next boot again, with whatever the usual entry is now.

    Returns problems as sentences. Needs the lock.
    """
    try:
        armed = guards.read(store).armed
        return _armed(host, store, config, (armed.snapshot,)) if armed is not None else ()
    except Error as error:  # as promised: in words
        return (error.line,)


def _armed(host: Host, store: Store, config: Config, names: Sequence[str]) -> Sequence[str]:
    """Guard the next boot with the first of these snapshots that is there as the way back."""
    there = store.subvolumes()
    found = next((there[name] for name in names if name in there), None)
    if found is None:
        arm.disarm(host, store)
        return (f"the next boot is not guarded: {names[0]} no longer exists",)
    arm.arm(host, store, store.snapshot_of(found), config.boot_entries, is_unproven=True)
    return ()


def is_attended() -> bool:
    """Whether this process has a terminal: timers, services and offline updates have none."""
    with suppress(OSError):  # ENXIO: there is none
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
        return True
    return False
