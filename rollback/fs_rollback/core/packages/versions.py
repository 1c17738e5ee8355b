# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of two versions is newer: as systemd, as rpm and as GRUB in Fedora compare them."""

from __future__ import annotations

import re
from typing import TypeVar

_INVALID = re.compile(r"\A[^0-9A-Za-z~^.-]+")
_SEPARATORS = {sign: re.compile(rf"\A[^0-9A-Za-z~{re.escape(sign)}]+") for sign in "^+"}
_NUMBER = re.compile(r"[0-9]*")
_LETTERS = re.compile(r"[A-Za-z]*")
_Ordered = TypeVar("_Ordered", bool, int, str, tuple[bool, int, str])


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


def evr_compare(a: str, b: str) -> int:
    """Return -1, 0, 1 as `a` is older, equal, newer; both are [EPOCH:]VERSION-RELEASE of packages.

    As rpmVersionCompare() in lib/rpmvercmp.c of rpm: no epoch is 0.
    """
    one, two = _epoch(a), _epoch(b)
    found = compare(one[0], two[0])
    for first, second in zip(one[1].rsplit("-", 1), two[1].rsplit("-", 1)):
        found = found or rpm_compare(first, second)
    return found


def _epoch(evr: str) -> tuple[int, str]:
    epoch, colon, rest = evr.partition(":")
    return (int(epoch), rest) if colon and epoch.isdigit() else (0, evr)


def grub_compare(a: str, b: str) -> int:
    """Return -1, 0, 1 as `a` is older, equal, newer: as Fedora's blscfg.c, with "+" for "^"."""
    return rpm_compare(a, b, base="+")


def rpm_compare(a: str, b: str, base: str = "^") -> int:
    """Return -1, 0, 1 as `a` is older, equal, newer: rpmvercmp() in rpmio/rpmvercmp.c of rpm.

    Segments of digits or letters, between which all else only separates; "~" is older than the
    end of the string, `base` newer than it and older than anything else. Numbers are newer than
    letters.
    """
    while a or b:
        a, b = _SEPARATORS[base].sub("", a), _SEPARATORS[base].sub("", b)
        if a.startswith("~") or b.startswith("~"):
            if a[:1] != b[:1]:
                return -1 if a.startswith("~") else 1
        elif a.startswith(base) or b.startswith(base):
            if not a or not b:
                return bool(a) - bool(b)
            if a[0] != b[0]:
                return -1 if a[0] == base else 1
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
        return compare(a, b)
    one, two = a.lstrip("0"), b.lstrip("0")
    return compare((bool(a), len(one), one), (bool(b), len(two), two))


def compare(a: _Ordered, b: _Ordered) -> int:
    """Return -1, 0, 1 as `a` is less, equal, more."""
    return (a > b) - (a < b)
