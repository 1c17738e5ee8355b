# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB: the order of its menu, and which entry it boots.

What is said here was read in blscfg.c and normal/menu.c of Fedora's GRUB (rhboot/grub2), and in
blsuki.c of GRUB 2.14.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from typing import Optional

from ..formats import grubenv
from ..formats.bls import BootEntry
from ..packages.versions import grub_compare
from .choice import Choice, Rules, Written

_INDEX = re.compile(r"[0-9]{1,9}")


def _compare(a: BootEntry, b: BootEntry) -> int:
    """Order two entries: by file name without ".conf", newest first.

    GRUB of Fedora and EL: the name is split at its last two dashes like a package's
    name-version-release, and rpm's comparison decides each. (GRUB 2.14 compares whole names as
    "ls -v" does, also newest first.)
    """
    for one, two in zip(_name_version_release(a.name), _name_version_release(b.name)):
        result = grub_compare(two, one)
        if result:
            return result
    return 0


def _name_version_release(name: str) -> tuple[str, str, str]:
    """Split at the last two dashes; what has one dash has no release."""
    parts = name.rsplit("-", 2)
    return parts[0], "".join(parts[1:2]), "".join(parts[2:3])


def _default(choice: Choice, menu: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return what GRUB boots for `default`: the entry it names, else the first of the menu.

    An index behind the last of our entries, a path into a submenu, and names that grub-mkconfig
    gives may be other entries of grub.cfg, as may anything with blanks, which no file name of a
    boot entry has.
    """
    saved_entry = choice.saved_entry
    found = _entry(saved_entry, menu)
    if found is not None:
        return found
    generated = saved_entry.startswith(("osprober-", "gnulinux-", "uefi-firmware"))
    beyond = (
        bool(_INDEX.fullmatch(saved_entry)) or ">" in saved_entry or len(saved_entry.split()) > 1
    )
    return None if generated or beyond else menu[0]


def _once(choice: Choice, menu: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry of next_entry.

    With one that names nothing Fedora's grub.cfg boots the first of the menu, whatever saved_entry
    says.
    """
    return _entry(choice.next_entry, menu)


def _entry(named: str, menu: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry that GRUB means by an ID, a title or an index, tried in this order.

    That of Fedora and EL, since 2018. GRUB as it comes tries the index first, and takes the digits
    that a name begins with for one; what it boots then is said at the first boot (settle.py).
    """
    if not named:
        return None
    found = next((e for e in menu if e.name == named), None)
    found = found or next((e for e in menu if e.title == named), None)
    if found is None and _INDEX.fullmatch(named) and int(named) < len(menu):
        return menu[int(named)]
    return found


def _value(entry: BootEntry) -> str:
    """Return GRUB's ID of an entry: it has the counters of boot counting in it."""
    return entry.name


def _setting(text: str, key: str) -> Optional[str]:
    try:
        return grubenv.parse(text).get(key)
    except grubenv.GrubenvError:  # GRUB reads nothing from it either; changing it raises
        return None


def _changed(text: Optional[str], key: str, value: Optional[str]) -> str:
    return grubenv.with_values(text or grubenv.EMPTY, {key: value})


def _by_hand(file: str, key: str, value: Optional[str]) -> str:
    change = f"set {key}={value}" if value is not None else f"unset {key}"
    return f"grub2-editenv {shlex.quote(file)} {change}"


_WRITTEN = Written(("saved_entry", "next_entry"), _setting, _changed, _by_hand)
RULES = Rules(_compare, _default, _once, _value, _WRITTEN)
