# SPDX-License-Identifier: GPL-2.0-or-later
"""Types at a program on a terminal, and reads what it shows there."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Mapping

_TIMEOUT_S = 120.0
_CLEARED = "\r\033[K"


def bars(text: str) -> tuple[list[str], str]:
    """Tell the bars that were shown on a terminal from the text that is left there."""
    shown, left = [], ""
    *pieces, end = text.split(_CLEARED)
    for piece in pieces:
        above, line_end, line = piece.rpartition("\n")
        left += above + line_end
        shown += [line.partition("\r")[0]] if line else []
    return shown, left + end


class Terminal:
    """A command on a terminal of its own, which it controls: Ctrl-C is a signal there."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self.process, self._terminal = pty.fork()
        if self.process == 0:
            os.chdir("/")
            os.execvpe(command[0], command, environment)  # noqa: S606 - what pty.fork() is for
        self.text = ""
        self._deadline = time.monotonic() + _TIMEOUT_S

    def read_until(self, pattern: str) -> None:
        """Read what the command prints until it has printed `pattern`."""
        while not re.search(pattern, self.text):
            assert self._read(), f"no {pattern!r} in {self.text!r}"

    def type(self, text: str) -> None:
        """Type it; "\\x03" is Ctrl-C."""
        # As a person does, when it reads: a signal between Python's last look and read(2) waits
        # for another key.
        time.sleep(0.2)
        os.write(self._terminal, os.fsencode(text))

    def end(self) -> int:
        """Read what is left and return the exit code."""
        while self._read():
            pass
        os.close(self._terminal)
        status = os.waitpid(self.process, 0)[1]
        assert "Traceback" not in self.text, self.text
        return os.waitstatus_to_exitcode(status)

    def _read(self) -> bool:
        left = self._deadline - time.monotonic()
        ready = select.select([self._terminal], [], [], max(left, 0))[0]
        assert ready, f"the command hangs: {self.text!r}"
        try:
            data = os.read(self._terminal, 65536)
        except OSError:  # EIO: the other end is closed
            return False
        self.text += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)
