# SPDX-License-Identifier: GPL-2.0-or-later
"""Columns as terminals count them: what is said here of characters, UAX 11 and wcwidth(3) say."""

from __future__ import annotations

import pytest

from fs_rollback.cli.terminal import wrapped
from fs_rollback.core.columns import fitting, padded, width
from fs_rollback.core.snapshots.names import shortened
from fs_rollback.core.snapshots.snapshot import Roots
from fs_rollback.report import plain_table, snapshot_table
from tests.unit.samples import NOW, snapshot

_DECOMPOSED = "ne\u0301e"  # é of two characters


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("", 0),
        ("plain", 5),
        ("n\u00e9e", 3),
        (_DECOMPOSED, 3),
        ("日本語", 6),
        ("\uff21\uff76\uff9e", 2 + 1 + 1),  # of full width, and two of half
        ("한글", 4),
        ("\u1112\u1161\u11ab", 2),  # one syllable of three characters
        ("\U0001f44d!", 3),
        ("a\u200bb", 2),
        ("ab\u00a0c", 4),
    ],
)
def test_width(text: str, columns: int) -> None:
    assert width(text) == columns
    assert width(padded(text, 10)) == 10
    assert fitting(text, columns) == len(text)
    assert width(text[: fitting(text, columns - 1)]) <= max(columns - 1, 0)


@pytest.mark.parametrize(
    ("text", "room", "found"),
    [
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日..."),
        ("日本語です", 8, "日本..."),
        (3 * _DECOMPOSED, 9, 3 * _DECOMPOSED),
        (3 * _DECOMPOSED, 8, f"{_DECOMPOSED}ne\u0301..."),
        ("plain text", 8, "plain..."),
    ],
)
def test_what_is_too_wide_is_shortened(text: str, room: int, found: str) -> None:
    assert shortened(text, room) == found


def test_columns_of_a_table_line_up() -> None:
    cells = ("plain", "日本 語", _DECOMPOSED, "\u0301", "")
    lines = plain_table([[cell, "end"] for cell in cells], ["Header of a column", "Last"])
    rows = lines.splitlines()[2:]
    assert [row.split("  ")[0].rstrip() for row in rows] == list(cells)
    assert len({width(row[: row.index("end")]) for row in rows if "\u0301\u0020" not in row}) == 1


@pytest.mark.parametrize("columns", [60, 80, 100])
def test_a_table_is_no_wider_than_the_terminal(columns: int) -> None:
    texts = ("システムを更新する前の状態" * 4, _DECOMPOSED * 40)
    taken = [snapshot(300 + n, description=text) for n, text in enumerate(texts)]
    lines = snapshot_table(taken, Roots(256, 256, 5), columns, NOW).splitlines()
    assert all(columns - 2 <= width(line) <= columns for line in lines[2:])


@pytest.mark.parametrize("columns", [30, 40, 60])
def test_sentences_are_no_wider_than_the_terminal(columns: int) -> None:
    words = ["/srv/データ,", "/srv/バックアップ", "and", f"/srv/{_DECOMPOSED}", "\u0301", "plain"]
    sentence = " ".join(words * 6)
    lines = wrapped("  日 ", sentence, 4, columns)
    assert max(map(width, lines)) <= columns
    assert max(map(width, lines)) > columns - 20
    assert " ".join(line.strip() for line in lines) == f"日 {sentence}"
