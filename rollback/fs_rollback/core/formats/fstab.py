# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads fstab(5) and changes one option of one line; every other byte stays."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple, Optional

from .mount_options import names_subvolume, subvolume_number, subvolume_path
from .mountinfo import is_within, unescape

# Blanks and tabs separate fields, nothing else that Unicode counts as white space.
_FIELD = r"[^ \t]+"
_OPTIONS = r"([ \t]*(?:[^ \t]+[ \t]+){3})([^ \t\r]+)"


class Entry(NamedTuple):
    """One line of fstab. `line` counts from 1; `text` is as written, the other fields are not."""

    line: int
    text: str
    spec: str
    point: str
    fstype: str
    options: tuple[str, ...]

    @property
    def subvolume(self) -> Optional[str]:
        """The path of the subvolume that it names, "" for the top level; None if it names none."""
        return subvolume_path(self.options)

    @property
    def subvolume_id(self) -> Optional[int]:
        """The subvolume ID that it names; None if it names none, or an impossible one."""
        try:
            return subvolume_number(self.options)
        except ValueError:  # as promised: no subvolume has an ID like that
            return None


class Mounting(NamedTuple):
    """What the machine says of one entry of fstab; None is unknown."""

    has_device: Optional[bool]
    has_subvolume: Optional[bool]
    has_point: bool


def parse(text: str) -> tuple[Entry, ...]:
    """Return the entries; skips comments, blank lines and short lines, as mount(8) does."""
    entries = []
    for number, line in enumerate(text.split("\n"), start=1):
        fields = re.findall(_FIELD, line.rstrip("\r"))
        if len(fields) < 3 or fields[0].startswith("#"):
            continue
        spec, point, fstype = (unescape(field) for field in fields[:3])
        options = tuple(unescape(o) for o in fields[3].split(",")) if len(fields) > 3 else ()
        point = point.rstrip("/") or "/"
        entries.append(Entry(number, line.strip(" \t\r"), spec, point, fstype, options))
    return tuple(entries)


def root_entry(entries: Sequence[Entry]) -> Optional[Entry]:
    """Return the entry that mounts /, the first if there are several.

    systemd-fstab-generator(8) makes a unit of the first and reports the others as duplicates.
    """
    return next((entry for entry in entries if entry.point == "/"), None)


def with_root_subvolume(text: str, subvolume: Optional[str]) -> str:
    """Return `text` with a root line that names `subvolume`, or no subvolume if it is None.

    Only the options field of that line changes. Text without a root line comes back as it is.
    """
    root = root_entry(parse(text))
    lines = text.split("\n")
    match = re.match(_OPTIONS, lines[root.line - 1]) if root is not None else None
    if root is None or match is None:
        return text
    old = match.group(2).split(",")
    kept = [option for option in old if not names_subvolume(option)]
    wanted = [f"subvol={escape(subvolume)}"] if subvolume is not None else []
    options = ",".join(_keep_place(old, kept, wanted)) or "defaults"
    lines[root.line - 1] = match.group(1) + options + lines[root.line - 1][match.end() :]
    return "\n".join(lines)


def without_subvolumes_of(text: str, root: str) -> str:
    """Return `text` with the lines commented out that mount subvolumes inside `root`.

    `root` is a path from the top level. The line for / stays.
    """
    lines = text.split("\n")
    for entry in parse(text):
        name = entry.subvolume
        if entry.point != "/" and root and name and is_within(f"/{name}", f"/{root}"):
            lines[entry.line - 1] = "#" + lines[entry.line - 1]
    return "\n".join(lines)


def without_lines(text: str, lines: Collection[str]) -> str:
    """Return `text` with these entries, as Entry.text has them, commented out."""
    found = text.split("\n")
    for entry in parse(text):
        if entry.text in lines:
            found[entry.line - 1] = "#" + found[entry.line - 1]
    return "\n".join(found)


def _keep_place(old: list[str], kept: list[str], wanted: list[str]) -> list[str]:
    """Put the new option where the old one stood, or last."""
    for place, option in enumerate(old):
        if names_subvolume(option):
            return kept[:place] + wanted + kept[place:]
    return kept + wanted


def escape(text: str) -> str:
    """Return a path as fstab writes it: blanks and backslashes as octal numbers."""
    return "".join(f"\\{ord(c):03o}" if c in " \t\n\\" else c for c in text)


def with_mounts(text: str, lines: Sequence[str]) -> str:
    """Return `text` with these lines added at the end; a line that is already there stays.

    Other lines for the same mount points are commented out.
    """
    old = text.split("\n")
    present = {entry.text: entry for entry in parse(text)}
    missing = [line for line in lines if line not in present]
    points = {entry.point for entry in parse("\n".join(missing))}
    for entry in present.values():
        if entry.point in points:
            old[entry.line - 1] = "#" + old[entry.line - 1]
    return with_lines("\n".join(old), missing) if missing else text


def with_lines(text: str, lines: Sequence[str]) -> str:
    """Return `text` with these lines added at the end, after a missing newline."""
    gap = "\n" if text and not text.endswith("\n") else ""
    return text + gap + "".join(f"{line}\n" for line in lines)


def with_root_option(text: str, option: str) -> str:
    """Return `text` with an option added for the root, or as it is if it has that option."""
    root = root_entry(parse(text))
    lines = text.split("\n")
    match = re.match(_OPTIONS, lines[root.line - 1]) if root is not None else None
    if root is None or match is None or option in root.options:
        return text
    old = [o for o in match.group(2).split(",") if o != "defaults"]
    options = ",".join([*old, option])
    lines[root.line - 1] = match.group(1) + options + lines[root.line - 1][match.end() :]
    return "\n".join(lines)
