# SPDX-License-Identifier: GPL-2.0-or-later
"""Which boot entry comes next: the order of a loader's menu, and what the loader was told.

What is said here of the loaders was read in blscfg.c and normal/menu.c of Fedora's GRUB
(rhboot/grub2), blsuki.c of GRUB 2.14, and boot.c and string-util-fundamental.c of systemd.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from functools import cmp_to_key
from typing import NamedTuple, Optional, TypeVar

from ..formats.bls import BootEntry

# File names of the menu entries of snapshots start with it, see snapshot_entry_prefix().
SNAPSHOT_ENTRY_PREFIX = "A-fs-snapshot-"
_DIGIT_PREFIX = f"0{SNAPSHOT_ENTRY_PREFIX}"
_INVALID = re.compile(r"\A[^0-9A-Za-z~^.-]+")
_NO_SEGMENT = re.compile(r"\A[^0-9A-Za-z~+]+")
_NUMBER = re.compile(r"[0-9]*")
_LETTERS = re.compile(r"[A-Za-z]*")
_INDEX = re.compile(r"[0-9]{1,9}")
_Ordered = TypeVar("_Ordered", bool, str, tuple[bool, int, str])


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


def ordered(loader: Loader, entries: Sequence[BootEntry]) -> list[BootEntry]:
    """Return the entries as the loader's menu has them; the first is chosen if nothing is said.

    GRUB of Fedora and EL: by file name without ".conf", newest first; the name is split at its
    last two dashes like a package's name-version-release, and rpm's comparison decides each.
    (GRUB 2.14 compares whole names as "ls -v" does, also newest first.)
    systemd-boot: by sort-key, machine-id, version (newest first) and file name (newest first);
    then those without a sort-key, by file name (newest first); last those without tries left.
    Unknown: by name.
    """
    if loader is Loader.GRUB:
        return sorted(entries, key=cmp_to_key(_compare_grub))
    if loader is Loader.SYSTEMD_BOOT:
        return sorted(entries, key=cmp_to_key(_compare_systemd_boot))
    return sorted(entries, key=lambda entry: entry.file)


def default_entry(choice: Choice, entries: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry that boots if nobody touches a key, the one-shot entry aside.

    None if that cannot be known: an unknown loader, no entries, systemd-boot's @saved (it keeps
    what was booted last to itself), or a default that is no boot entry of these, such as another
    system in GRUB's menu.
    """
    menu = ordered(choice.loader, entries)
    if choice.loader is Loader.UNKNOWN or not menu:
        return None
    if choice.loader is Loader.GRUB:
        return _grub_default(choice.saved_entry, menu)
    good = [entry for entry in menu if entry.tries_left != 0]
    wanted = ((choice.efi_preferred, good), (choice.preferred, good))
    for pattern, candidates in (*wanted, (choice.efi_default, menu), (choice.pattern, menu)):
        if _is_elsewhere(pattern):
            return None
        found = _matching(pattern, candidates)
        if found is not None:
            return found
    return menu[0]


def once(choice: Choice, entries: Sequence[BootEntry]) -> Optional[BootEntry]:
    """Return the entry that boots next and only then; None if none is set or it is not there.

    With a next_entry that names nothing Fedora's grub.cfg boots the first of the menu, whatever
    saved_entry says.
    """
    menu = ordered(choice.loader, entries)
    if choice.loader is Loader.GRUB:
        return _grub_entry(choice.next_entry, menu)
    if choice.loader is Loader.SYSTEMD_BOOT:
        return _matching(choice.efi_oneshot, menu)
    return None


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


def conversion_entry(entries: Sequence[BootEntry]) -> str:
    """Return the file name of the entry that converts a root: last in a menu, like a snapshot's."""
    prefix = snapshot_entry_prefix(entries)
    return prefix.replace("fs-snapshot-", "fs-convert") + ".conf"


def snapshot_entry_values(title: str) -> dict[str, Optional[str]]:
    """Return the values for bls.rewrite() that make a copy of a normal entry a snapshot's.

    The sort-key goes: systemd-boot puts entries without one behind all that have one, and where
    the normal ones have none either, the file name decides. A hotkey stays with the original.
    """
    return {"title": title, "sort-key": None, "grub_hotkey": None}


