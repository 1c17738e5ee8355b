# SPDX-License-Identifier: GPL-2.0-or-later
"""What a check found, about the next boot or about a root that may be converted."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple


class Grade(enum.Enum):
    """How good a finding is. Unknown is a warning; `FATAL` stops a boot or a conversion."""

    OK = "ok"
    WARNING = "warning"
    FATAL = "fatal"


# Where a name is not the area of the code in words.
_NAMES = {
    "btrfs-progs": "btrfs-progs",
    "one-shot-entry": "one-shot entry",
    "packages": "{subject}",
    "selinux": "SELinux",
}


class Finding(NamedTuple):
    """One finding: its code, subject and grade, a sentence, and what to do ("" for nothing).

    A code is an area, a dot, and what was found there. It stays the same when the words change,
    because scripts compare it, as this program does. `subject` tells findings of one code apart,
    for instance by a path in the root; it is "" where a code can occur only once. It is the same
    before and after a rollback, so it contains no line number, nor the root's own path or ID.
    """

    code: str
    subject: str
    grade: Grade
    text: str
    advice: str = ""

    @property
    def area(self) -> str:
        """What was checked: the first part of the code."""
        return self.code.partition(".")[0]

    @property
    def name(self) -> str:
        """What was checked, in words for people."""
        name = _NAMES.get(self.area, self.area.replace("-", " "))
        return name.format(subject=self.subject)


def ok(code: str, subject: str, text: str) -> Finding:
    """Return a finding that is good."""
    return Finding(code, subject, Grade.OK, text)


def warning(code: str, subject: str, text: str, advice: str) -> Finding:
    """Return a finding that needs attention, or is unknown."""
    return Finding(code, subject, Grade.WARNING, text, advice)


def fatal(code: str, subject: str, text: str, advice: str) -> Finding:
    """Return a finding that stops a boot or a conversion."""
    return Finding(code, subject, Grade.FATAL, text, advice)


def worst(found: Sequence[Finding]) -> Grade:
    """Return the worst grade: a chain is as good as its weakest link."""
    grades = [finding.grade for finding in found]
    return next((g for g in (Grade.FATAL, Grade.WARNING) if g in grades), Grade.OK)


def exit_code(found: Sequence[Finding]) -> int:
    """Return 0 if all is well, 1 with warnings, 3 if one is fatal."""
    return {Grade.OK: 0, Grade.WARNING: 1, Grade.FATAL: 3}[worst(found)]
