# SPDX-License-Identifier: GPL-2.0-or-later
"""Colours of the commands: the same everywhere, and never in what a script reads."""

from __future__ import annotations

import re

import pytest

from tests.kernel.commands import done, fs_rollback, on_terminal
from tests.kernel.machine import Machine

_COLOURED = {
    "list": "\033[36mpinned\033[m",
    "status": "\033[33mAttention:\033[m ",
    "check": "\033[32mok\033[m       root",
    "diff 256": "\033[32madded   \033[m /etc/new",
    "convert check": "\033[31mrefused\033[m ",
}


def _without(text: str) -> str:
    return re.sub("\033\\[[0-9;]*m", "", text)


@pytest.fixture
def shown(named: Machine) -> Machine:
    name = named.take("first")
    done(named.root, "pin", name)
    Machine.write(named.root, "etc/new", "new\n")
    return named


@pytest.mark.parametrize("command", _COLOURED)
def test_color_decides_and_changes_no_word(shown: Machine, command: str) -> None:
    snapshot = str(shown.snapshots()[0].id)
    words = command.replace("256", snapshot).split()
    plain = fs_rollback(shown.root, *words)
    always = fs_rollback(shown.root, *words, "--color", "always", env={"NO_COLOR": "1"})
    assert _COLOURED[command] in always.out
    assert "\033" not in plain.out
    assert _without(always.out) == plain.out
    assert (always.code, always.err) == (plain.code, plain.err)


@pytest.mark.parametrize("command", _COLOURED)
def test_nothing_that_a_script_reads_has_colours(shown: Machine, command: str) -> None:
    words = command.replace("256", str(shown.snapshots()[0].id)).split()
    told = fs_rollback(shown.root, *words, "--json", "--color=always")
    assert "\033" not in told.out
    assert "u001b" not in told.out


def test_a_terminal_gets_colours_unless_somebody_says_no(shown: Machine) -> None:
    def seen(*words: str, **environment: str) -> bool:
        terminal = on_terminal(shown.root, "list", *words, env=environment)
        assert terminal.end() == 0
        return _COLOURED["list"] in terminal.text

    assert seen(TERM="xterm")
    assert not seen(TERM="xterm", NO_COLOR="1")
    assert not seen(TERM="dumb")
    assert seen("--color=always", TERM="xterm", NO_COLOR="1")
    assert not seen("--color=never", TERM="xterm")


def test_a_word_that_color_does_not_know(shown: Machine) -> None:
    ended = fs_rollback(shown.root, "list", "--color", "alway")
    assert ended.code == 2
    assert ended.err.splitlines()[-1] == (
        "fs-rollback list: --color cannot be 'alway'. Did you mean 'always'?"
    )
    ended = fs_rollback(shown.root, "list", "--color", "green")
    assert ended.err.splitlines()[-1] == (
        "fs-rollback list: --color cannot be 'green'. Known: auto, always, never"
    )
