# SPDX-License-Identifier: GPL-2.0-or-later
"""What the demo prints: the narrator, what is typed, what is seen, what was checked."""

from __future__ import annotations

import os
import textwrap
from typing import TextIO

_WIDTH = 80


class Screen:
    """A stream with a few kinds of text; in color if it is a terminal that wants it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        plain = "NO_COLOR" in os.environ or os.environ.get("TERM", "dumb") == "dumb"
        self._color = stream.isatty() and not plain

    def heading(self, text: str) -> None:
        """Begin a chapter."""
        self.shown("\n" + self._painted("1;36", f"==== {text} ".ljust(_WIDTH, "=")) + "\n")

    def say(self, text: str) -> None:
        """Let the narrator speak."""
        filled = textwrap.fill(
            text, _WIDTH, initial_indent="-- ", subsequent_indent="   ", break_on_hyphens=False
        )
        self.shown(f"\n{self._painted('36', filled)}\n")

    def typed(self, prompt: str, line: str) -> None:
        """Show a command line as it is typed."""
        self.shown(f"\n{prompt} {self._painted('1', line)}\n")

    def passed(self, text: str) -> None:
        """Note a check that held."""
        self.shown(f"{self._painted('32', '   [ok]')} {text}\n")

    def shown(self, text: str) -> None:
        """Print the text as it is, now."""
        self._stream.write(text)
        self._stream.flush()

    def _painted(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self._color else text
