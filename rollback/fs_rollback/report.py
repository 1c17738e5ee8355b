# SPDX-License-Identifier: GPL-2.0-or-later
"""Turns data into text and JSON; prints nothing, and is the only user of tabulate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Optional

from .core import columns
from .core.packages.changes import summary
from .core.snapshots.names import label, labelled, shortened
from .core.snapshots.purpose import View, typed
from .core.snapshots.record import Kind, Outcome, format_time, replaced_by_dict, transaction_dict
from .core.snapshots.space import size as size  # noqa: PLC0414 - for who has the rest from here

if TYPE_CHECKING:
    from datetime import datetime

    from .core.rollback.step import Step
    from .core.snapshots.events import Event
    from .core.snapshots.record import PackageChange, Record
    from .core.snapshots.retention import Verdict
    from .core.snapshots.snapshot import Roots, Snapshot

_NARROWEST = 12
_MINUTES = len("2026-11-28 10:23")
_ENOUGH = 26  # columns for what a snapshot was taken for, before others go to make room for it
# What goes, the first set that makes enough room. Rows of one minute are told apart by the seconds.
_LEFT_OUT = (
    (),
    ("Name",),
    ("Name", "Kind"),
    ("Name", "Packages"),
    ("Name", "Packages", "Kind"),
    ("Name", "Packages", "Kind", "seconds"),
)
_COLOURS = {
    "running": "green",
    "next": "green",
    "pinned": "cyan",
    "incomplete": "yellow",
    "gone": "yellow",
    "pending": "yellow",
    "failed": "red",
    "interrupted": "red",
}
_BIDI = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


# Returns a text in a colour, or as it is where there are none.
Paint = Callable[[str, str], str]


def unpainted(text: str, _colour: str) -> str:
    """Return a text as it is."""
    return text


def clean(text: str) -> str:
    """Return `text` fit for a terminal: control and direction characters are written out."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        c if (c.isprintable() or c == " ") and c not in _BIDI else _escaped(c) for c in text
    )


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def local_time(moment: datetime, to: str = "minutes") -> str:
    """Return a time in the local time zone, to the minute or to what `to` says."""
    try:
        return moment.astimezone().replace(tzinfo=None).isoformat(" ", to)
    except (OverflowError, ValueError):
        return format_time(moment)  # the first and the last day of all time


