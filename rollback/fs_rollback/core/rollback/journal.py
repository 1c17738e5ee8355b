# SPDX-License-Identifier: GPL-2.0-or-later
"""pending.json: a rollback under way, or one that waits for its reboot."""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple

from ..snapshots.record import parse_time
from .plan import Plan

VERSION = 1


class State(enum.Enum):
    """How far a rollback is known to be; what the machine says counts more."""

    PREPARED = "prepared"
    COMMITTED = "committed"


class Pending(NamedTuple):
    """The journal of one rollback: what it is doing, for whom, in which boot of the machine.

    `old_id` and `old_uuid` are the root that goes; `boot_id` (/proc/sys/kernel/random/boot_id) is
    the boot it was done in: as long as that lasts, the new root cannot have run. `generation` is
    the transaction number of the filesystem right before the commit: whatever is newer in the new
    root, the new root has written; 0 is unknown.
    """

    state: State
    created: str
    user: str
    target: str
    old_id: int
    old_uuid: str
    boot_id: str
    plan: Plan
    generation: int = 0


class PendingError(ValueError):
    """The text is not a journal that this program can act on."""


def dump(pending: Pending) -> str:
    """Return the journal as JSON text."""
    data: dict[str, Any] = {"version": VERSION, **pending._asdict()}
    data["state"] = pending.state.value
    data["plan"] = pending.plan.to_json()
    data["new_uuid"] = pending.plan.new_uuid
    return json.dumps(data, indent=1) + "\n"


def parse(text: str) -> Pending:
    """Read a journal. Raises PendingError."""
    try:
        data = json.loads(text)
        if data["version"] > VERSION:
            raise PendingError(f"version {data['version']} is of a newer program")
        parse_time(data["created"])
        plan = Plan.from_json(data["plan"])
        generation = int(data.get("generation", 0))
        if not 0 <= generation < 1 << 63:
            raise PendingError(f"{generation} is no generation")
        return Pending(
            state=State(data["state"]),
            created=data["created"],
            user=data["user"],
            target=data["target"],
            old_id=int(data["old_id"]),
            old_uuid=data["old_uuid"],
            boot_id=data["boot_id"],
            plan=plan.with_new_root(data["new_uuid"]) if data.get("new_uuid") else plan,
            generation=generation,
        )
    except PendingError:
        raise
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise PendingError(f"{type(error).__name__}: {error}") from error
