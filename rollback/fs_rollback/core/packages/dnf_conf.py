# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads configuration files of dnf 4 exactly as dnf does, oddities included.

libdnf, libdnf/utils/iniparser/iniparser.cpp and conf/OptionBool.cpp; tests/dnf compares the two.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

_BLANK = " \t\r"
_MARK = codecs.BOM_UTF8.decode("latin-1")
_BOOLEANS = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


class DnfConfError(ValueError):
    """dnf cannot read the file; `line` is where, the message why, in dnf's words."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class Setting(NamedTuple):
    """A value as dnf has it, and the number of its line; what is not UTF-8 comes as surrogates."""

    value: str
    line: int

    def boolean(self) -> Optional[bool]:
        """Return it as a boolean, None if it is none."""
        return _BOOLEANS.get(self.value.lower())

    def is_text(self) -> bool:
        """Whether dnf can use it at all: its Python ends with a traceback over other bytes."""
        return not any("\udc80" <= character <= "\udcff" for character in self.value)

    def words(self) -> list[str]:
        """Return it as a list, OptionStringList.cpp."""
        return [word for word in re.split("[ ,\n]+", self.value) if word]


def main_section(data: bytes) -> dict[str, Setting]:
    """Return the settings of the section [main], the last one of a name. Raises DnfConfError."""
    text = data.decode("latin-1")  # libdnf knows bytes only
    return {key: found for section, key, found in _settings(text) if section == "main"}


def _settings(text: str) -> Iterator[tuple[str, str, Setting]]:
    section = ""
    pending: Optional[tuple[str, int, str]] = None  # key, number of its line, value so far
    for number, line in enumerate(text.removeprefix(_MARK).split("\n"), start=1):
        stripped = line.strip(_BLANK)
        is_indented = bool(stripped) and line[0] in _BLANK
        ends = not line or line[0] in "#;" or (stripped and not is_indented) or stripped[:1] == "["
        if pending is not None and ends:
            yield _setting(section, *pending)
            pending = None
        if not line or line[0] in "#;":
            continue
        if not stripped:
            pending = pending and (*pending[:2], pending[2] + "\n")
        elif stripped[0] == "[":
            section = _section(stripped, number)
        elif not section:
            raise DnfConfError("Missing section header", number)
        elif not is_indented:
            pending = _key_and_value(line, number)
        elif pending is None:
            raise DnfConfError("Illegal continuation line", number)
        else:
            pending = (*pending[:2], f"{pending[2]}\n{stripped}")
    if pending is not None:
        yield _setting(section, *pending)


def _section(line: str, number: int) -> str:
    name, bracket, rest = line[1:].partition("]")
    if not bracket:
        raise DnfConfError("Missing ']'", number)
    if not name:
        raise DnfConfError("Empty section name", number)
    # libdnf does not look at the last character of the line.
    if rest[:-1].lstrip(_BLANK)[:1] not in ("", "#", ";"):
        raise DnfConfError("Text after section", number)
    return name


def _key_and_value(line: str, number: int) -> tuple[str, int, str]:
    key, equals, rest = line.partition("=")
    if not key:
        raise DnfConfError("Missing key", number)
    if not equals:
        raise DnfConfError("Missing '='", number)
    value = rest.lstrip(" \t")
    # A blank before a carriage return, and nothing else, makes that the value.
    is_return = not value.strip(_BLANK) and value != rest
    return key.rstrip(" \t"), number, value if is_return else value.rstrip(_BLANK)


def _setting(section: str, key: str, number: int, value: str) -> tuple[str, str, Setting]:
    trimmed = value.rstrip("\n") or value
    if len(trimmed) > 1 and trimmed[0] == trimmed[-1] and trimmed[0] in "\"'":
        trimmed = trimmed[1:-1]
    meant = trimmed.encode("latin-1").decode("utf-8", "surrogateescape")
    return section, key, Setting(meant, number)
