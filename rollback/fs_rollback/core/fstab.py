# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads fstab(5) and changes one option of one line; every other byte stays."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from .mountinfo import unescape


class Entry(NamedTuple):
    """One line of fstab. `line` counts from 1."""

    line: int
    text: str
    spec: str
    point: str
    fstype: str
    options: tuple[str, ...]


def parse(text: str) -> tuple[Entry, ...]:
    """Return the entries; comments, blank and short lines are passed over, as mount(8) does."""
    entries = []
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.split()
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        spec, point, fstype = (unescape(field) for field in fields[:3])
        options = tuple(fields[3].split(",")) if len(fields) > 3 else ()
        point = point.rstrip("/") or "/"
        entries.append(Entry(number, line.strip(), spec, point, fstype, options))
    return tuple(entries)


def root_entry(entries: tuple[Entry, ...]) -> Optional[Entry]:
    """Return the entry that mounts /, the last if there are several, as systemd takes it."""
    found = [entry for entry in entries if entry.point == "/"]
    return found[-1] if found else None


def with_root_subvolume(text: str, subvolume: Optional[str]) -> str:
    """Return `text` with the root line naming `subvolume`, or naming none where it is None.

    Only the options field of that line changes. Text without a root line comes back as it is.
    """
    root = root_entry(parse(text))
    if root is None or len(root.text.split()) < 4:
        return text
    kept = [o for o in root.options if not o.startswith(("subvol=", "subvolid="))]
    wanted = [f"subvol={escape(subvolume)}"] if subvolume is not None else []
    options = ",".join(_keep_place(root.options, kept, wanted)) or "defaults"
    lines = text.splitlines(keepends=True)
    pattern = re.compile(r"^(\s*\S+\s+\S+\s+\S+\s+)(\S+)")
    lines[root.line - 1] = pattern.sub(
        lambda match: match.group(1) + options, lines[root.line - 1], count=1
    )
    return "".join(lines)


def _keep_place(old: tuple[str, ...], kept: list[str], wanted: list[str]) -> list[str]:
    """Put the new option where the old one stood, or last."""
    for place, option in enumerate(old):
        if option.startswith(("subvol=", "subvolid=")):
            return kept[:place] + wanted + kept[place:]
    return kept + wanted


def escape(text: str) -> str:
    """Return a path as fstab writes it: blanks and backslashes as octal numbers."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in text)
