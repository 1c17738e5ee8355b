# SPDX-License-Identifier: GPL-2.0-or-later
"""CONTRIBUTING.md and docs/ name files and rooms: those have to be there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.unit.test_architecture import CHECKOUT, PACKAGE, ROOMS

DOCUMENTS = (CHECKOUT / "CONTRIBUTING.md", *sorted((CHECKOUT / "docs").glob("*.md")))
_QUOTED = re.compile(r"`([^`\s]+)`")


def _is_there(word: str, beside: str) -> bool:
    """Whether a path is in the checkout, in the package, or in the folder named last."""
    places = (CHECKOUT, PACKAGE, PACKAGE / beside, CHECKOUT / beside)
    return any(list(place.glob(word)) for place in places)


def _missing(text: str) -> list[str]:
    missing, beside = [], ""
    for word in _QUOTED.findall(text):
        is_path = "/" in word or word.endswith((".py", ".md"))
        # Not of the checkout; or, as .ci, not in the tarball in which make rpm runs this.
        is_elsewhere = word.startswith(("/", "fs-snapshots/", "."))
        if not is_path or is_elsewhere or not re.fullmatch(r"[\w.*/-]+", word):
            continue
        if not _is_there(word.rstrip("/"), beside):
            missing.append(word)
        beside = word.rpartition("/")[0] or beside
    return missing


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_is_named_is_there(document: Path) -> None:
    assert _missing(document.read_text()) == []


def test_the_map_has_every_room() -> None:
    drawn = (CHECKOUT / "CONTRIBUTING.md").read_text().split("```")[1]
    for room in ROOMS:
        name = Path(room).name
        assert re.search(rf"\b{name}\b", drawn), room


def test_the_rule_sees_what_is_missing() -> None:
    assert _missing("`core/boot/layout.py`, `judge.py`, `core/nowhere.py`, `nothing.py`") == [
        "core/nowhere.py",
        "nothing.py",
    ]
