# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether services are active, from what systemctl(1) shows of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PROPERTIES = ("LoadState", "ActiveState", "NRestarts")
_ON_THE_WAY = ("activating", "reloading", "refreshing")


class Unit(NamedTuple):
    """A unit under the name it was asked for; systemd.unit(5) explains the values."""

    name: str
    load: str
    active: str
    restarts: str


def parse(names: Sequence[str], shown: str) -> tuple[Unit, ...]:
    """Read what `systemctl show --property=...` printed, a block for each of the `names`.

    Raises ValueError if the output is something else.
    """
    blocks = [block for block in shown.split("\n\n") if block.strip()]
    if len(blocks) != len(names):
        raise ValueError(f"{len(blocks)} units for {len(names)}")
    rows = [dict(line.split("=", 1) for line in block.strip().split("\n")) for block in blocks]
    return tuple(
        Unit(name, *(row.get(key, "") for key in PROPERTIES)) for name, row in zip(names, rows)
    )


def is_on_the_way(units: Sequence[Unit]) -> bool:
    """Whether one of them is being started."""
    return any(unit.active in _ON_THE_WAY for unit in units)


def trouble(before: Sequence[Unit], after: Sequence[Unit]) -> str:
    """Return what is wrong with the first unit that is not active, "" if all are.

    `before` and `after` are the units at two moments, some seconds apart.
    """
    for one, other in zip(before, after):
        if other.load == "not-found":
            return f"there is no unit {other.name}"
        if other.restarts != one.restarts:
            return f"{other.name} keeps restarting"
        if other.active != "active":
            return f"{other.name} is {other.active or 'unknown'}"
    return ""
