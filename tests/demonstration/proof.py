# SPDX-License-Identifier: GPL-2.0-or-later
"""Claims, and the checks that prove them."""

from __future__ import annotations

import pprint
import re
from collections.abc import Iterable

from .screen import Screen


class DemoError(Exception):
    """Why the demo stops, in words that need no traceback."""


class CheckFailedError(DemoError):
    """Something is not what the demo claims it is."""

    def __init__(self, what: str, expected: object, found: object) -> None:
        super().__init__(f"{what}\n  expected: {_shown(expected)}\n  found:    {_shown(found)}")


class Proof:
    """What was claimed, with the number of checks that held for each claim."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._claims: list[tuple[str, int]] = []

    @property
    def checks(self) -> int:
        """The number of checks so far."""
        return sum(count for _, count in self._claims)

    def claim(self, sentence: str) -> None:
        """Begin a claim; the checks that follow are its proof."""
        self._claims.append((sentence, 0))

    def equal(self, what: str, found: object, expected: object) -> None:
        """Check that a value is the expected one."""
        self._check(what, expected, found, holds=found == expected)

    def says(self, what: str, text: str, *expected: str) -> None:
        """Check that a text holds each of the others, however its lines are broken."""
        flat = " ".join(text.split())
        missing = [part for part in expected if part not in flat]
        self._check(what, f"a text with {missing or expected}", text, holds=not missing)

    def one_line(self, what: str, text: str, pattern: str) -> re.Match[str]:
        """Check that one line of a text, and no other, is as the pattern says; return the match."""
        found = [match for line in text.splitlines() if (match := re.fullmatch(pattern, line))]
        self._check(what, f"one line like {pattern}", text, holds=len(found) == 1)
        return found[0]

    def summary(self) -> Iterable[str]:
        """Return a line for each claim."""
        for number, (sentence, count) in enumerate(self._claims, start=1):
            if count == 0:
                raise CheckFailedError(f"something was checked for: {sentence}", "a check", "none")
            yield f"{number:2}. {sentence} ({count} {'check' if count == 1 else 'checks'})"

    def _check(self, what: str, expected: object, found: object, *, holds: bool) -> None:
        if not holds:
            raise CheckFailedError(f"check {self.checks + 1}: {what}", expected, found)
        sentence, count = self._claims[-1]
        self._claims[-1] = sentence, count + 1
        self._screen.passed(what)


def _shown(value: object) -> str:
    text = value.rstrip() if isinstance(value, str) else pprint.pformat(value, width=100)
    return text.replace("\n", "\n            ")
