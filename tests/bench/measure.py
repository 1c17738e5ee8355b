# SPDX-License-Identifier: GPL-2.0-or-later
"""Samples, taken in turns, and the tables that compare them.

Other processes disturb a measurement: all cases are run in each round, in an order that changes,
and what is compared is the medians.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import Callable, NamedTuple

from tabulate import tabulate

_SEED = 1
_RESAMPLED = 300


Case = Callable[[], None]


class Promise(NamedTuple):
    """A line should take at most `at_most` times what another one does, and `more_s` besides."""

    line: str
    against: str
    at_most: float
    more_s: float = 0.0


class Samples:
    """Seconds by line, in the order of the rounds."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def time(self, line: str) -> Iterator[None]:
        """Time the block as one sample of the line."""
        begin = time.perf_counter()
        yield
        self.seconds.setdefault(line, []).append(time.perf_counter() - begin)

    def median(self, line: str) -> float:
        return statistics.median(self.seconds[line])

    def ratio(self, line: str, against: str, less_s: float = 0.0) -> float:
        """Return how often a line takes what another one does, so many seconds aside."""
        return (self.median(line) - less_s) / self.median(against)

    def uncertainty(self, line: str, against: str, less_s: float = 0.0) -> tuple[float, float]:
        """Return where 95 % of the ratios lie that other draws of the same rounds would give."""
        draw = random.Random(_SEED)
        pairs = list(zip(self.seconds[line], self.seconds[against]))
        found = []
        for _ in range(_RESAMPLED):
            mine, other = zip(*draw.choices(pairs, k=len(pairs)))
            found.append((statistics.median(mine) - less_s) / statistics.median(other))
        found.sort()
        return found[int(0.025 * _RESAMPLED)], found[int(0.975 * _RESAMPLED)]


def in_turns(cases: Sequence[Case], rounds: int, samples: Samples, *, warm_up: int = 2) -> None:
    """Run every case once a round, in a new order each time; what the warm-up took is dropped."""
    order = random.Random(_SEED)
    for number in range(-warm_up, rounds):
        if number == 0:
            samples.seconds.clear()
        for case in order.sample(cases, len(cases)):
            case()


def commands_in_turns(
    commands: Mapping[str, Sequence[str]],
    environment: Mapping[str, str],
    rounds: int,
    codes: Mapping[str, int] = MappingProxyType({}),
) -> Samples:
    """Time whole processes, from before the fork until they are waited for.

    `codes` are the exit codes to expect of lines, where they are not 0.
    """
    samples = Samples()

    def case(line: str, command: Sequence[str]) -> Case:
        def run() -> None:
            with samples.time(line):
                done = subprocess.run(
                    command, env=environment, stdout=subprocess.DEVNULL, check=False
                )
            assert done.returncode == codes.get(line, 0), command

        return run

    in_turns([case(line, command) for line, command in commands.items()], rounds, samples)
    return samples


def table(title: str, samples: Samples, first: str) -> str:
    """Return all lines with their ratio to the line `first`."""
    rows = []
    for line, seconds in samples.seconds.items():
        low, middle, high = (1000 * q for q in _quartiles(seconds))
        rows.append(
            [line, f"{middle:.2f}", f"{low:.2f} - {high:.2f}", f"{samples.ratio(line, first):.2f}"]
        )
    rows.sort(key=lambda row: row[0])
    headers = ["", "median ms", "quartiles ms", f"to '{first}'"]
    return f"\n{title}\n\n{plain_table(rows, headers)}\n"


def _quartiles(seconds: Sequence[float]) -> tuple[float, float, float]:
    if len(seconds) < 2:
        return seconds[0], seconds[0], seconds[0]
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return low, middle, high


def promises(samples: Samples, made: Sequence[Promise]) -> str:
    """Return what was promised and what was measured."""
    rows = []
    for line, against, at_most, more_s in made:
        ratio = samples.ratio(line, against, more_s)
        low, high = samples.uncertainty(line, against, more_s)
        kept = "kept" if ratio <= at_most else "NOT KEPT"
        # What was measured is without what is allowed besides.
        bound = f"{at_most:g}" + (f" + {more_s:g} s" if more_s else "")
        rows.append([line, against, bound, f"{ratio:.2f}", f"{low:.2f} - {high:.2f}", kept])
    headers = ["", "against", "at most", "measured", "95 %", ""]
    return f"Promises\n\n{plain_table(rows, headers, left=(0, 1, 5))}\n"


def plain_table(
    rows: Sequence[Sequence[str]], headers: Sequence[str], left: Sequence[int] = (0,)
) -> str:
    """Return a table whose columns other than those in `left` are aligned to the right."""
    aligned = ["left" if i in left else "right" for i in range(len(headers))]
    return str(tabulate(rows, headers=headers, colalign=aligned, disable_numparse=True))
