# SPDX-License-Identifier: GPL-2.0-or-later
"""The terminal: its width (without importing shutil), questions, progress."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Callable, Optional

from .screen import streams

if TYPE_CHECKING:
    from ..core.progress import Progress
    from ..report import Paint

HARD = "\u00a0"  # holds together what is typed as it stands: no line ends there
_COMMAND = r"(?<![^\s(])'[^']+'(?![^\s.,;:)])|(?<=: )fs-rollback .*$"
_DEFAULT_COLUMNS = 80
_MOST_COLUMNS = 10_000  # a bar as wide as $COLUMNS may say would need more memory than there is
_DELAY_S, _EVERY_S = 1.0, 0.1
_LINE_EVERY_S = 5.0  # on a console, where each one stays, and is kept in the journal
_START = "\r"
_CLEAR = f"{_START}\033[K"  # ECMA-48: carriage return, and erase in line
# With what the terminal shows for Ctrl-C it must still be one line.
_MARGIN = 3
# Of tqdm: what matters most comes first where there is no room for all of it.
_NARROW, _WITHOUT_END = "{desc}: {percentage:.0f}% {remaining} {rate_fmt}", "{desc}: {n_fmt}"


def table_width() -> Optional[int]:
    """Return how wide a table may be; None (no limit) where stdout is no terminal."""
    return columns() if os.isatty(1) else None


def columns(descriptor: int = 1) -> int:
    """Return the number of columns: $COLUMNS, what the terminal on stdout says, or 80."""
    try:
        return min(int(os.environ["COLUMNS"]) or _DEFAULT_COLUMNS, _MOST_COLUMNS)
    except (KeyError, ValueError):
        pass  # it says nothing
    try:
        return os.get_terminal_size(descriptor).columns or _DEFAULT_COLUMNS
    except OSError:  # no terminal
        return _DEFAULT_COLUMNS


def wrapped(start: str, sentence: str, indent: int, width: Optional[int] = None) -> list[str]:
    """Return `start` and a sentence, in lines of at most `width` columns; None means one line.

    Further lines are indented. Words are not broken, nor text joined by HARD, nor a command in
    quotation marks or at the end: pasting a part of it would do something else. Control characters,
    which a name that a user gave may have, are written out.
    """
    from ..report import clean

    sentence = HARD.join(map(clean, sentence.split(HARD)))
    if width is None:
        return [f"{start}{sentence}".replace(HARD, " ")]
    import re
    import textwrap

    from ..core.columns import filled, restored

    held = re.sub(_COMMAND, lambda found: found[0].replace(" ", HARD), sentence)
    # It counts characters.
    begin, words = start.split(" "), re.sub(r"[\t-\r]", " ", held).split(" ")
    lines = textwrap.wrap(
        " ".join(filled(words)), max(width, 20), initial_indent=" ".join(filled(begin)),
        subsequent_indent=" " * indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    text = restored("\n".join(lines), [*begin, *words])
    return text.replace(HARD, " ").split("\n") if lines else [start]


def attention(sentences: Iterable[str], paint: Paint) -> list[str]:
    """Return the lines of what somebody should act on."""
    from ..report import clean

    found, word, width = list[str](), "Attention:", table_width()
    for sentence in sentences:
        first, *others = wrapped(f"{word} ", clean(sentence), 4, width)
        found += [paint(word, "yellow") + first[len(word) :], *others]
    return found


def said(start: str, text: str) -> list[str]:
    """Return the lines of a message for standard error, wrapped if that is a terminal."""
    width = columns(2) if sys.stderr.isatty() else None
    first, *others = text.split("\n")
    lines = wrapped(start, first, 2, width)
    return [*lines, *(line for other in others for line in wrapped("", other, 2, width))]


def ask(question: str) -> str:
    """Ask on the terminal, and return the answer; the line is always ended."""
    print(question, end="", file=sys.stderr, flush=True)
    answer = ""
    try:
        answer = sys.stdin.readline()
    finally:
        if not answer.endswith("\n"):  # Ctrl-D, Ctrl-C
            print(file=sys.stderr)
    return answer.strip()


@contextmanager
def now_doing() -> Iterator[Callable[[str], None]]:
    """Give a function that shows what is being done: each text replaces the one before.

    At the end the line is cleared. On a terminal that cannot erase, each text gets its own line.
    """
    from ..core.snapshots.names import shortened
    from ..report import clean

    can_erase = not streams.is_dumb()

    def tell(text: str) -> None:
        if not sys.stderr.isatty():
            return
        room = max(columns(2) - _MARGIN, 1)
        shown = shortened(clean(text), room)
        with suppress(OSError):  # it went away, which stops nothing
            # The cursor is at the start, over which the terminal writes ^C.
            line = f"{_CLEAR}{shown}{shown and _START}" if can_erase else f"{shown}\n"
            print(line, end="", file=sys.stderr, flush=True)

    try:
        yield tell
    finally:
        if can_erase:
            tell("")


class Bar:
    """A progress bar on the terminal on stderr, with the rate, and the time left where known.

    It appears after a second, if tqdm is installed. It is a Progress; `unit` is what is counted:
    "B" is bytes. At the end the line is cleared.
    """

    def __init__(self, what: str, unit: str) -> None:
        self._what, self._unit = what, unit
        self._begin = time.monotonic()
        self.is_watched = sys.stderr.isatty() and not streams.is_dumb()
        self._next = self._begin + _DELAY_S if self.is_watched else float("inf")
        self._is_shown = False

    def __enter__(self) -> Bar:
        """Begin."""
        return self

    def __exit__(self, *_: object) -> None:
        """End, also after an error."""
        self.clear()

    def __call__(self, done: int, total: int) -> None:
        """Show how much is done of `total`, 0 if that is unknown."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_S
        try:
            text = self._text(done, total, now - self._begin)
            self._is_shown = True  # a signal may come in the middle
            print(f"{_CLEAR}{text}\r", end="", file=sys.stderr, flush=True)
        except (ImportError, OSError):  # no tqdm, or the terminal went away: nothing is shown
            self._next = float("inf")

    def clear(self) -> None:
        """Clear the line, for another message."""
        if self._is_shown:
            self._is_shown = False
            with suppress(OSError):  # it went away
                print(_CLEAR, end="", file=sys.stderr, flush=True)

    def _text(self, done: int, total: int, passed_s: float) -> str:
        from tqdm import tqdm  # only now: it takes as long as a short command

        from ..core.columns import fitting
        from ..core.columns import width as columns_of
        from ..core.snapshots.names import shortened
        from ..report import clean

        width, unit = max(columns(2) - _MARGIN, 1), f" {self._unit}"
        most = width * 2 // 3
        what = shortened(clean(self._what), most)  # a path may be long
        scale = {}
        if self._unit == "B":
            unit, scale = "B", {"unit_scale": True, "unit_divisor": 1024}
        count = (min(done, total), total) if total else (done, None)
        meter = partial(
            tqdm.format_meter, *count, passed_s, prefix=what, unit=unit, ascii=" #", **scale
        )
        spare = 9 if total else 0  # not even with a bar of one character, instead of ten?
        if columns_of(meter()) - spare > width:
            text = str(meter(bar_format=_NARROW if total else _WITHOUT_END))
            return text[: fitting(text, width)]
        return str(meter(ncols=width))


def progress(what: str, unit: str) -> AbstractContextManager[Progress]:
    """Show a Bar for the work inside, if stderr is a terminal: a Watch."""
    from ..core.progress import unwatched

    bar = Bar(what, unit)
    return bar if bar.is_watched else unwatched(what, unit)


@contextmanager
def lines(what: str, unit: str) -> Iterator[Progress]:
    """Print a line of progress every few seconds: a Watch for the console at boot.

    The journal gets these lines too, and a bar would be unreadable there.
    """
    from ..report import clean

    begin = time.monotonic()
    soon = begin + _DELAY_S

    def tell(done: int, total: int) -> None:
        nonlocal soon
        now = time.monotonic()
        if now < soon:
            return
        soon = now + _LINE_EVERY_S
        rate = done / (now - begin)
        text = f"{done:,}{f' of {total:,}' if total else ''} {unit}, {rate:,.0f}/s"
        if total and rate:
            text += f", {max(total - done, 0) / rate:.0f} s left"
        with suppress(OSError):  # nobody reads it
            print(f"fs-rollback: {clean(what)}: {text}", file=sys.stderr, flush=True)

    yield tell
