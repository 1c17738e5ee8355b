# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody probably meant who wrote something else: for a hint, never to act on."""

from __future__ import annotations

from collections.abc import Iterable

# "ls" is still like "list"; "remove" is not like "restore", which would mislead.
_LIKE = 0.65
_AS_LIKE = 0.02  # all names of snapshots are alike: what is less so than the best is not meant
_LONG = 100  # characters; nobody has mistyped that


def closest(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return which of the known words are most like `word`, best first, else in their order.

    Neither case nor the dashes of an option make words unlike: all options share those.
    """
    from difflib import SequenceMatcher

    said, folded = _folded(word), dict[str, str]()
    for one in known:
        folded.setdefault(_folded(one), one)
    if said in folded or len(said) > _LONG:
        return [folded[said]] if said in folded else []
    # This one is taken apart once.
    matcher = SequenceMatcher(b=said)

    def likeness(other: str) -> float:
        matcher.set_seq1(other)
        return matcher.ratio()

    scores = sorted(((likeness(other), other) for other in folded), key=lambda one: -one[0])[:most]
    enough = max(_LIKE, scores[0][0] - _AS_LIKE) if scores else 0
    return [folded[other] for score, other in scores if score >= enough]


def _folded(word: str) -> str:
    return word.lstrip("-").casefold()


def question(words: Iterable[str]) -> str:
    """Return the question whether one of these was meant, "" if there is none."""
    *others, last = [*words] or [""]
    return last and f"Did you mean {', '.join(others)}{' or ' if others else ''}{last}?"
