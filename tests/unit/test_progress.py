# SPDX-License-Identifier: GPL-2.0-or-later
"""How far something is, as a terminal shows it, and that nothing else does; and how it is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.need import withhold
from tests.terminal import Terminal, bars

_CODE = """
import sys, time
from fs_rollback.cli import terminal
{first}
with terminal.{shown}("comparing", "{unit}") as tell:
    for done in range(13):
        tell(done * 1000, {total})
        time.sleep({pause})
    {last}
print("the end")
"""
# A second of it is a second of the program's own, however busy the machine is.
_CLOCK = """
from types import SimpleNamespace
passed = []
time.sleep = passed.append
terminal.time = SimpleNamespace(monotonic=lambda: sum(passed))
"""
_SOON = "terminal._DELAY_S = terminal._EVERY_S = 0.0"
_PACKAGE = Path(__file__).parents[2] / "rollback"
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_PACKAGE), "TERM": "xterm"}


def command(
    pause: float,
    first: str = "",
    *,
    total: int = 30000,
    unit: str = "files",
    last: str = "",
    shown: str = "progress",
) -> list[str]:
    code = _CODE.format(pause=pause, first=first, total=total, unit=unit, last=last, shown=shown)
    return [sys.executable, "-c", code]


def need_tqdm() -> None:
    if find_spec("tqdm") is None:
        withhold("tqdm is not installed")


def shown(program: list[str], columns: int = 80, code: int = 0) -> tuple[list[str], str]:
    """Return what was on the line one after the other, and what is left at the end."""
    terminal = Terminal(program, {**_ENVIRONMENT, "COLUMNS": str(columns)})
    assert terminal.end() == code
    return bars(terminal.text)


def test_a_terminal_shows_a_rate_and_an_end_after_a_second() -> None:
    need_tqdm()
    found, left = shown(command(0.12))
    begin = r"comparing:  40%\|#+ +\| 12000/30000 \[00:01<00:0\d, \d"
    assert any(re.match(begin, bar) for bar in found)
    assert found[-1].endswith(" files/s]")
    assert left == "the end\n"
    assert shown(command(0.01, _CLOCK)) == ([], "the end\n"), "it took no second"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (80, (r"40%\|#+.*\| 12000/30000 \[.*<.*files/s", "12000 files", r"11.7k/29.3k.*kB/s")),
        (40, (r"comparing: 40% 00:00 \d", "comparing: 12000", "comparing: 40%")),
        (20, ("comparing: 40% 00", "comparing: 12000", "comparing: 40%")),
    ],
)
def test_it_fits_and_says_what_matters(columns: int, expected: tuple[str, ...]) -> None:
    need_tqdm()
    known = command(0.002, _SOON)
    programs = (known, command(0.002, _SOON, total=0), command(0.002, _SOON, unit="B"))
    for program, pattern in zip(programs, expected):
        found, left = shown(program, columns)
        assert left == "the end\n"
        assert len(found) > 3
        # What Ctrl-C shows is on the line too.
        assert max(map(len, found)) + len("^C") < columns
        assert re.search(pattern, found[-1])


def test_whatever_ends_it_leaves_a_clean_line() -> None:
    need_tqdm()
    found, left = shown(command(0.002, _SOON, last="raise SystemExit('interrupted')"), code=1)
    assert (len(found), left) == (13, "interrupted\n")
    # And what is said in between has a line of its own.
    found, left = shown(
        command(0.002, _SOON, shown="Bar", last="tell.clear(); print('said'); tell(1, 2)")
    )
    assert (len(found), left) == (14, "said\nthe end\n")


@pytest.mark.parametrize("first", [_SOON, f"{_SOON}; sys.modules['tqdm'] = None"])
def test_nothing_is_shown_where_nobody_watches(first: str) -> None:
    done = subprocess.run(
        command(0.002, first), env=_ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("the end\n", "")


@pytest.mark.parametrize(
    "first", ["sys.modules['tqdm'] = None", "terminal.os.environ['TERM'] = 'dumb'"]
)
def test_nothing_is_shown_without_tqdm_or_on_a_dumb_terminal(first: str) -> None:
    assert shown(command(0.002, f"{_SOON}; {first}")) == ([], "the end\n")


def test_tqdm_is_loaded_only_to_be_shown() -> None:
    last = "assert 'tqdm' not in sys.modules"
    assert shown(command(0.01, _CLOCK, last=last)) == ([], "the end\n")


def test_a_console_gets_lines() -> None:
    """What takes no second is none, and with no end known none is said; no terminal is needed."""
    for program, ending in (
        (command(0.55, _CLOCK, shown="lines"), " left\n"),
        (command(0.55, _CLOCK, shown="lines", total=0), "/s\n"),
        (command(0.05, _CLOCK, shown="lines"), ""),
    ):
        done = subprocess.run(program, env=_ENVIRONMENT, capture_output=True, text=True, check=True)
        said = done.stderr.splitlines(keepends=True)
        assert len(said) == (2 if ending else 0)
        of = " of 30,000" if "left" in ending else ""
        for line in said:
            assert re.match(rf"fs-rollback: comparing: [\d,]+,000{of} files, [\d,]+/s", line)
            assert line.endswith(ending)


@pytest.mark.parametrize(
    ("typed", "said"),
    [("y\n", "y\n<y>"), ("\x04", "\n<>"), ("y\x04\x04", "y\n<y>"), ("\x03", "^C\n<interrupted>")],
)
def test_a_question_ends_its_line_whatever_is_typed(typed: str, said: str) -> None:
    program = """
from fs_rollback.cli import terminal
try:
    print(f"<{terminal.ask('Is it? ')}>")
except KeyboardInterrupt:
    print("<interrupted>")
"""
    asked = Terminal([sys.executable, "-c", program], _ENVIRONMENT)
    asked.read_until(r"Is it\? $")
    asked.type(typed)
    assert asked.end() == 0
    assert asked.text == f"Is it? {said}\n"
