# SPDX-License-Identifier: GPL-2.0-or-later
"""What differs between two roots, in words and in JSON."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Optional

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ...core.packages.advisories import Advisory
    from ...core.snapshots.snapshot import Snapshot
    from ...report import Paint
    from ...system.comparison.owned import OwnedChange
    from .gather import Differences

    Sides = tuple[Optional[Snapshot], Optional[Snapshot]]

_COLOURS = {"added": "green", "removed": "red", "changed": "yellow", "renamed": "cyan"}
_LINE_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_RUNNING = "the running system"


def text(found: Differences, sides: Sides, paint: Paint, *, every: bool) -> str:
    """Return what differs from one side to the other (None: the running system) for people.

    Unless `every` file is wanted, the text lists edited files and those in /etc, and counts those
    of no package by directory.
    """
    lines = [f"From {_named(sides[0])}, to {_named(sides[1])}:"]
    for heading, paragraph in _paragraphs(found, paint, every=every):
        lines += ["", paint(heading, "bold"), *paragraph]
    return "\n".join(lines if len(lines) > 1 else [*lines, "", "Nothing differs."])


def _named(snapshot: Optional[Snapshot]) -> str:
    from ... import report
    from ...core.snapshots.names import label

    if snapshot is None:
        return _RUNNING
    return f"{label(snapshot)}, taken {report.local_time(snapshot.created)}"


def _paragraphs(
    found: Differences, paint: Paint, *, every: bool
) -> Iterator[tuple[str, list[str]]]:
    from ... import report
    from ...core.packages.changes import summary

    if found.packages:
        table = report.package_table(found.packages).splitlines()
        yield f"Packages: {summary(found.packages)}", ["  " + line for line in table]
    for heading, rows in zip(("fixed", "no longer fixed"), found.advisories or ()):
        if rows:
            yield f"Security advisories {heading}: {len(rows)}", list(map(_advisory, rows))
    for name, entries in found.changelogs.items():
        if entries:
            yield f"Changelog of {report.clean(name)}", [*_changelog(entries)]
    files = found.files or []
    if every:
        yield from _listed("Files", files, paint)
    else:
        yield from _summed_up(files, paint)
    for path, patch in found.patches.items():
        yield report.clean(path), [_patch_line(line, paint) for line in patch.split("\n")]


def _summed_up(files: Sequence[OwnedChange], paint: Paint) -> Iterator[tuple[str, list[str]]]:
    from ... import report
    from ...core.comparison.places import by_place

    in_etc = [row for row in files if row.change.path.startswith("/etc/")]
    rest = [row for row in files if not row.change.path.startswith("/etc/")]
    yield from _listed("Files in /etc", in_etc, paint)
    edited = [row for row in rest if row.package and row.is_edited]
    yield from _listed("Files of packages that were edited", edited, paint)
    places = by_place(row.change for row in rest if not row.package)
    if places:
        width = len(str(max(places.values())))
        rows = [f"  {count:{width}}  {report.clean(path)}" for path, count in places.items()]
        yield "Other files (--all or --path PATH lists them)", rows
    count = sum(1 for row in rest if row.package and not row.is_edited)
    if count:
        yield f"Files that packages added, changed or removed: {count} (--all lists them)", []


def _listed(
    heading: str, rows: Sequence[OwnedChange], paint: Paint
) -> Iterator[tuple[str, list[str]]]:
    if rows:
        yield f"{heading}: {len(rows)}", [_file(row, paint) for row in rows]


def _file(row: OwnedChange, paint: Paint) -> str:
    from ... import report

    change = row.change
    path = f"{change.source} -> {change.path}" if change.source else change.path
    about = [*([change.kind] if change.kind != "file" else ()), *change.what]
    if row.package:
        edited = "by hand, of" if change.action == "removed" else "edited, of"
        about.append(f"{edited if row.is_edited else 'by'} package {row.package}")
    more = f"  ({', '.join(about)})" if about else ""
    action = paint(f"{change.action:8}", _COLOURS[change.action])
    return f"  {action} {report.clean(path + more)}"


def _advisory(advisory: Advisory) -> str:
    from ... import report

    severity = f" {advisory.severity}" if advisory.severity else ""
    cves = f" ({', '.join(advisory.cves)})" if advisory.cves else ""
    return report.clean(f"  {advisory.id}{severity}: {', '.join(advisory.packages)}{cves}")


def _changelog(entries: Iterable[Any]) -> Iterator[str]:
    from datetime import datetime, timezone

    from ... import report

    for entry in entries:
        day = datetime.fromtimestamp(entry.time_s, timezone.utc)
        yield f"  {day:%Y-%m-%d} {report.clean(entry.author)}"
        yield from (f"    {report.clean(line)}" for line in entry.text.splitlines())


def _patch_line(line: str, paint: Paint) -> str:
    from ... import report

    colour = _LINE_COLOURS.get(line[:1])
    return paint(report.clean(line), colour) if colour else report.clean(line)


def print_json(found: Differences, old: Optional[Snapshot], new: Optional[Snapshot]) -> None:
    """Print what differs as JSON, an object a line."""
    import json

    from .. import session

    for kind, row in _rows(found, old, new):
        # Not dump(), which does not use the encoder in C.
        sys.stdout.write(json.dumps({"version": session.JSON_VERSION, kind: row}) + "\n")


def _rows(
    found: Differences, old: Optional[Snapshot], new: Optional[Snapshot]
) -> Iterator[tuple[str, dict[str, Any]]]:
    from ...core.snapshots.record import package_dict

    yield "sides", {"from": _snapshot_dict(old), "to": _snapshot_dict(new)}
    for package in found.packages or ():
        entries = [entry._asdict() for entry in found.changelogs.get(package.name, ())]
        yield "package", {**package_dict(package), "changelog": entries}
    for applies, rows in zip((False, True), found.advisories or ()):
        yield from (("advisory", {**row._asdict(), "applies_again": applies}) for row in rows)
    for file in found.files or ():
        path, action, kind, what, source = file.change
        yield (
            "file",
            {
                "path": path,
                "action": action,
                "kind": kind,
                "what": what,
                "source": source or None,
                "package": file.package or None,
                "edited": file.is_edited,
                "patch": found.patches.get(path),
            },
        )
    counts = {
        "packages": None if found.packages is None else len(found.packages),
        "advisories": None if found.advisories is None else sum(map(len, found.advisories)),
        "files": None if found.files is None else len(found.files),
    }
    yield "end", {**counts, "problems": list(found.problems)}


def _snapshot_dict(snapshot: Optional[Snapshot]) -> Optional[dict[str, Any]]:
    if snapshot is None:
        return None
    uuid = snapshot.subvolume.uuid if snapshot.subvolume else None
    return {"id": snapshot.id or None, "name": snapshot.name, "uuid": uuid}
