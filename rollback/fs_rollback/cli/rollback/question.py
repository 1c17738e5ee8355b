# SPDX-License-Identifier: GPL-2.0-or-later
"""The question of `rollback` and `undo`: what reverts and what stays, for a screen of 24 lines."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import NamedTuple, Optional

from ... import report
from ...core.columns import padded
from ...core.columns import width as width_of
from ...core.comparison.files import FileChange
from ...core.comparison.upkeep import is_kept_by_restore
from ...core.packages.advisories import Advisory
from ...core.packages.changes import summary
from ...core.packages.weight import heaviest_first
from ...core.rollback.steps import CarrySubvolume, RootStep
from ...core.snapshots.names import grouped, label
from ...core.snapshots.record import PackageChange
from ...core.snapshots.snapshot import Snapshot
from ...system.rollback.propose import Proposal
from ...system.rollback.reverts import Data
from ..terminal import HARD, columns, wrapped
from .facts import Facts, advisory_line

_MOST = 12
_ROWS = 24  # of a console
_LABELS = 12
_WORST = 3  # advisories
_DONE = {"added": "new", "removed": "deleted", "changed": "changed", "renamed": "renamed"}
_BY_RESTORE = "kept by restore"
_LINES = 4  # for the packages
_OPTION = 24  # of an option that keeps data, so much fits beside what it keeps, if there is room
_WRITTEN = len("written until 2026-11-29 22:05")


class Screen(NamedTuple):
    """Where it is shown: None for both where nothing is cut or broken, as in a pipe."""

    width: Optional[int]
    rows: Optional[int]


def screen() -> Screen:
    """Return the size of the terminal on standard output."""
    if not sys.stdout.isatty():
        return Screen(None, None)
    try:
        rows = os.get_terminal_size(1).lines
    except OSError:  # it tells nothing
        rows = 0
    return Screen(columns(), rows or _ROWS)


def target_line(verb: str, target: Snapshot, purpose: str) -> str:
    """Return the line that names the target, and what it is from before (`purpose`)."""
    if target.is_replaced:
        return f"{verb} to {label(target)}, {purpose}"
    is_before = target.record is not None and target.record.transaction is not None
    said = f"{', before' if is_before else ''}: {purpose}" if purpose else ""
    return f"{verb} to snapshot {label(target)}, taken {report.local_time(target.created)}{said}"


def text(head: Sequence[str], proposal: Proposal, facts: Facts, back: str) -> str:
    """Return what to show before the question, with lists that are cut until it fits the screen.

    `head` comes first; `back` says how to undo the rollback.
    """
    shown = screen()
    most = _MOST
    while True:
        lines = [
            *(line for one in head for line in wrapped("", one, 2, shown.width)),
            *_lines(facts, shown.width, most),
            *wrapped("  ", back, 4, shown.width),
        ]
        for sentence in (*facts.missing, *proposal.warnings):
            lines += wrapped("", f"Warning: {sentence}", 2, shown.width)
        # The last line is the question itself.
        if shown.rows is None or len(lines) < shown.rows or most == 1:
            return "\n".join(lines)
        most = most - 1 if most <= 4 else 4


def paragraphs(*sentences: str) -> str:
    """Return sentences, each in lines that fit the screen."""
    width = screen().width
    return "\n".join(line for one in sentences for line in wrapped("", one, 2, width))


def _lines(facts: Facts, width: Optional[int], most: int) -> Iterator[str]:
    yield ""
    yield "What reverts"
    yield from _packages(facts, width, most)
    if facts.advisories:
        yield from _row("Security", _advisories(facts.advisories, most), width)
    in_usr = [row for row in facts.edits or () if row.path.startswith("/usr/")]
    in_etc = [row for row in facts.edits or () if row not in in_usr]
    nothing = "not known" if facts.edits is None else "nothing that was changed by hand"
    yield from _row("/etc", _by_hand(in_etc, most) if in_etc else nothing, width)
    if in_usr:
        yield from _row("/usr", _by_hand(in_usr, most), width)
    yield from _data(facts, width, most)
    if not facts.home.stays:
        yield from _row(facts.home.path, f"{facts.home.why}{_keeping(facts.home.path)}", width)
    yield ""
    yield "What stays as it is"
    for name, why in _what_stays(facts):
        yield from wrapped("  ", f"{name} ({why})", 4, width)


def _row(name: str, sentence: str, width: Optional[int]) -> list[str]:
    return wrapped(f"  {name:{_LABELS}}", sentence, _LABELS + 2, width)


def _more(count: int, shown: int) -> str:
    return f" and {count - shown} more (--all lists them)" if count > shown else ""


def _keeping(path: str) -> str:
    return f"; to keep it: {_hard(f'--keep {path}')}"


def _hard(text: str) -> str:
    return report.clean(text).replace(" ", HARD)


def _packages(facts: Facts, width: Optional[int], most: int) -> list[str]:
    if facts.packages is None:
        return _row("Packages", "not known", width)
    if not facts.packages:
        return _row("Packages", "none", width)
    changes = heaviest_first(facts.packages)
    shown = min(len(changes), most)
    while True:
        said = ", ".join(map(_package, changes[:shown]))
        sentence = f"{summary(changes)}: {said}{_more(len(changes), shown)}"
        lines = _row("Packages", sentence, width)
        if len(lines) <= _LINES or shown == 1:
            return lines
        shown -= 1


def _package(change: PackageChange) -> str:
    name, (old, new) = report.clean(change.name), change.versions
    if new is None:
        return f"{name} {report.clean(old or '')} is removed"
    if old is None:
        return f"{name} {report.clean(new)} returns"
    return f"{name} {report.clean(old)} to {report.clean(new)}"


def _advisories(found: Sequence[Advisory], most: int) -> str:
    word = "advisory applies" if len(found) == 1 else "advisories apply"
    counts = Counter(advisory.severity or "of unknown severity" for advisory in found)
    how_bad = ", ".join(f"{count} {severity}" for severity, count in counts.items())
    most = min(most, _WORST)
    worst = [report.clean(" ".join((advisory.id, *advisory.cves[:1]))) for advisory in found[:most]]
    said = f"{len(found)} {word} again ({how_bad}): {', '.join(map(_hard, worst))}"
    return f"{said}{_more(len(found), most)}"


def _by_hand(rows: Sequence[FileChange], most: int) -> str:
    paths = []
    for row in rows[:most]:
        how = _BY_RESTORE if is_kept_by_restore(row.path) else _DONE[row.action]
        paths.append(f"{_hard(row.path)}{'' if how == 'changed' else f' ({how})'}")
    return f"changed by hand: {', '.join(paths)}{_more(len(rows), most)}"


def _data(facts: Facts, width: Optional[int], most: int) -> Iterator[str]:
    if facts.data is None:
        yield from _row("Data", "not known", width)
        return
    if not facts.data:
        yield from _row("Data", "none written since, except to what stays as it is", width)
        return
    yield from wrapped("  ", "Data that reverts; to keep it as it is, add the option:", 4, width)
    shown = [(_hard(one.option or one.path), _datum(one)) for one in facts.data[:most]]
    column = _column(shown, width)
    for option, datum in shown:
        is_long = width_of(option) > column
        if is_long:
            yield f"    {option}".replace(HARD, " ")
        start = f"    {padded('' if is_long else option, column)}  ".replace(" ", HARD)
        yield from wrapped("", f"{start}{datum}", column + 6, width)
    if len(facts.data) > most:
        size = report.size(sum(one.size for one in facts.data[most:]))
        yield f"    and {len(facts.data) - most} more, {size} (--all lists them)"


def _column(rows: Sequence[tuple[str, str]], width: Optional[int]) -> int:
    """Return how wide the options are; what is longer gets a line of its own."""
    options = [width_of(option) for option, _ in rows]
    if width is not None:
        longest = max(width_of(datum) for _, datum in rows)
        room = max(width - 6 - longest, min(_OPTION, width - 6 - _WRITTEN))
        options = [length for length in options if length <= room]
    return max(options, default=0)


def _datum(one: Data) -> str:
    owner = _BY_RESTORE if is_kept_by_restore(one.path) else report.clean(one.owner)
    start = f"{owner}: " if owner else ""
    end = "" if one.option else "; cannot be kept"
    if one.written_s is None:
        return f"{start}{_files(one)} deleted since{end}"
    written = datetime.fromtimestamp(one.written_s).astimezone()
    when = report.clock_time(written, datetime.now().astimezone())
    return f"{start}{_hard(report.size(one.size))}, {_hard(f'written until {when}')}{end}"


def _files(one: Data) -> str:
    return f"{one.files} {'file' if one.files == 1 else 'files'}"


def _what_stays(facts: Facts) -> Iterator[tuple[str, str]]:
    home = facts.home.path
    if facts.home.stays:
        yield home, facts.home.why
    kept = [report.clean(path) for path in facts.kept if path != home]
    if kept:
        yield ", ".join(kept), "kept: copied from the current root"
    nested = [report.clean(path) for path in grouped(facts.carried) if path != home]
    if nested:
        yield ", ".join(nested), "nested subvolumes"
    points = [report.clean(path) for path in facts.mounted if path != home]
    if points:
        yield ", ".join(points), "mounted from outside the root"


def steps(found: Sequence[RootStep]) -> Iterator[str]:
    """Give the lines of the plan; many nested subvolumes share one."""
    yield "Steps"
    carried = [n for n, step in enumerate(found, start=1) if isinstance(step, CarrySubvolume)]
    for number, step in enumerate(found, start=1):
        if len(carried) <= _MOST or not isinstance(step, CarrySubvolume):
            yield f" {number:>2}. {report.clean(step.describe())}"
        elif number == carried[0]:
            paths = [f"/{s.path}" for s in found if isinstance(s, CarrySubvolume)]
            where = report.clean(", ".join(grouped(paths)))
            many = f"Carry over {len(paths)} nested subvolumes as they are now: {where}."
            yield f" {number}-{carried[-1]}. {many}"


def everything(facts: Facts) -> Iterator[str]:
    """Give all that reverts: a line for each package, advisory and file."""
    if facts.packages:
        yield "\nPackages"
        yield report.package_table(heaviest_first(facts.packages))
    if facts.advisories:
        yield "\nSecurity advisories that apply again"
        for advisory in facts.advisories:
            cves = f"  {' '.join(advisory.cves)}" if advisory.cves else ""
            yield f"  {report.clean(advisory_line(advisory) + cves)}"
    if facts.data:
        yield "\nData"
        for one in facts.data:
            yield f"  {report.clean(one.path)}  {_files(one)}, {_datum(one)}".replace(HARD, " ")
    if facts.files:
        edits = set(facts.edits or ())
        yield "\nFiles"
        for row in facts.files:
            by_hand = f"  ({_BY_RESTORE if is_kept_by_restore(row.path) else 'by hand'})"
            about = by_hand if row in edits else ""
            yield f"  {_DONE[row.action]:8} {report.clean(row.path)}{about}"
    yield ""
