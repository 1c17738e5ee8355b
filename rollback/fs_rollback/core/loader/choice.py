# SPDX-License-Identifier: GPL-2.0-or-later
"""What a boot loader was told about the next boot, and what has to be known of each loader."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ..formats.bls import BootEntry


class Loader(enum.Enum):
    """The boot loaders whose order and whose default are known."""

    GRUB = "GRUB"
    SYSTEMD_BOOT = "systemd-boot"
    UNKNOWN = "unknown"


class Choice(NamedTuple):
    """What a loader was told about the next boot; "" where it was told nothing.

    `saved_entry` and `next_entry` are in GRUB's environment block, `pattern` is the default in
    loader.conf(5), `efi_default` and `efi_oneshot` are LoaderEntryDefault and LoaderEntryOneShot.
    `preferred` and `efi_preferred` come before the defaults but pass over entries without tries
    left: the key of loader.conf(5) and LoaderEntryPreferred of newer systemd-boot.
    """

    loader: Loader
    saved_entry: str = ""
    next_entry: str = ""
    pattern: str = ""
    efi_default: str = ""
    efi_oneshot: str = ""
    preferred: str = ""
    efi_preferred: str = ""


class Written(NamedTuple):
    """How a loader has its settings in the text of a file: those with these `keys`.

    `value` returns what a key says, None if nothing; `changed` the text, None where there is no
    file, with another value, None for nothing, and raises ValueError where that cannot be;
    `by_hand` what to type, or to write, for the same in the file that people know by this path, ""
    for a variable of the firmware.
    """

    keys: tuple[str, ...]
    value: Callable[[str, str], Optional[str]]
    changed: Callable[[Optional[str], str, Optional[str]], str]
    by_hand: Callable[[str, str, Optional[str]], str]


Find = Callable[[Choice, Sequence[BootEntry]], Optional[BootEntry]]


class Rules(NamedTuple):
    """What one loader does, all there is to know for one more of them.

    `compare` orders two entries as its menu does; the first of the menu is chosen if nothing is
    said. `default` finds in a menu in this order what boots if nobody touches a key, None if that
    cannot be known; `once` what boots next and only then, None if none is set. `value` is what is
    written down to make an entry the default, `written` how.
    """

    compare: Callable[[BootEntry, BootEntry], int]
    default: Find
    once: Find
    value: Callable[[BootEntry], str]
    written: Written
