# SPDX-License-Identifier: GPL-2.0-or-later
"""Standard output and standard error, made so that a failed write stops no change halfway."""

from __future__ import annotations

import io
import os
import sys
from typing import Any

_NAMES = ("stdin", "stdout", "stderr")
_ANSWER = _NAMES.index("stdout")


class _Descriptor(io.RawIOBase):
    """A stream that goes on where nothing can be written to it, and remembers why.

    The reader of an answer that went away is no such problem: that ends a command as ever. What is
    said on standard error beside the answer ends nothing.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self._number = number
        self.problem = ""

    def fileno(self) -> int:
        return self._number

    def isatty(self) -> bool:
        return os.isatty(self._number)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        try:
            return os.write(self._number, data)
        except OSError as error:  # said at the end, by main()
            if isinstance(error, BrokenPipeError) and self._number == _ANSWER:
                raise
            self.problem = os.strerror(error.errno or 0)
            return len(data)


def is_dumb() -> bool:
    """Whether the terminal cannot erase, colour or move, or nothing says that it can."""
    return os.environ.get("TERM") in (None, "", "dumb")


def prepare() -> None:
    """Replace streams that are closed or may fail with ones that can be written to."""
    for number, name in enumerate(_NAMES):
        if getattr(sys, name) is None:  # it was closed
            os.dup2(_nowhere(), number)
            made = open(  # noqa: SIM115 - it is there as long as the process
                number, "w" if number else "r", errors="backslashreplace", closefd=False
            )
            setattr(sys, name, made)
        stream = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__"):
            continue  # another program has its own there
        if number == 0:
            stream.reconfigure(errors="replace")  # what somebody typed is no yes, and no traceback
            continue
        wrapped = io.TextIOWrapper(
            io.BufferedWriter(_Descriptor(number)),
            encoding=stream.encoding,
            # A terminal in the C locale must not turn a message into a traceback.
            errors="backslashreplace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )
        setattr(sys, name, wrapped)


def problem() -> str:
    """Return why the output so far could not be written, "" if it was."""
    sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.problem if isinstance(raw, _Descriptor) else ""


def finish() -> str:
    """Write out the rest of the output, and return why it could not be written, "" if it was."""
    found = ""
    try:
        found = problem()
    except OSError:  # its reader is gone
        _give_up(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:  # as above
        _give_up(sys.stderr)
    return found


def _give_up(stream: Any) -> None:
    """The reader went away; nothing more can be said to it, not at exit either."""
    os.dup2(_nowhere(), stream.fileno())


def _nowhere() -> int:
    try:
        return os.open(os.devnull, os.O_RDWR)
    except OSError:  # no /dev, as in a chroot: this goes with the process too
        return os.memfd_create("nowhere")
