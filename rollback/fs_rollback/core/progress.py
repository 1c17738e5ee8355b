# SPDX-License-Identifier: GPL-2.0-or-later
"""How far a long task is: the task reports it, and its caller may show it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

# Told how much is done, and of how much; that is 0 where nobody knows.
Progress = Callable[[int, int], object]
# Given what is done, and what is counted: lets Progress be shown as long as that is entered.
Watch = Callable[[str, str], AbstractContextManager[Progress]]
_T = TypeVar("_T")
_EVERY = 64  # to tell of each one would take time that can be measured


def untold(_done: int, _total: int) -> None:
    """Progress that nobody watches."""


def unwatched(_what: str, _unit: str) -> AbstractContextManager[Progress]:
    """Watch nothing."""
    return nullcontext(untold)


def told(things: Collection[_T], before: int, progress: Progress) -> Iterator[_T]:
    """Give the things, and report progress now and then; `before` things were done already."""
    total = before + len(things)
    for number, thing in enumerate(things):
        if number % _EVERY == 0:
            progress(before + number, total)
        yield thing
