# SPDX-License-Identifier: GPL-2.0-or-later
"""SECURITY.md: on one page, each claim with tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

_TESTS = Path(__file__).parents[1]
_LINES = (_TESTS.parent / "SECURITY.md").read_text().splitlines()
_NAMED = re.compile(r"`((?:unit|kernel|dnf|packaging|vm)/\w+\.py)(?:::(\w+))?`")
_HEAD = re.compile(r"\| (they|it) can (write|hold) \| so \| tests \|")


def test_it_is_one_page() -> None:
    assert len(_LINES) <= 120


def test_each_test_that_is_named_is_there() -> None:
    named = [match.groups() for line in _LINES for match in _NAMED.finditer(line)]
    assert len(named) > 40
    for file, test in named:
        tree = ast.parse((_TESTS / file).read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert test in functions, f"{file} has no {test}"


def test_each_row_names_a_test() -> None:
    rows = [line for line in _LINES if line.startswith("|") and not line.startswith("|---")]
    heads = [row for row in rows if _HEAD.fullmatch(row)]
    assert len(heads) == _LINES.count("|---|---|---|") == 4
    for row in rows:
        assert row in heads or _NAMED.search(row.rsplit("|", 2)[1]), row


def test_no_test_of_these_is_forgotten() -> None:
    """What was written for this page is on it."""
    page = "\n".join(_LINES)
    for file in ("hostile_disk", "hostile_names", "threats"):
        text = (_TESTS / f"kernel/test_{file}.py").read_text()
        for test in re.findall(r"^def (test_\w+)", text, re.MULTILINE):
            assert f"`kernel/test_{file}.py::{test}`" in page, test
