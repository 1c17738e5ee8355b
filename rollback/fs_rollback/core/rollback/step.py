# SPDX-License-Identifier: GPL-2.0-or-later
"""What a step of any plan is, and how the steps of one are kept as JSON.

A step is data that can say what it does, do it, and undo it. It changes nothing itself: it calls
the operations of a machine. `apply` and `undo` look before they act: either may run again after a
crash, or after the other was interrupted. So one mechanism serves a failing step, a killed process,
a power cut and an undo.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar

Operations = TypeVar("Operations", contravariant=True)  # noqa: PLC0105 - what a step asks of


class Step(Generic[Operations]):
    """One change: a frozen dataclass whose fields are JSON, tuples for lists."""

    def describe(self) -> str:
        """Return a sentence that says what will be done."""
        raise NotImplementedError

    def apply(self, operations: Operations) -> None:
        """Do it, or the rest of it."""
        raise NotImplementedError

    def undo(self, operations: Operations) -> None:
        """Undo it, or as much as was done."""
        raise NotImplementedError

    def by_hand(self) -> tuple[str, ...]:
        """Return the commands that undo it, with the top level mounted on /mnt.

        Only steps that decide which root boots have any: the next run cleans up the rest.
        """
        return ()


class UnknownStepError(ValueError):
    """A stored step that this program does not know."""


def to_json(steps: Iterable[Step[Any]]) -> list[dict[str, Any]]:
    """Return steps as JSON has them; `from_json` reads them back."""
    return [
        {"step": type(step).__name__, **dataclasses.asdict(step)}  # type: ignore[call-overload]
        for step in steps
    ]


def from_json(rows: Iterable[dict[str, Any]], known: Mapping[str, Any]) -> tuple[Any, ...]:
    """Rebuild stored steps from the classes in `known`, whose keys are the stored names.

    Raises UnknownStepError if a step is none of these or does not fit.
    """
    found = []
    for row in rows:
        fields = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in row.items()
            if key != "step"
        }
        try:
            found.append(known[row["step"]](**fields))
        except (KeyError, TypeError) as error:
            raise UnknownStepError(f"unknown step {row.get('step')}: {error}") from error
    return tuple(found)
