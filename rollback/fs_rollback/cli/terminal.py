# SPDX-License-Identifier: GPL-2.0-or-later
"""How wide the terminal is, without what shutil imports for it."""

from __future__ import annotations

import os
from typing import Optional

_DEFAULT_COLUMNS = 80


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
