# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd-boot: the order of its menu, and which entry it boots.

What is said here was read in boot.c and string-util-fundamental.c of systemd.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Optional

from ..formats import loader_conf
from ..formats.bls import BootEntry
from ..packages.versions import compare, version_compare
from .choice import Choice, Rules, Written


def _compare(a: BootEntry, b: BootEntry) -> int:
    """Order two entries: by sort-key, machine-id, version and file name (both newest first).

    Then come those without a sort-key, by file name (newest first); last those without tries left.
    """
    result = compare(a.tries_left == 0, b.tries_left == 0)
    result = result or compare(not a.sort_key, not b.sort_key)
    if a.sort_key and b.sort_key:
        result = result or compare(a.sort_key, b.sort_key)
        result = result or compare(a.machine_id, b.machine_id)
        result = result or version_compare(b.version, a.version)
    return result or version_compare(_file_id(b), _file_id(a))


def _default(choice: Choice, menu: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the first entry that one of the settings means, in the order of their weight.

    None for @saved, which the loader keeps to itself, and for what no entry file can show.
    """
    good = [entry for entry in menu if entry.tries_left != 0]
    wanted = ((choice.efi_preferred, good), (choice.preferred, good))
    for pattern, candidates in (*wanted, (choice.efi_default, menu), (choice.pattern, menu)):
        if _is_elsewhere(pattern):
            return None
        found = _matching(pattern, candidates)
        if found is not None:
            return found
    return menu[0]


def _once(choice: Choice, menu: Sequence[BootEntry]) -> Optional[BootEntry]:
    return _matching(choice.efi_oneshot, menu)


def _matching(pattern: str, menu: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the first entry that fits a pattern of systemd-boot, which folds letters first.

    Its ID for an entry is the file name with ".conf", in newer versions without boot counters.
    """
    wanted = pattern.lower()
    for entry in menu:
        if any(
            fnmatchcase(name, wanted) for name in (_file_id(entry), f"{entry.name}.conf".lower())
        ):
            return entry
    return None


def _file_id(entry: BootEntry) -> str:
    return f"{entry.id}.conf".lower()


def _is_elsewhere(pattern: str) -> bool:
    """Tell whether systemd-boot is told something that no entry file can show."""
    return pattern.startswith(("@", "auto-")) or pattern.lower().endswith(".efi")


def _value(entry: BootEntry) -> str:
    """Return the ID of an entry as it is written down: without boot counters."""
    return f"{entry.id}.conf"


def _setting(text: str, key: str) -> Optional[str]:
    return loader_conf.pattern(text, key) or None


def _changed(text: Optional[str], key: str, value: Optional[str]) -> str:
    return loader_conf.with_pattern(text or "", key, value)


def _by_hand(file: str, key: str, value: Optional[str]) -> str:
    if not file:
        verb = "set-preferred" if key.endswith("Preferred") else "set-default"
        return f"bootctl {verb} {shlex.quote(value or '')}"
    return f"# in {file}: {key} {value or '(no such line)'}"


_WRITTEN = Written(loader_conf.KEYS, _setting, _changed, _by_hand)
RULES = Rules(_compare, _default, _once, _value, _WRITTEN)
