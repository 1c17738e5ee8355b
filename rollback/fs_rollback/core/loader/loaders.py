# SPDX-License-Identifier: GPL-2.0-or-later
"""Which boot entry is next, by the order of a loader's menu and what the loader was told."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cmp_to_key
from typing import Optional

from ..formats.bls import BootEntry
from . import grub, systemd_boot
from .choice import Choice, Loader, Rules, Written

_RULES = {Loader.GRUB: grub.RULES, Loader.SYSTEMD_BOOT: systemd_boot.RULES}


def rules(loader: Loader) -> Optional[Rules]:
    """Return the rules of a loader, None for an unknown one."""
    return _RULES.get(loader)


def written(file: str, key: str) -> Written:
    """Return how the setting with this key is stored: in the firmware if `file` is "".

    A key that no loader has is taken for a variable of GRUB.
    """
    if not file:
        return systemd_boot.RULES.written
    found = (known.written for known in _RULES.values() if key in known.written.keys)
    return next(found, grub.RULES.written)


def ordered(loader: Loader, entries: Sequence[BootEntry]) -> list[BootEntry]:
    """Return the entries in the order of the loader's menu; of an unknown loader by name."""
    known = rules(loader)
    if known is None:
        return sorted(entries, key=lambda entry: entry.file)
    return sorted(entries, key=cmp_to_key(known.compare))


def default_entry(choice: Choice, entries: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the default entry, without regard to the one-shot entry.

    None if it cannot be determined: an unknown loader, no entries, systemd-boot's @saved (only the
    loader knows what was booted last), or a default that is none of these entries, such as another
    system in GRUB's menu.
    """
    known, menu = rules(choice.loader), ordered(choice.loader, entries)
    return known.default(choice, menu) if known is not None and menu else None


def once(choice: Choice, entries: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry for the next boot only; None if none is set or it does not exist."""
    known, menu = rules(choice.loader), ordered(choice.loader, entries)
    return known.once(choice, menu) if known is not None else None
