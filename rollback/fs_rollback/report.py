# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns what the program knows into text and JSON data; prints nothing, alone uses tabulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Optional

from .core.packages.changes import summary
from .core.snapshots.record import Outcome, format_time, replaced_by_dict, transaction_dict

if TYPE_CHECKING:
    from datetime import datetime

    from .core.boot.findings import Finding, Grade
    from .core.rollback.step import Step
    from .core.snapshots.events import Event
    from .core.snapshots.record import PackageChange, Record
    from .core.snapshots.retention import Verdict
    from .core.snapshots.snapshot import Roots, Snapshot

_NARROWEST = 12
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clean(text: str) -> str:
    """Return `text` fit for a terminal: control and direction characters are written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if (c.isprintable() or c == " ") and c not in _BIDI else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def local_time(moment: datetime) -> str:
    """Return a time in the local time zone, to the minute."""
    try:
        return moment.astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError):
        return format_time(moment)  # the first and the last day of all time


def marks(snapshot: Snapshot, roots: Roots) -> list[str]:
    """Return what is special about a snapshot, one word each."""
    found = {
        "running": snapshot.exists and snapshot.id == roots.running,
        "next": snapshot.exists and snapshot.id == roots.next,
        "default": snapshot.exists and snapshot.id == roots.default,
        "pinned": snapshot.pinned,
        "incomplete": snapshot.incomplete,
        "gone": snapshot.gone,
        "pending": snapshot.pending and snapshot.exists,
        "failed": _ended(snapshot, Outcome.FAILED),
        "interrupted": _ended(snapshot, Outcome.INTERRUPTED),
        "trial": snapshot.of_trial,
    }
    return [word for word, holds in found.items() if holds]


def _ended(snapshot: Snapshot, outcome: Outcome) -> bool:
    transaction = snapshot.record.transaction if snapshot.record else None
    return transaction is not None and transaction.outcome is outcome


def what(snapshot: Snapshot) -> str:
    """Return what a snapshot was taken for: description, or the command line."""
    record = snapshot.record
    if record is None:
        return clean(snapshot.problem)
    if record.full_description:
        return clean(record.full_description)
    if record.transaction is not None:
        return command_line(record.transaction.command_line)
    return ""


def command_line(words: Sequence[str]) -> str:
    """Return a command line as one would type it."""
    if any(" " in word for word in words):
        import shlex

        words = [shlex.quote(word) if " " in word else word for word in words]
    return clean(" ".join(words))


def snapshot_table(snapshots: Sequence[Snapshot], roots: Roots, width: int) -> str:
    """Return the table of `list`, newest last, at most `width` columns wide.

    The last column gives way first, then the packages; IDs, dates and marks are never cut.
    """
    rows = [
        [
            str(s.id or "-"),
            local_time(s.created),
            s.kind.value if s.kind else "?",
            _size(s.record),
            " ".join(marks(s, roots)),
            what(s),
        ]
        for s in snapshots
    ]
    headers = ["ID", "Date", "Kind", "Packages", "Marks", "For"]
    # An empty column would only take room from the last one.
    used = [i for i in range(6) if i not in (3, 4) or any(row[i] for row in rows)]
    packages = (used.index(3),) if 3 in used else ()
    shown = [[row[i] for i in used] for row in rows]
    return _table(shown, [headers[i] for i in used], width, (-1, *packages))


def _size(record: Optional[Record]) -> str:
    if record is None or record.transaction is None:
        return ""
    return clean(summary(record.transaction.packages))


def _table(
    rows: list[list[str]], headers: list[str], width: int, flexible: Sequence[int] = (-1,)
) -> str:
    """Return a table that fits `width`: the `flexible` columns give way, the first one first."""
    from tabulate import tabulate

    # tabulate's "simple" format makes a column two wider than its header, and puts two blanks
    # between columns.
    widths = [max(len(h) + 2, *(len(row[i]) for row in rows), 0) for i, h in enumerate(headers)]
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    for column in flexible:
        less = min(max(excess, 0), max(widths[column] - _NARROWEST, 0))
        widths[column] -= less
        excess -= less
    alignment = ("right" if headers[0] == "ID" else "left", *["left"] * (len(headers) - 1))
    cut = [[_shortened(text, widths[i]) for i, text in enumerate(row)] for row in rows]
    text = tabulate(
        cut,
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=alignment if rows else (),
    )
    return "\n".join(line.rstrip() for line in text.splitlines())


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else text[: max(width - 3, 0)] + "..."


def package_table(packages: Sequence[PackageChange]) -> str:
    """Return what happens to packages as a table; nothing in it is cut."""
    rows = [
        [p.action, f"{p.name}.{p.arch}" if p.arch else p.name, p.old or "-", p.new or "-"]
        for p in packages
    ]
    cells = [[clean(cell) for cell in row] for row in rows]
    return _table(cells, ["Action", "Package", "From", "To"], width=0, flexible=())


def snapshot_details(snapshot: Snapshot, roots: Roots) -> str:
    """Return everything about one snapshot as text."""
    record = snapshot.record
    rows = [("Name", snapshot.name), ("ID", str(snapshot.id or "-"))]
    rows.append(("Date", local_time(snapshot.created)))
    rows.append(("Kind", snapshot.kind.value if snapshot.kind else "unknown"))
    rows.append(("Path", "/" + snapshot.path if snapshot.path else "the top level"))
    if found := marks(snapshot, roots):
        rows.append(("Marks", ", ".join(found)))
    if snapshot.problem:
        rows.append(("Problem", snapshot.problem))
    if record is not None:
        rows += _record_rows(record)
    text = "\n".join(f"{label + ':':13}{clean(value)}" for label, value in rows)
    if record is not None and record.transaction is not None and record.transaction.packages:
        text += "\n\n" + package_table(record.transaction.packages)
    return text


def _record_rows(record: Record) -> list[tuple[str, str]]:
    source = record.source
    rows = [("Source", f"/{source.path} (ID {source.id}, UUID {source.uuid})")]
    if record.uuid:
        rows.append(("UUID", record.uuid))
    if record.full_description:
        rows.append(("Description", record.full_description))
    if record.kernels:
        rows.append(("Kernels", ", ".join(record.kernels)))
    transaction = record.transaction
    if transaction is not None:
        rows.append(("Command", command_line(transaction.command_line)))
        rows.append(("User", transaction.user))
        rows.append(("Tool", transaction.tool))
        number = f" (history ID {transaction.history_id})" if transaction.history_id else ""
        rows.append(("Outcome", transaction.outcome.value + number))
        rows.append(("Packages", summary(transaction.packages)))
    return rows


def snapshot_json(snapshot: Snapshot, roots: Roots) -> dict[str, Any]:
    """Return one snapshot as JSON data."""
    record = snapshot.record
    return {
        "id": snapshot.id or None,
        "name": snapshot.name,
        "kind": snapshot.kind.value if snapshot.kind else None,
        "created": format_time(snapshot.created),
        "path": "/" + snapshot.path,
        "marks": marks(snapshot, roots),
        "problem": snapshot.problem or None,
        "description": record.full_description if record else None,
        "replaced_by": replaced_by_dict(record.replaced_by) if record else None,
        "uuid": snapshot.subvolume.uuid if snapshot.subvolume else None,
        "source": record.source._asdict() if record else None,
        "kernels": list(record.kernels) if record else None,
        "transaction": transaction_dict(record.transaction) if record else None,
    }


def verdict_table(verdicts: Sequence[Verdict]) -> str:
    """Return what retention decided and why as a table; the reason is never cut."""
    rows = [
        [
            str(v.snapshot.id or "-"),
            local_time(v.snapshot.created),
            v.action.value,
            clean(v.reason),
        ]
        for v in verdicts
    ]
    return _table(rows, ["ID", "Date", "Verdict", "Reason"], width=0, flexible=())


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return one verdict as JSON data."""
    return {
        "id": verdict.snapshot.id or None,
        "name": verdict.snapshot.name,
        "verdict": verdict.action.value,
        "reason": verdict.reason,
    }


