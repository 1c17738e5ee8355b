# SPDX-License-Identifier: GPL-2.0-or-later
"""How wide texts are on a terminal: some characters take two columns, others and colours none."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_ESCAPE = "\033"  # a colour begins with it; no text that is fit for a terminal has it
_FILLER = "\ue000"  # for private use: no text that is fit for a terminal has it


def width(text: str) -> int:
    """Return how many columns a text takes: one fit for a terminal (report.clean), or coloured."""
    if _ESCAPE in text:
        import re

        text = re.sub(f"{_ESCAPE}\\[[0-9;]*m", "", text)
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    from unicodedata import category, east_asian_width

    # Marks on the character before, what only joins, and the later parts of a Korean syllable.
    if category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if east_asian_width(character) in ("W", "F") else 1


def fitting(text: str, columns: int) -> int:
    """Return how many characters from the beginning of a text fit into so many columns."""
    if text.isascii():
        return min(len(text), max(columns, 0))
    for count, character in enumerate(text):
        columns -= _width(character)
        if columns < 0:
            return count
    return len(text)


def padded(text: str, columns: int) -> str:
    """Return a text with blanks added, up to so many columns."""
    return text + " " * (columns - width(text))


def _is_plain(text: str) -> bool:
    """Whether each character is a column."""
    return text.isascii() and _ESCAPE not in text


def filled(texts: Iterable[str]) -> list[str]:
    """Return placeholders with one character for each column of a text, for `restored`."""
    return [text if _is_plain(text) else _FILLER * max(width(text), 1) for text in texts]


def restored(text: str, texts: Sequence[str]) -> str:
    """Return a text that has placeholders of `filled`, with all `texts` put back in their order."""
    import re

    left = (one for one in texts if not _is_plain(one))
    return re.sub(f"{_FILLER}+", lambda _: next(left), text)
