# SPDX-License-Identifier: GPL-2.0-or-later
"""The README and the pages in docs/: short enough, and what they name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.pages import MARKDOWN, TOP
from tests.unit.manual import OPTION, options, subparsers

_BLOCK = re.compile(r"^```.*?^```", re.M | re.S)


def test_the_readme_is_read_to_its_end() -> None:
    assert len((TOP / "README.md").read_text().splitlines()) <= 150


def _anchors(page: Path) -> set[str]:
    """Return where links into a page may lead, as GitHub names its headings."""
    text = page.read_text()
    if page.suffix == ".rst":
        titles = re.findall(r"^(\S.*)\n[=-]{3,}$", text, re.M)
    else:
        titles = re.findall(r"^##+ (.*)$", _BLOCK.sub("", text), re.M)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(TOP)))
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", _BLOCK.sub("", page.read_text())):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


@pytest.mark.parametrize("page", MARKDOWN, ids=lambda page: str(page.relative_to(TOP)))
def test_the_commands_on_a_page_exist(page: Path) -> None:
    """Each command, and each option behind one on the same line."""
    known, text = subparsers(), page.read_text()
    for before, command, words in re.findall(
        r"([`#] ?|^)fs-rollback ([a-z]+)([^`\n|;#]*)", text, re.M
    ):
        if command in known:
            assert set(OPTION.findall(words)) <= options(known[command]), words
        else:
            assert command in ("convert", "help") or not before, f"no command {command}"
