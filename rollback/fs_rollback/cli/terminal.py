# SPDX-License-Identifier: GPL-2.0-or-later
"""How wide the terminal is, without what shutil imports for it."""

from __future__ import annotations

import os

_DEFAULT_COLUMNS = 80


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
