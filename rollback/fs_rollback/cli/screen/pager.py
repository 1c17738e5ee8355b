# SPDX-License-Identifier: GPL-2.0-or-later
"""Shows what is too long for the terminal through a pager."""

from __future__ import annotations

import os
import sys
from contextlib import suppress


def show(text: str) -> None:
    """Print a text; on a terminal with fewer lines through $PAGER, or less(1).

    An empty $PAGER or "cat" means none.
    """
    import shlex

    from ...system.linux import process
    from . import streams

    # A dumb terminal, as that of an editor, scrolls itself, and cannot be moved in.
    is_for_terminal = sys.stdout.isatty() and not streams.is_dumb()
    if not is_for_terminal or len(text.splitlines()) < os.get_terminal_size(1).lines:
        print(text)
        return
    sys.stdout.flush()
    words: list[str] = []
    with suppress(ValueError):  # a quotation in it has no end
        words = shlex.split(os.environ.get("PAGER", "less"))
    if words in ([], ["cat"]) or not process.feed(words, text + "\n"):
        print(text)
