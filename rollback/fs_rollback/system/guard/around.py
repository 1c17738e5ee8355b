# SPDX-License-Identifier: GPL-2.0-or-later
"""The guard around a transaction: taken back before it, and set again after it.

While packages change the loader's default is the usual one: their scripts read it, and set it.
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
    """What is to be guarded after a transaction: the snapshot that the way leads back to.

    `was_armed`: the boot was guarded before it too.
    """

    back: str
    was_armed: bool


def refuse_unattended(host: Host, store: Store) -> tuple[str, ...]:
    """Return what has to be said of a guarded boot that has failed, if no person knows of it.

    Raises RefusedError with it where no person is here either.
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
    """End a guard; returns what is to be done after the transaction that `record` is of, if it is.

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
    """Guard the next boot; returns what went wrong in words. Needs the lock."""
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
    """Guard the next boot as it was, whatever has become of the usual entry since.

    Returns what went wrong in words. Needs the lock.
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
