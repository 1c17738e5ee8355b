# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and rewrites boot entries: Boot Loader Specification, type 1 (uapi-group.org, UAPI.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Optional

from . import grub_options

_SUFFIX = ".conf"
# "+LEFT" or "+LEFT-DONE" before the suffix: UAPI.1, "Boot counting".
_COUNTERS = r"\+([0-9]+)(?:-([0-9]+))?$"
# Indentation, key, the blanks between, the value, what ends the line.
_LINE = r"(?s)([ \t]*)([^ \t\r]+)([ \t]*)([^\r]*)(\r?)"


class BootEntry(NamedTuple):
    """One boot entry; the values as they are written, GRUB's variables included.

    `file` is the path as the tree has it. `options` has all lines of that key, joined by blanks;
    `initrd`, `devicetree` and `overlays` (devicetree-overlay) have every word of every line. `text`
    is the whole file. `arguments` are the options as the kernel gets them, as far as GRUB's
    variables are known.
    """

    file: str
    title: str
    version: str
    linux: str
    options: str
    initrd: tuple[str, ...] = ()
    devicetree: tuple[str, ...] = ()
    overlays: tuple[str, ...] = ()
    sort_key: str = ""
    machine_id: str = ""
    text: str = ""
    arguments: str = ""

    @property
    def name(self) -> str:
        """The file name without ".conf", boot counters included: what GRUB calls the entry."""
        name = self.file.rpartition("/")[2]
        return name[: -len(_SUFFIX)] if name.lower().endswith(_SUFFIX) else name

    @property
    def id(self) -> str:
        """The name without boot counters, which does not change while they count."""
        return re.sub(_COUNTERS, "", self.name)

    @property
    def tries_left(self) -> Optional[int]:
        """How often systemd-boot will still try the entry; None if it does not count."""
        counters = re.search(_COUNTERS, self.name)
        return int(counters.group(1)) if counters else None

    @property
    def files(self) -> tuple[str, ...]:
        """All files that the loader reads, as paths on the filesystem that holds the entry.

        Words with GRUB's variables ($tuned_initrd) are left out.
        """
        words = (self.linux, *self.initrd, *self.devicetree, *self.overlays)
        return tuple(word for word in words if word.startswith("/"))


def parse(file: str, text: str, variables: Mapping[str, str] = MappingProxyType({})) -> BootEntry:
    """Read one entry. Several `options` lines are joined, as the specification says.

    `variables` are the known ones of GRUB (grub_options.py).

    Of several `sort-key` or `machine-id` lines the last counts, as in systemd-boot
    (boot_entry_add_type1 in its boot.c); GRUB reads neither.
    """
    values: dict[str, list[str]] = {}
    for line in text.split("\n"):
        key, rest = [*line.split(maxsplit=1), "", ""][:2]
        if key and not key.startswith("#"):
            values.setdefault(key, []).append(rest.strip())

    def value(key: str) -> str:
        return " ".join(values.get(key, []))

    def last(key: str) -> str:
        return values.get(key, [""])[-1]

    return BootEntry(
        file,
        value("title"),
        value("version"),
        values.get("linux", [""])[0],  # as GRUB takes the first of several
        value("options"),
        tuple(value("initrd").split()),
        tuple(value("devicetree").split()),
        tuple(value("devicetree-overlay").split()),
        last("sort-key"),
        last("machine-id"),
        text,
        grub_options.expanded(value("options"), variables if "linux" in values else {}),
    )


def rewrite(text: str, values: Mapping[str, Optional[str]]) -> str:
    """Return the entry's text with the keys of `values` set to their values.

    The first line of a key gets the value, further ones are removed; None removes the key; missing
    keys are added. Everything else stays, but a missing last newline is added. GRUB stops reading
    at an empty line and at a key without a value (blscfg.c of Fedora; blsuki.c, GRUB 2.14), so
    lines are added before the first of those. Raises ValueError for a value that is empty or not
    one line.
    """
    for key, value in values.items():
        if value is not None and (not value.strip() or "\n" in value or "\r" in value):
            raise ValueError(f"{value!r} cannot be the value of {key} in a boot entry")
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    kept, written = [], set()
    for line in lines:
        match = re.fullmatch(_LINE, line)
        key = match.group(2) if match else ""
        if match is None or key not in values:
            kept.append(line)
            continue
        value = values[key]
        if value is not None and key not in written:
            written.add(key)
            kept.append(match.group(1) + key + (match.group(3) or " ") + value + match.group(5))
    missing = [f"{k} {v}" for k, v in values.items() if v is not None and k not in written]
    place = next((i for i, line in enumerate(kept) if _ends_reading(line)), len(kept))
    return "\n".join([*kept[:place], *missing, *kept[place:], ""])


def _ends_reading(line: str) -> bool:
    return not line.strip(" \t\r").startswith("#") and len(line.split()) < 2
