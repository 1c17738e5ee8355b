# SPDX-License-Identifier: GPL-2.0-or-later
"""Which boot entry comes next: the order of a loader's menu, and what the loader was told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from typing import Optional

from ..formats.bls import BootEntry
from . import grub, systemd_boot
from .choice import Choice, Loader, Rules, Written

_RULES = {Loader.GRUB: grub.RULES, Loader.SYSTEMD_BOOT: systemd_boot.RULES}


def rules(loader: Loader) -> Optional[Rules]:
    """Return what is known of a loader, None of an unknown one."""
    return _RULES.get(loader)


def written(file: str, key: str) -> Written:
    """Return how the setting with this key is written; without a file it is the firmware's.

    What no loader claims is taken for a variable of GRUB's.
    """
    if not file:
        return systemd_boot.RULES.written
    found = (known.written for known in _RULES.values() if key in known.written.keys)
    return next(found, grub.RULES.written)


def ordered(loader: Loader, entries: Sequence[BootEntry]) -> list[BootEntry]:
    """Return the entries as the loader's menu has them; of an unknown one by name."""
    known = rules(loader)
    if known is None:
        return sorted(entries, key=lambda entry: entry.file)
    return sorted(entries, key=cmp_to_key(known.compare))


def default_entry(choice: Choice, entries: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry that boots if nobody touches a key, the one-shot entry aside.

    None if that cannot be known: an unknown loader, no entries, systemd-boot's @saved (it keeps
    what was booted last to itself), or a default that is no boot entry of these, such as another
    system in GRUB's menu.
    """
    known, menu = rules(choice.loader), ordered(choice.loader, entries)
    return known.default(choice, menu) if known is not None and menu else None


def once(choice: Choice, entries: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry that boots next and only then; None if none is set or it is not there."""
    known, menu = rules(choice.loader), ordered(choice.loader, entries)
    return known.once(choice, menu) if known is not None else None
