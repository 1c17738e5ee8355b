# SPDX-License-Identifier: GPL-2.0-or-later
"""What a boot loader was told about the next boot, and what defines each boot loader."""

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
    """What a loader was told about the next boot; "" for nothing.

    `saved_entry` and `next_entry` are in GRUB's environment block, `pattern` is the default in
    loader.conf(5), `efi_default` and `efi_oneshot` are LoaderEntryDefault and LoaderEntryOneShot.
    `preferred` and `efi_preferred` come before the defaults but skip entries without tries
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
    """How a loader stores the settings with these `keys` in the text of a file.

    `value(text, key)` returns a setting, None if it is not set. `changed(text, key, value)` returns
    the text with another value, None to remove it; `text` is None if there is no file. It raises
    ValueError for a value that cannot be stored. `by_hand(path, key, value)` returns what to type,
    or to write, for the same change in a file, or in a firmware variable if the path is "".
    """

    keys: tuple[str, ...]
    value: Callable[[str, str], Optional[str]]
    changed: Callable[[Optional[str], str, Optional[str]], str]
    by_hand: Callable[[str, str, Optional[str]], str]


Find = Callable[[Choice, Sequence[BootEntry]], Optional[BootEntry]]


class Rules(NamedTuple):
    """How one loader behaves: everything that is needed to support it.

    `compare` orders two entries as its menu does; without a setting the first entry boots.
    `default` finds the default entry in a menu in this order, None if it cannot be determined;
    `once` finds the entry for the next boot only, None if none is set. `value` returns what is
    stored to make an entry the default, `written` says how it is stored.
    """

    compare: Callable[[BootEntry, BootEntry], int]
    default: Find
    once: Find
    value: Callable[[BootEntry], str]
    written: Written
