# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads /etc/default/grub, a file that grub-mkconfig(8) runs in a shell: its plain assignments.

Comments, quotes, continued lines, `+=` and variables of the file itself are understood; what only a
shell could know (a command's output) stays as it is written.
"""

from __future__ import annotations

import re

_ASSIGNMENT = r"[ \t;]*(?:export[ \t]+)?([A-Za-z_]\w*)(\+?)="
# In this order: a comment ends nothing but a word, and quotes keep all but themselves.
_PIECE = re.compile(
    r"'(?P<single>[^']*)'|\"(?P<double>(?:\\.|[^\"\\])*)\"|\\(?P<escaped>.)|(?P<plain>[^\s;'\"\\]+)",
    re.DOTALL,
)
_IN_QUOTES = r"\\([$`\"\\\n])"
_NAME = r"(?<!\\)\$(?:\{(\w+)\}|([A-Za-z_]\w*))"


def command_line(text: str) -> str:
    """Return the command line of the usual entries, from the two variables that make it."""
    found = variables(text)
    names = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
    return " ".join(filter(None, (found.get(name, "") for name in names)))


def variables(text: str) -> dict[str, str]:
    """Return the variables that the file sets; of several assignments the last counts."""
    found: dict[str, str] = {}
    lines = text.split("\n")
    while lines:
        line = lines.pop(0)
        match = re.match(_ASSIGNMENT, line)
        if match is None:
            continue
        value, rest = _value(line[match.end() :], found)
        while rest is None and lines:  # a quote that ends on a later line
            line += "\n" + lines.pop(0)
            value, rest = _value(line[match.end() :], found)
        found[match[1]] = (found.get(match[1], "") if match[2] else "") + value
    return found


def _value(text: str, known: dict[str, str]) -> tuple[str, str | None]:
    """Return the word at the beginning, and what follows; None there if the word is not ended."""
    found, place = "", 0
    while place < len(text) and (piece := _PIECE.match(text, place)):
        place = piece.end()
        if piece["single"] is not None:
            found += piece["single"]
        elif piece["double"] is not None:
            inside = _expanded(piece["double"], known)
            found += re.sub(_IN_QUOTES, lambda m: "" if m[1] == "\n" else m[1], inside)
        elif piece["escaped"] is not None:
            found += "" if piece["escaped"] == "\n" else piece["escaped"]
        else:
            found += _expanded(piece["plain"], known)
    rest = text[place:]
    return found, None if rest[:1] in ("'", '"', "\\") else rest


def _expanded(text: str, known: dict[str, str]) -> str:
    return re.sub(_NAME, lambda match: known.get(match[1] or match[2], ""), text)
