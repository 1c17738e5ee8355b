# SPDX-License-Identifier: GPL-2.0-or-later
"""e2fsck(8) on an ext4 that is not mounted; each call looks through all of it."""

from __future__ import annotations

from ...errors import Error
from ...system.linux import process

# What it says of a filesystem that is whole when it ends; 1 and 2: errors that it has corrected.
_WHOLE = 0
_CORRECTED = (_WHOLE, 1, 2)
# With its group descriptors gone it says the same of every block.
_MOST_LINES = 10_000


class _TooMuchError(Error):
    """It does not come to an end."""


def look(device: str) -> str:
    """Return what is wrong with an ext4, "" if it is whole. Raises ProcessError without e2fsck."""
    lines = 0

    def heard(_: str) -> None:
        nonlocal lines
        lines += 1
        if lines > _MOST_LINES:
            raise _TooMuchError(f"e2fsck finds more than {_MOST_LINES} errors")

    try:
        code, last = process.watch(["e2fsck", "-f", "-n", device], heard)
    except _TooMuchError as error:  # enough to know
        return str(error)
    return "" if code == _WHOLE else last or f"e2fsck ended with {code}"


def repair(device: str) -> str:
    """Correct what it corrects unasked; return what is wrong then. Raises ProcessError likewise."""
    code, last = process.watch(["e2fsck", "-f", "-p", device])
    return "" if code in _CORRECTED else last or f"e2fsck ended with {code}"


def replay(device: str) -> None:
    """Put what is in its journal into its place, and look at nothing else. Raises ProcessError."""
    process.watch(["e2fsck", "-p", "-E", "journal_only", device])
