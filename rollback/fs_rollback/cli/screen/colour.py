# SPDX-License-Identifier: GPL-2.0-or-later
"""Decides whether what is printed has colours. They are never all that tells something."""

from __future__ import annotations

import os
import sys

from ...report import Paint, unpainted
from . import streams

_CODES = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1}


def paint(when: str) -> Paint:
    """Return what colours texts, as --color has it; nothing of --json is ever given to it."""
    return _painted if when == "always" or (when == "auto" and _are_wanted()) else unpainted


def _are_wanted() -> bool:
    """Whether to colour what is printed: on a terminal, unless $NO_COLOR (no-color.org) is set."""
    plain = os.environ.get("NO_COLOR") or streams.is_dumb()
    return sys.stdout.isatty() and not plain


def _painted(text: str, colour: str) -> str:
    return f"\033[{_CODES[colour]}m{text}\033[m"
