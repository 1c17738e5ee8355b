# SPDX-License-Identifier: GPL-2.0-or-later
"""Someone at the keyboard of a sandbox: what they type, what they see, what they answer."""

from __future__ import annotations

import codecs
import errno
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from typing import Callable, NamedTuple

from tests.sandbox.machine import Sandbox

from .proof import CheckFailedError
from .screen import Screen

_PATIENCE_S = 120.0
_ROWS, _COLUMNS = 24, 80
_QUESTION = "[y/N] "
_LOOK_S = 0.05

# As a shell has it: the number of the signal comes on top.
_SIGNALED = 128
_INTERRUPTED = _SIGNALED + signal.SIGINT


class Seen(NamedTuple):
    """What a command printed, on both streams, and its exit code."""

    text: str
    code: int


def _nothing() -> None:
    """Do nothing meanwhile."""


class Console:
    """Runs command lines in a sandbox and shows them as they would be seen there."""

    def __init__(self, sandbox: Sandbox, screen: Screen) -> None:
        self._sandbox = sandbox
        self._screen = screen

    def root(self, line: str, *, code: int = 0) -> str:
        """Run a line as root, into a pipe; it has to end with that code."""
        return self._typed("#", line, ["sh", "-c", line], code)

    def user(self, line: str) -> str:
        """Run a line as the user 1000."""
        become = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups"]
        return self._typed("$", line, [*become, "sh", "-c", line], 0)

    def root_answers(self, line: str, answer: str) -> str:
        """Run a line as root on a terminal, and answer its question there."""
        self._screen.typed("#", line)
        master, slave = pty.openpty()
        try:
            size = struct.pack("4H", _ROWS, _COLUMNS, 0, 0)
            fcntl.ioctl(slave, termios.TIOCSWINSZ, size)
            process = self._sandbox.running.popen(
                ["sh", "-c", line], stdin=slave, stdout=slave, stderr=slave
            )
            os.close(slave)
            seen = self._followed(process, master, answer)
        finally:
            os.close(master)
        if _QUESTION not in seen.text:
            raise CheckFailedError(f"'{line}' asks before it acts", _QUESTION, seen.text)
        return self._ended(line, seen, 0)

    def root_interrupts(self, line: str, path: str) -> str:
        """Run a line as root at a terminal, and press Ctrl-C there once a file exists.

        What is printed goes into a pipe: dnf would draw on a terminal.
        """
        self._screen.typed("#", line)
        master, slave = pty.openpty()
        waited_for = [self._sandbox.path(path)]

        def press() -> None:
            if waited_for and waited_for[0].exists():
                waited_for.clear()
                self._screen.shown("^C\n")
                os.write(master, b"\x03")

        try:
            process = self._sandbox.running.popen(
                ["setsid", "--ctty", "sh", "-c", line], stdin=slave, stderr=subprocess.STDOUT
            )
            os.close(slave)
            assert process.stdout is not None
            with process.stdout as pipe:
                seen = self._followed(process, pipe.fileno(), meanwhile=press)
        finally:
            os.close(master)
        return self._ended(line, seen, _INTERRUPTED)

    def reboot(self) -> None:
        """Reboot the machine, as root would."""
        self._screen.typed("#", "reboot")
        self._sandbox.reboot()
        # There is no systemd in the sandbox: what fs-rollback-boot.service starts.
        self._screen.shown(self._sandbox.output("fs-rollback", "settle", "--at-boot"))

    def _typed(self, prompt: str, line: str, argv: Sequence[str], code: int) -> str:
        self._screen.typed(prompt, line)
        process = self._sandbox.running.popen(argv, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        with process.stdout as pipe:
            return self._ended(line, self._followed(process, pipe.fileno()), code)

    def _ended(self, line: str, seen: Seen, code: int) -> str:
        if seen.code != code:
            raise CheckFailedError(f"'{line}' ends with exit code {code}", code, seen.code)
        if code:
            self._screen.shown(f"(exit code {code})\n")
        return seen.text

    def _followed(
        self,
        process: subprocess.Popen[str],
        source: int,
        answer: str = "",
        meanwhile: Callable[[], None] = _nothing,
    ) -> Seen:
        """Show what comes until the end; a command that takes too long is killed."""
        text = ""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        deadline = time.monotonic() + _PATIENCE_S
        try:
            while data := _read(source, deadline, meanwhile):
                part = decoder.decode(data).replace("\r", "")
                self._screen.shown(part)
                text += part
                if answer and text.endswith(_QUESTION):
                    # The terminal echoes it, so it is seen too.
                    os.write(source, f"{answer}\n".encode())
                    answer = ""
            code = process.wait(max(deadline - time.monotonic(), 1))
            return Seen(text, code if code >= 0 else _SIGNALED - code)
        except BaseException:
            self._sandbox.signal(process, signal.SIGKILL)
            process.wait()
            raise


def _read(source: int, deadline: float, meanwhile: Callable[[], None]) -> bytes:
    """Return what there is to read, nothing at the end. Raises TimeoutError."""
    while not select.select([source], [], [], _LOOK_S)[0]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"the command is not done after {_PATIENCE_S:.0f} s")
        meanwhile()
    try:
        return os.read(source, 65536)
    except OSError as error:
        if error.errno != errno.EIO:  # nobody has the other end of the terminal any more
            raise
        return b""
