# SPDX-License-Identifier: GPL-2.0-or-later
"""How far something is, as a terminal shows it, and that nothing else does."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.need import withhold
from tests.terminal import Terminal

_CODE = """
import sys, time
{first}
from fs_rollback.cli.terminal import progress
with progress("comparing", "files") as tell:
    for done in range(13):
        tell(done * 1000, 30000)
        time.sleep({pause})
print("the end")
"""
_PACKAGE = Path(__file__).parents[2] / "rollback"
_ENVIRONMENT = {**os.environ, "PYTHONPATH": str(_PACKAGE), "TERM": "xterm"}


def command(pause: float, first: str = "") -> list[str]:
    return [sys.executable, "-c", _CODE.format(pause=pause, first=first)]


def test_a_terminal_shows_a_rate_and_an_end_after_a_second() -> None:
    if find_spec("tqdm") is None:
        withhold("tqdm is not installed")
    slow = Terminal(command(0.12), _ENVIRONMENT)
    assert slow.end() == 0
    assert "comparing:  40%" in slow.text
    assert "12000/30000 [" in slow.text
    assert " files/s]" in slow.text
    quick = Terminal(command(0.01), _ENVIRONMENT)
    assert quick.end() == 0
    assert quick.text == "the end\n", "it took no second"


@pytest.mark.parametrize("first", ["", "sys.modules['tqdm'] = None"])
def test_nothing_is_shown_where_nobody_watches(first: str) -> None:
    done = subprocess.run(
        command(0.12, first), env=_ENVIRONMENT, capture_output=True, text=True, check=True
    )
    assert (done.stdout, done.stderr) == ("the end\n", "")


def test_nothing_is_shown_without_tqdm() -> None:
    terminal = Terminal(command(0.12, "sys.modules['tqdm'] = None"), _ENVIRONMENT)
    assert terminal.end() == 0
    assert terminal.text == "the end\n"


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
