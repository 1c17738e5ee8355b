# SPDX-License-Identifier: GPL-2.0-or-later
"""Action files of dnf 5: what it takes for the action that takes the snapshot."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Optional

import pytest

from fs_rollback.core.packages.dnf5_actions import PROGRAM, Action, find

OPTIONS = "enabled=host-only mode=json raise_error=1"
LINE = f"pre_transaction:::{OPTIONS}:{PROGRAM} ${{pid}}"


def test_the_line_as_shipped_is_found_behind_comments_and_other_actions() -> None:
    assert find(f"# a comment\n\npost_transaction:*:in::/bin/true\n{LINE}\n") == Action(4, True)
    assert find(LINE) == Action(1, True)
    assert find(LINE + "\r\n") == Action(1, True)


@pytest.mark.parametrize("options", [
    "mode=json raise_error=1", "raise_error=1  mode=json enabled=1", " enabled=host-only "
    "raise_error=0 raise_error=1 mode=json",
])  # fmt: skip
def test_other_words_for_the_same(options: str) -> None:
    assert find(LINE.replace(OPTIONS, options)) == Action(1, True)


@pytest.mark.parametrize(("old", "new"), [
    ("pre_transaction", "post_transaction"),
    (":::", ":kernel::"),
    (":::", ":kernel:in:"),
    ("host-only", "installroot-only"),
    ("mode=json", "mode=plain"),
    (" mode=json", ""),
    ("raise_error=1", "raise_error=0"),
    (" raise_error=1", ""),
    ("raise_error=1", "raise_error=1 other=1"),
    ("${pid}", ""),
    ("${pid}", "${no_such_variable}"),
    ("${pid}", "${pid} more"),
])  # fmt: skip
def test_an_edited_line_takes_no_snapshot_or_cannot_stop_dnf(old: str, new: str) -> None:
    assert old in LINE
    assert find(LINE.replace(old, new)) == Action(1, False)


@pytest.mark.parametrize("text", [
    "", "#" + LINE, "pre_transaction:::" + OPTIONS, f"a:b:c:{PROGRAM}",
    LINE.replace(PROGRAM, PROGRAM + "-not"), f"pre_transaction::::/bin/echo {PROGRAM}",
])  # fmt: skip
def test_what_does_not_run_the_program(text: str) -> None:
    found: Optional[Action] = find(text)
    assert found is None


def test_an_edited_line_counts_beside_a_whole_one() -> None:
    """dnf 5 runs only the first of two with the same command."""
    edited = LINE.replace("raise_error=1", "raise_error=0")
    assert find(f"{LINE}\n{edited}\n{LINE}\n") == Action(2, False)
    assert find(f"{LINE}\n{LINE}\n") == Action(1, True)


@pytest.mark.parametrize("words", [(), ("--help",), ("1", "2"), ("-1",)])
def test_a_person_who_starts_it_is_told_who_does(words: tuple[str, ...]) -> None:
    program = Path(__file__).parents[2] / "plugin/dnf5/entry.py"
    done = subprocess.run(
        [sys.executable, str(program), *words], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"usage: {program} PID\n")
