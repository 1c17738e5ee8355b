# SPDX-License-Identifier: GPL-2.0-or-later
"""e2fsck(8) on an ext4 that is not mounted; each call looks through all of it."""

from __future__ import annotations

from .. import process

# What it says of a filesystem that is whole when it ends; 1 and 2: errors that it has corrected.
_WHOLE = 0
_CORRECTED = (_WHOLE, 1, 2)


def look(device: str) -> str:
    """Return what is wrong with an ext4, "" if it is whole. Raises ProcessError without e2fsck."""
    code, last = process.watch(["e2fsck", "-f", "-n", device])
    return "" if code == _WHOLE else last or f"e2fsck ended with {code}"


def repair(device: str) -> str:
    """Correct what it corrects unasked; return what is wrong then. Raises ProcessError likewise."""
    code, last = process.watch(["e2fsck", "-f", "-p", device])
    return "" if code in _CORRECTED else last or f"e2fsck ended with {code}"
