# SPDX-License-Identifier: GPL-2.0-or-later
"""The findings of `check` and `convert check`, as text and as JSON data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ...core import columns
from ...report import Paint, clean, unpainted

if TYPE_CHECKING:
    from ...core.boot.findings import Finding, Grade


class Wording(NamedTuple):
    """How a command reports findings: its keys in JSON, a word and a verdict for each grade."""

    rows: str
    grade: str
    words: Mapping[Grade, str]
    verdicts: Mapping[Grade, str]


def boot_wording() -> Wording:
    """Return how `check` reports findings."""
    from ...core.boot.findings import Grade

    return Wording(
        rows="links",
        grade="grade",
        words={Grade.OK: "ok", Grade.WARNING: "warning", Grade.FATAL: "broken"},
        verdicts={
            Grade.OK: "The next boot finds everything it needs.",
            Grade.WARNING: "Nothing was found that would stop the next boot; see the warnings.",
            Grade.FATAL: "This machine would not boot as it should.",
        },
    )


# Brings a sentence behind a start, and an indent of further lines, to the width of the screen.
Wrap = Callable[[str, str, int], list[str]]


def findings_text(
    found: Sequence[Finding], wording: Wording, wrap: Wrap, paint: Paint = unpainted
) -> str:
    """Return findings as text: each with its advice below it, and the verdict last."""
    from ...core.boot.findings import Grade, worst

    width = max((columns.width(finding.name) for finding in found), default=0)
    colours = {Grade.OK: "green", Grade.WARNING: "yellow", Grade.FATAL: "red"}
    lines = []
    for finding in found:
        word = wording.words[finding.grade]
        start = f"{word:7}  {columns.padded(finding.name, width)}  "
        first, *others = wrap(start, clean(finding.text), width + 11)
        lines += [paint(word, colours[finding.grade]) + first[len(word) :], *others]
        if finding.grade is not Grade.OK and finding.advice:
            lines += wrap(" " * (width + 11), clean(finding.advice), width + 11)
    verdict = wording.verdicts[worst(found)]
    broken = dict.fromkeys(f.name for f in found if f.grade is Grade.FATAL)
    if broken:  # what it is may have left the screen
        verdict = f"{verdict.rstrip('.')}: {', '.join(broken)} (see above)."
    return "\n".join([*lines, "", *wrap("", verdict, 0)])


def findings_json(found: Sequence[Finding], wording: Wording) -> dict[str, Any]:
    """Return findings as JSON data; a missing advice or subject is null."""
    from ...core.boot.findings import worst

    rows = [
        {
            "name": finding.name,
            wording.grade: wording.words[finding.grade],
            "text": finding.text,
            "advice": finding.advice or None,
            "code": finding.code,
            "subject": finding.subject or None,
        }
        for finding in found
    ]
    return {"verdict": wording.words[worst(found)], wording.rows: rows}