def event_table(events: Sequence[Event], width: int) -> str:
    """Return events, newest last, as a table; the reason is never cut."""
    rows = [
        [
            local_time(e.time) if e.time else "-",
            e.event,
            e.snapshot or "-",
            e.user or "-",
            "; ".join(filter(None, (e.reason, _about(e), e.command))),
        ]
        for e in events
    ]
    cells = [[clean(cell) for cell in row] for row in rows]
    table = _table(cells, ["Time", "Event", "Snapshot", "By", "Why"], width=0, flexible=())
    head, rule, *lines = table.splitlines()
    return "\n".join((head, rule[:width], *lines))


def _about(event: Event) -> str:
    replaced = event.replaced and f"the old root is {event.replaced}"
    return "; ".join(filter(None, (replaced, event.system and f"on {event.system}")))


def event_json(event: Event) -> dict[str, Any]:
    """Return one event as JSON data."""
    found = {key: value or None for key, value in event._asdict().items()}
    return {**found, "time": format_time(event.time) if event.time else None}


def steps_json(steps: Sequence[Step[Any]]) -> list[dict[str, Any]]:
    """Return the steps of a plan as JSON data: the kind of each, its sentence, its fields."""
    from .core.rollback.step import to_json

    rows = zip(to_json(steps), steps)
    return [{"step": row["step"], "sentence": step.describe(), **row} for row, step in rows]


class Wording(NamedTuple):
    """How a command tells what it found: its keys in JSON, its words, what they all come to."""

    rows: str
    grade: str
    words: Mapping[Grade, str]
    verdicts: Mapping[Grade, str]


def boot_wording() -> Wording:
    """Return how `check` tells what it found."""
    from .core.boot.findings import Grade

    return Wording(
        rows="links",
        grade="grade",
        words={Grade.OK: "ok", Grade.WARNING: "warning", Grade.FATAL: "broken"},
        verdicts={
            Grade.OK: "The next boot finds everything it needs.",
            Grade.WARNING: "The next boot finds what it needs as far as can be known; see the"
            " warnings.",
            Grade.FATAL: "This machine would not boot as it should.",
        },
    )


def findings_text(found: Sequence[Finding], wording: Wording) -> str:
    """Return what was found: a line each, what to do below it, and the verdict last."""
    from .core.boot.findings import Grade, worst

    width = max((len(finding.name) for finding in found), default=0)
    lines = []
    for finding in found:
        word = wording.words[finding.grade]
        lines.append(f"{word:7}  {finding.name:{width}}  {clean(finding.text)}")
        if finding.grade is not Grade.OK and finding.advice:
            lines.append(f"{'':{width + 11}}{clean(finding.advice)}")
    return "\n".join([*lines, "", wording.verdicts[worst(found)]])


def findings_json(found: Sequence[Finding], wording: Wording) -> dict[str, Any]:
    """Return what was found as JSON data; no advice and no subject are null."""
    from .core.boot.findings import worst

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


def size(count: int) -> str:
    """Return a number of bytes in the unit that fits."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} TiB"
