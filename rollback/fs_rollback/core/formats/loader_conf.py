# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and changes which entry loader.conf(5) of systemd-boot names, as default or preferred."""

from __future__ import annotations

import re
from typing import Optional

DEFAULT, PREFERRED = KEYS = ("default", "preferred")
_LINES = {key: re.compile(rf"([ \t]*{key}[ \t]+)([^\r]*?)([ \t]*\r?)") for key in KEYS}


def pattern(text: str, key: str) -> str:
    """Return the pattern that a key (one of KEYS) has for its entry, "" if there is none.

    The last line of the key counts; one with an @ name other than @saved is ignored
    (config_defaults_load_from_file in systemd's src/boot/boot.c).
    """
    found = ""
    for line in text.split("\n"):
        match = _LINES[key].fullmatch(line)
        value = _unquoted(match.group(2)) if match else ""
        if value and (not value.startswith("@") or value.lower() == "@saved"):
            found = value
    return found


def with_pattern(text: str, key: str, entry_id: Optional[str]) -> str:
    """Return the text with `entry_id` as the value of a key; None removes the key.

    The ID is written as it is: patterns are matched against file names with their suffix
    (loader.conf(5)). The first line of the key gets the value, further ones are removed. Raises
    ValueError for an ID that is not one line. An ID with blanks names no entry, but is accepted: it
    may be an old value that is restored.
    """
    if entry_id is not None and (not entry_id.strip() or "\n" in entry_id):
        raise ValueError(f"{entry_id!r} cannot be the {key} entry of systemd-boot")
    lines, kept, written = text.split("\n"), [], False
    for line in lines:
        match = _LINES[key].fullmatch(line)
        if match is None:
            kept.append(line)
        elif entry_id is not None and not written:
            written = True
            kept.append(match.group(1) + entry_id + match.group(3))
    if entry_id is not None and not written:
        at_end = len(kept) - (kept[-1] == "")
        kept[at_end:] = [f"{key} {entry_id}", ""]
    return "\n".join(kept)


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value.startswith('"') and value.endswith('"')
    return value[1:-1] if quoted else value
