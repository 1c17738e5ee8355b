# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows what is too long for the terminal through a pager, and colours where they are wanted."""

from __future__ import annotations

import os
import sys
from contextlib import suppress

_COLOURS = {"red": 31, "green": 32, "yellow": 33, "cyan": 36, "bold": 1}


def has_colours() -> bool:
    """Whether to colour what is printed: on a terminal, unless $NO_COLOR (no-color.org) is set."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM", "dumb") == "dumb"
    return sys.stdout.isatty() and not plain


def coloured(text: str, colour: str) -> str:
    """Return a text in a colour, or as it is where there are none."""
    return f"\033[{_COLOURS[colour]}m{text}\033[m" if has_colours() else text


def show(text: str) -> None:
    """Print a text; on a terminal with fewer lines through $PAGER, or less(1).

    An empty $PAGER or "cat" means none.
    """
    import shlex

    from ..system.linux import process

    if not sys.stdout.isatty() or len(text.splitlines()) < os.get_terminal_size(1).lines:
        print(text)
        return
    sys.stdout.flush()
    words: list[str] = []
    with suppress(ValueError):  # a quotation in it has no end
        words = shlex.split(os.environ.get("PAGER", "less"))
    if words in ([], ["cat"]) or not process.feed(words, text + "\n"):
        print(text)
