# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads boot entries: Boot Loader Specification, type 1 (uapi-group.org)."""

from __future__ import annotations

from typing import NamedTuple


class BootEntry(NamedTuple):
    """One boot entry; the values as they are written, GRUB's variables included."""

    file: str
    title: str
    version: str
    linux: str
    options: str


def parse(file: str, text: str) -> BootEntry:
    """Read one entry. Several `options` lines are joined, as the specification says."""
    values: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, rest = [*line.split(maxsplit=1), "", ""][:2]
        if key and not key.startswith("#"):
            values.setdefault(key, []).append(rest.strip())

    def value(key: str) -> str:
        return " ".join(values.get(key, []))

    return BootEntry(file, value("title"), value("version"), value("linux"), value("options"))
