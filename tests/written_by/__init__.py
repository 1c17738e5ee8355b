# SPDX-License-Identifier: GPL-2.0-or-later
"""Journals and records as earlier programs wrote them, each in a file of its own.

All were written on the machines of tests/kernel, none by hand: `pending-LAYOUT-STATE.json` is the
journal right after the commit (prepared) or at the end of a rollback (committed). 0.1.0 is the
last of that version without fields for the roots, 0.1.0-early the first there was.
"""

from __future__ import annotations

from pathlib import Path

_DIRECTORY = Path(__file__).parent


def names(kind: str) -> list[tuple[str, str]]:
    """Return the version and the name of each file of a kind, `pending` or `record`."""
    return sorted((path.parent.name, path.stem) for path in _DIRECTORY.glob(f"*/{kind}-*.json"))


def text(version: str, name: str) -> str:
    return (_DIRECTORY / version / f"{name}.json").read_text()
