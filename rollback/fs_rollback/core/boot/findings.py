# SPDX-License-Identifier: GPL-2.0-or-later
"""What was found at one link of the chain of a boot, and how good that is."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Any, NamedTuple


class Grade(enum.Enum):
    """How good a link is; what cannot be known is a warning."""

    OK = "ok"
    WARNING = "warning"
    BROKEN = "broken"


class Link(NamedTuple):
    """One link: its name, its grade, what it is or what is wrong, and what to do ("" if good)."""

    name: str
    grade: Grade
    text: str
    advice: str = ""

    @property
    def way(self) -> str:
        """In which way it is broken, without the thing that it is broken on."""
        return self.text.partition(": ")[0]

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data; no advice is null."""
        return {
            "name": self.name,
            "grade": self.grade.value,
            "text": self.text,
            "advice": self.advice or None,
        }


def ok(name: str, text: str) -> Link:
    """Return a link that holds."""
    return Link(name, Grade.OK, text)


def warning(name: str, text: str, advice: str) -> Link:
    """Return a link that needs attention, or cannot be known."""
    return Link(name, Grade.WARNING, text, advice)


def broken(name: str, text: str, advice: str) -> Link:
    """Return a link at which the boot ends."""
    return Link(name, Grade.BROKEN, text, advice)


def verdict(links: Sequence[Link]) -> Grade:
    """Return the worst grade: a chain is as good as its weakest link."""
    grades = [link.grade for link in links]
    return next((g for g in (Grade.BROKEN, Grade.WARNING) if g in grades), Grade.OK)


def exit_code(links: Sequence[Link]) -> int:
    """Return 0 for a good chain, 1 for warnings, 3 for a machine that would not boot."""
    return {Grade.OK: 0, Grade.WARNING: 1, Grade.BROKEN: 3}[verdict(links)]