def marks(snapshot: Snapshot, roots: Roots) -> list[str]:
    """Return what is special about a snapshot, one word each."""
    found = {
        "running": snapshot.exists and snapshot.id == roots.running,
        "origin": snapshot.exists and snapshot.id == roots.origin,
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


def clock_time(moment: datetime, now: datetime) -> str:
    """Return a time in the local time zone, to the minute; without the date if that is today."""
    said, today = local_time(moment), local_time(now)[:11]
    return said[len(today) :] if said.startswith(today) else said


def view(snapshots: Sequence[Snapshot], now: datetime, running: int = 0) -> View:
    """Return the View for messages about these snapshots: each is called by its label."""
    called = {s.name: label(s) for s in snapshots if s.exists}
    return View(called, partial(clock_time, now=now), running)


def what(snapshot: Snapshot, seen: Optional[View] = None) -> str:
    """Return what a snapshot was taken for: its description, or the command line."""
    return clean((seen or View({}, local_time)).purpose(snapshot)[0])


def command_line(words: Sequence[str]) -> str:
    """Return a command line as one would type it."""
    return clean(typed(words))


def snapshot_table(
    snapshots: Sequence[Snapshot],
    roots: Roots,
    width: Optional[int],
    now: datetime,
    paint: Paint = unpainted,
) -> str:
    """Return the table of `list`, newest last, at most `width` columns wide; None cuts nothing.

    If that is narrow, names, kinds and packages are left out before the last column is cut; IDs,
    dates and marks always stay.
    """
    called = {s.name: str(s.id) for s in snapshots if s.exists}
    seen = View(called, partial(clock_time, now=now), roots.running)
    cells = {
        "ID": [str(s.id or "-") for s in snapshots],
        "Name": [clean(s.name) for s in snapshots],
        "Date": [local_time(s.created, to="seconds") for s in snapshots],
        "Kind": [s.kind.value if s.kind else "?" for s in snapshots],
        "Packages": [_size(s.record) for s in snapshots],
        "Marks": [" ".join(marks(s, roots)) for s in snapshots],
    }
    purposes = [list(map(clean, seen.purpose(s))) for s in snapshots]
    enough = min(max((columns.width(texts[:2][-1]) for texts in purposes), default=0), _ENOUGH)
    # A command does not tell a post from its pre.
    needed = {"Kind"} if any(s.kind is Kind.POST for s in snapshots) else set()
    useless = {header for header in ("Packages", "Marks") if not any(cells[header])}
    if width is not None and len({date[:_MINUTES] for date in cells["Date"]}) == len(snapshots):
        useless.add("seconds")  # no two are of one minute
    for left_out in _LEFT_OUT:
        shown = _without(cells, useless | set(left_out) - needed)
        if width is None or _room(shown, width) >= enough:
            break
    room = None if width is None else max(_room(shown, width), _NARROWEST)
    shown["For"] = [_fitting(texts, room) for texts in purposes]
    if "Marks" in shown:
        words = (text.split() for text in shown["Marks"])
        shown["Marks"] = [" ".join(_coloured(word, paint) for word in row) for row in words]
    return plain_table([list(row) for row in zip(*shown.values())], list(shown))


def _coloured(mark: str, paint: Paint) -> str:
    return paint(mark, _COLOURS[mark]) if mark in _COLOURS else mark


def _without(table: Mapping[str, list[str]], left_out: Set[str]) -> dict[str, list[str]]:
    """Return the columns that are not left out; seconds are a part of the dates."""
    kept = {header: cells for header, cells in table.items() if header not in left_out}
    if "seconds" in left_out:
        kept["Date"] = [date[:_MINUTES] for date in kept["Date"]]
    return kept


def _room(table: Mapping[str, Sequence[str]], width: int) -> int:
    """Return how wide a column can be that comes behind these."""
    # tabulate's "simple" format makes a column two wider than its header, and puts two blanks
    # between columns.
    used = (max(len(h) + 2, *map(columns.width, cells), 0) for h, cells in table.items())
    return width - sum(used) - 2 * len(table)


def _fitting(texts: Sequence[str], room: Optional[int]) -> str:
    """Return the first of the texts that fits, or what fits of the last one."""
    if room is None:
        return texts[0]
    fits = (text for text in texts if columns.width(text) <= room)
    return shortened(next(fits, texts[-1]), room)


def _size(record: Optional[Record]) -> str:
    if record is None or record.transaction is None:
        return ""
    return clean(summary(record.transaction.packages))


def plain_table(rows: list[list[str]], headers: list[str]) -> str:
    """Return a table; nothing in it is cut."""
    from tabulate import tabulate

    alignment = ("right" if headers[0] == "ID" else "left", *["left"] * (len(headers) - 1))
    # It counts characters, but where another package is installed.
    text = tabulate(
        [columns.filled(row) for row in rows],
        headers=headers,
        tablefmt="simple",
        disable_numparse=True,
        colalign=alignment if rows else (),
    )
    text = columns.restored(text, [cell for row in rows for cell in row])
    return "\n".join(line.rstrip() for line in text.splitlines())


def package_table(packages: Sequence[PackageChange]) -> str:
    """Return what happens to packages as a table; nothing in it is cut."""
    rows = [
        [
            p.action,
            f"{p.name}.{p.arch}" if p.arch and not p.old_arch else p.name,
            *(version or "-" for version in p.versions),
        ]
        for p in packages
    ]
    cells = [[clean(cell) for cell in row] for row in rows]
    return plain_table(cells, ["Action", "Package", "From", "To"])


def snapshot_details(snapshot: Snapshot, roots: Roots, seen: View) -> str:
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
        rows += _record_rows(record, what(snapshot, seen), seen)
    text = "\n".join(f"{name + ':':13}{clean(value)}" for name, value in rows)
    if record is not None and record.transaction is not None and record.transaction.packages:
        text += "\n\n" + package_table(record.transaction.packages)
    return text


def _record_rows(record: Record, purpose: str, seen: View) -> list[tuple[str, str]]:
    source = record.source
    rows = [("Source", f"/{source.path} (ID {source.id}, UUID {source.uuid})")]
    if record.uuid:
        rows.append(("UUID", record.uuid))
    if record.full_description:
        rows.append(("Description", purpose))
    if record.replaced_by is not None:
        rows.append(("New root", seen.came_up(record.replaced_by)))
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


def verdict_table(verdicts: Sequence[Verdict], width: Optional[int]) -> str:
    """Return what retention decided and why as a table; the reason is never cut.

    Names are left out where they would make it wider than `width`; None is as wide as it gets.
    """
    headers = ["ID", "Name", "Date", "Verdict", "Reason"]
    rows = [
        [
            str(v.snapshot.id or "-"),
            clean(v.snapshot.name),
            local_time(v.snapshot.created),
            v.action.value,
            clean(v.reason),
        ]
        for v in verdicts
    ]
    table = plain_table(rows, headers)
    if width is None or max(map(columns.width, table.splitlines())) <= width:
        return table
    return plain_table(
        [[number, *others] for number, _, *others in rows], headers[:1] + headers[2:]
    )


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return one verdict as JSON data."""
    return {
        "id": verdict.snapshot.id or None,
        "name": verdict.snapshot.name,
        "verdict": verdict.action.value,
        "reason": verdict.reason,
    }


def event_table(events: Sequence[Event], ids: Mapping[str, int], width: Optional[int]) -> str:
    """Return events, newest last, as a table; the reason is never cut. `ids` are those by name."""
    rows = [
        [
            local_time(e.time) if e.time else "-",
            e.event,
            labelled(e.snapshot, e.snapshot_id or ids.get(e.snapshot)) or "-",
            e.user or "-",
            "; ".join(filter(None, (e.reason, _about(e, ids), e.command))),
        ]
        for e in events
    ]
    cells = [[clean(cell) for cell in row] for row in rows]
    table = plain_table(cells, ["Time", "Event", "Snapshot", "By", "Why"])
    head, rule, *lines = table.splitlines()
    return "\n".join((head, rule[:width], *lines))


def _about(event: Event, ids: Mapping[str, int]) -> str:
    old = labelled(event.replaced, ids.get(event.replaced))
    replaced = old and f"the old root is {old}"
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
