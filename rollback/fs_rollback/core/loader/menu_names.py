# SPDX-License-Identifier: GPL-2.0-or-later
"""The names of boot entries for snapshots, which put them last in every menu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ..formats.bls import BootEntry

# File names of the menu entries of snapshots start with it, see snapshot_entry_prefix().
SNAPSHOT_ENTRY_PREFIX = "A-fs-snapshot-"
_DIGIT_PREFIX = f"0{SNAPSHOT_ENTRY_PREFIX}"


def is_snapshot_entry(entry: BootEntry) -> bool:
    """Tell whether an entry was made for a snapshot, by its name."""
    return is_snapshot_name(entry.id)


def is_snapshot_name(name: str) -> bool:
    """Tell whether a file was made for the entry of a snapshot, whole or not, by its name."""
    return name.startswith((SNAPSHOT_ENTRY_PREFIX, _DIGIT_PREFIX))


def snapshot_entry_prefix(entries: Sequence[BootEntry]) -> str:
    """Return what the file names of snapshots' entries start with, beside these normal entries.

    No prefix is last for every loader. GRUB of Fedora and EL puts numbers before letters in a menu
    (newest first), GRUB 2.14 letters before numbers, systemd-boot without sort-keys numbers before
    letters. So names start like those of the normal entries, which begin with the machine-id or
    an entry token: "A" where these start with letters, "0A" where they start with digits. Capital
    letters come after small ones; systemd-boot folds them, but takes "a-" as older than any "a5".
    Where normal names of both kinds meet, either prefix is behind those of one kind.
    """
    names = [entry.name for entry in entries if not is_snapshot_entry(entry)]
    digits = bool(names) and all(name[:1].isdigit() for name in names)
    return _DIGIT_PREFIX if digits else SNAPSHOT_ENTRY_PREFIX


def snapshot_entry_values(title: str) -> dict[str, Optional[str]]:
    """Return the values for bls.rewrite() that make a copy of a normal entry a snapshot's.

    The sort-key goes: systemd-boot puts entries without one behind all that have one, and where
    the normal ones have none either, the file name decides. A hotkey stays with the original.
    """
    return {"title": title, "sort-key": None, "grub_hotkey": None}