def _grub_default(saved_entry: str, menu: list[BootEntry]) -> Optional[BootEntry]:
    """Return what GRUB boots for `default`: the entry it names, else the first of the menu.

    An index behind the last of our entries, a path into a submenu, and names that grub-mkconfig
    gives may be other entries of grub.cfg, as may anything with blanks, which no file name of a
    boot entry has.
    """
    found = _grub_entry(saved_entry, menu)
    if found is not None:
        return found
    generated = saved_entry.startswith(("osprober-", "gnulinux-", "uefi-firmware"))
    beyond = (
        bool(_INDEX.fullmatch(saved_entry)) or ">" in saved_entry or len(saved_entry.split()) > 1
    )
    return None if generated or beyond else menu[0]


def _grub_entry(named: str, menu: list[BootEntry]) -> Optional[BootEntry]:
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


def _compare_grub(a: BootEntry, b: BootEntry) -> int:
    for one, two in zip(_name_version_release(a.name), _name_version_release(b.name)):
        result = rpm_compare(two, one)
        if result:
            return result
    return 0


def _name_version_release(name: str) -> tuple[str, str, str]:
    """Split at the last two dashes; what has one dash has no release."""
    parts = name.rsplit("-", 2)
    return parts[0], "".join(parts[1:2]), "".join(parts[2:3])


def _compare_systemd_boot(a: BootEntry, b: BootEntry) -> int:
    result = _compare(a.tries_left == 0, b.tries_left == 0)
    result = result or _compare(not a.sort_key, not b.sort_key)
    if a.sort_key and b.sort_key:
        result = result or _compare(a.sort_key, b.sort_key)
        result = result or _compare(a.machine_id, b.machine_id)
        result = result or version_compare(b.version, a.version)
    return result or version_compare(_file_id(b), _file_id(a))


def version_compare(a: str, b: str) -> int:
    """Return -1, 0, 1 as `a` is older, equal, newer: UAPI.10, systemd's strverscmp_improved().

    Segments of digits or letters; before one may stand "~" (oldest of all), "-", "^", ".", older
    in this order than no sign; the end of the string is older than all but "~". Numbers are newer
    than letters, capitals older than small letters; other characters only separate.
    """
    while True:
        a, b = _INVALID.sub("", a), _INVALID.sub("", b)
        for sign in ("~", "", "-", "^", "."):
            if not sign:
                if not a or not b:
                    return bool(a) - bool(b)
            elif a.startswith(sign) != b.startswith(sign):
                return -1 if a.startswith(sign) else 1
            elif a.startswith(sign):
                a, b = a[1:], b[1:]
        kind = _NUMBER if a[:1].isdigit() or b[:1].isdigit() else _LETTERS
        one, two = _segment(kind, a), _segment(kind, b)
        result = _compare_segments(kind, one, two)
        if result:
            return result
        a, b = a[len(one) :], b[len(two) :]


def rpm_compare(a: str, b: str) -> int:
    """Return -1, 0, 1 as `a` is older, equal, newer: rpm's comparison as in Fedora's blscfg.c.

    Segments of digits or letters, between which all else only separates; "~" is older than the
    end of the string, "+" newer than it and older than anything else. Numbers are newer than
    letters.
    """
    while a or b:
        a, b = _NO_SEGMENT.sub("", a), _NO_SEGMENT.sub("", b)
        if a.startswith("~") or b.startswith("~"):
            if a[:1] != b[:1]:
                return -1 if a.startswith("~") else 1
        elif a.startswith("+") or b.startswith("+"):
            if not a or not b:
                return bool(a) - bool(b)
            if a[0] != b[0]:
                return -1 if a[0] == "+" else 1
        elif not a or not b:
            break
        else:
            kind = _NUMBER if a[0].isdigit() else _LETTERS
            one, two = _segment(kind, a), _segment(kind, b)
            if kind is _LETTERS and not two:
                return -1
            result = _compare_segments(kind, one, two)
            if result:
                return result
            a, b = a[len(one) :], b[len(two) :]
            continue
        a, b = a[1:], b[1:]
    return bool(a) - bool(b)


def _segment(kind: re.Pattern[str], text: str) -> str:
    match = kind.match(text)
    return match.group() if match else ""


def _compare_segments(kind: re.Pattern[str], a: str, b: str) -> int:
    """Compare two segments, of which one may be empty: numbers by their value, letters as text."""
    if kind is _LETTERS:
        return _compare(a, b)
    one, two = a.lstrip("0"), b.lstrip("0")
    return _compare((bool(a), len(one), one), (bool(b), len(two), two))


def _compare(a: _Ordered, b: _Ordered) -> int:
    return (a > b) - (a < b)
