# SPDX-License-Identifier: GPL-2.0-or-later
"""What the terminal is: how wide, without what shutil imports for it; questions; progress."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from ..core.comparison.files import Progress

_DEFAULT_COLUMNS = 80
_DELAY_S = 1.0


def table_width() -> Optional[int]:
    """Return how wide a table may be; None where it goes to no terminal: nothing is cut there."""
    return columns() if os.isatty(1) else None


def columns() -> int:
    """Return the number of columns: $COLUMNS, what the terminal on stdout says, or 80."""
    try:
        return int(os.environ["COLUMNS"]) or _DEFAULT_COLUMNS
    except (KeyError, ValueError):
        pass  # it says nothing
    try:
        return os.get_terminal_size(1).columns or _DEFAULT_COLUMNS
    except OSError:  # no terminal
        return _DEFAULT_COLUMNS


def ask(question: str) -> str:
    """Ask on the terminal, and return what is typed; the line is ended whatever that is."""
    print(question, end="", file=sys.stderr, flush=True)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # Ctrl-D, Ctrl-C
            print(file=sys.stderr)
    return answer.strip()


@contextmanager
def progress(what: str, unit: str) -> Iterator[Progress]:
    """Give what is told how much is done, and of how much; a bar with a rate and an end shows it.

    `unit` is what is counted. Without tqdm nothing is shown.
    """
    from ..core.comparison.files import untold

    try:
        if not sys.stderr.isatty():
            raise ImportError("nobody watches")
        from tqdm import tqdm
    except ImportError:  # as promised
        yield untold
        return
    with tqdm(desc=what, unit=f" {unit}", delay=_DELAY_S, leave=False, file=sys.stderr) as bar:

        def tell(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tell
