# SPDX-License-Identifier: GPL-2.0-or-later
"""Colours: where they are wanted, and that they change neither words nor columns."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

import pytest

from fs_rollback.cli.screen import colour
from fs_rollback.cli.screen.findings import boot_wording, findings_text
from fs_rollback.cli.terminal import attention, wrapped
from fs_rollback.core.boot import findings
from fs_rollback.core.columns import width
from fs_rollback.core.snapshots.record import Outcome
from fs_rollback.core.snapshots.snapshot import Roots
from fs_rollback.report import snapshot_table
from tests.terminal import Terminal
from tests.unit.samples import NOW, snapshot

_PACKAGE = Path(__file__).parents[2] / "rollback"
_ASK = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE)!r}); from fs_rollback.cli.screen import colour;"
    " print(ascii(colour.paint(sys.argv[1])('text', 'red')))"
)
_RED, _PLAIN = "'\\x1b[31mtext\\x1b[m'", "'text'"
ROOTS, ALWAYS = Roots(302, 302, 5), colour.paint("always")
_TERMINAL = {"TERM": "xterm-256color"}


def _without(text: str) -> str:
    return re.sub("\033\\[[0-9;]*m", "", text)


@pytest.mark.parametrize(
    ("when", "environment", "shown"),
    [
        ("auto", _TERMINAL, _RED),
        ("auto", {**_TERMINAL, "NO_COLOR": ""}, _RED),
        ("auto", {**_TERMINAL, "NO_COLOR": "0"}, _PLAIN),
        ("auto", {"TERM": "dumb"}, _PLAIN),
        ("auto", {"TERM": ""}, _PLAIN),
        ("auto", {}, _PLAIN),
        ("always", {"NO_COLOR": "1", "TERM": "dumb"}, _RED),
        ("never", _TERMINAL, _PLAIN),
    ],
)
def test_who_decides_on_a_terminal(when: str, environment: dict[str, str], shown: str) -> None:
    terminal = Terminal([sys.executable, "-c", _ASK, when], environment)
    assert terminal.end() == 0
    assert terminal.text == f"{shown}\n"


@pytest.mark.parametrize(("when", "is_coloured"), [("auto", 0), ("never", 0), ("always", 1)])
def test_in_a_pipe(
    when: str, is_coloured: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print(colour.paint(when)("text", "green"))
    assert ("\033" in capfd.readouterr().out) == is_coloured


@pytest.mark.parametrize("columns", [None, 40, 80, 120])
def test_a_table_with_colours_has_the_columns_of_one_without(columns: int) -> None:
    taken = [
        snapshot(300, "yum_20261123132900", pinned=True, description="plain"),
        snapshot(301, "yum_20261123132901", outcome=Outcome.FAILED, description="日本 語"),
        snapshot(302, "yum_20261123132902", description="x"),
    ]
    for shown in (taken, taken[2:]):
        plain = snapshot_table(shown, ROOTS, columns, NOW)
        painted = snapshot_table(shown, ROOTS, columns, NOW, ALWAYS)
        assert _without(painted) == plain
        for line in painted.splitlines():
            assert width(line) == width(_without(line))
    assert "\033[36mpinned\033[m" in snapshot_table(taken, ROOTS, columns, NOW, ALWAYS)


@pytest.mark.parametrize("columns", [None, 30, 80])
def test_sentences_break_where_they_would_without_colours(columns: int) -> None:
    def wrap(start: str, text: str, indent: int) -> list[str]:
        return wrapped(start, text, indent, columns)

    found = [
        findings.ok("a.b", "root", "all is well " * 5),
        findings.warning("a.c", "scrub", "this is odd " * 9, "do this " * 9),
        findings.fatal("a.d", "init", "this is broken", "mend it"),
    ]
    plain = findings_text(found, boot_wording(), wrap)
    painted = findings_text(found, boot_wording(), wrap, colour.paint("always"))
    assert _without(painted) == plain
    assert re.findall("\033\\[(\\d+)m(\\w+)", painted) == [
        ("32", "ok"), ("33", "warning"), ("31", "broken"),
    ]  # fmt: skip


def test_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    sentences = ["one", "a sentence that is rather long " * 4]
    plain, painted = (attention(sentences, colour.paint(when)) for when in ("never", "always"))
    assert [_without(line) for line in painted] == plain
    marked = [line for line in painted if line.startswith("\033[33mAttention:\033[m ")]
    assert len(marked) == len(sentences)


def test_what_snapshots_are_called_has_no_colours_of_its_own() -> None:
    """A terminal escape in what somebody wrote is shown, not obeyed."""
    for when, pinned in itertools.product(("always", "never"), (True, False)):
        odd = snapshot(300, "yum_20261123132900", pinned=pinned, description="\033[31mred")
        table = snapshot_table([odd], Roots(1, 1, 5), 120, NOW, colour.paint(when))
        assert "\\x1b[31mred" in table
        assert "\033[31m" not in table
