# SPDX-License-Identifier: GPL-2.0-or-later
"""What people read, as far as tests type it: the examples of pages, a command a line."""

from __future__ import annotations

import re
from pathlib import Path

TOP = Path(__file__).parents[1]
MANUAL = TOP / "packaging" / "man"
# All that is not generated and is not a manual page.
MARKDOWN = sorted(
    path
    for path in (*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob("packaging/*/README.md"))
    if path.name != "CHANGELOG.md"
)


def section(page: Path, title: str) -> str:
    """Return what is below a title, up to the next one of any level."""
    text = page.read_text(encoding="utf-8")
    if page.suffix == ".md":
        found = re.search(rf"^##+ {re.escape(title)}\n(.*?)(?=^##+ |\Z)", text, re.M | re.S)
    else:
        found = re.search(
            rf"^{re.escape(title)}\n[=-]+\n(.*?)(?=^[^\n]+\n[=-]{{3,}}\n|\Z)", text, re.M | re.S
        )
    assert found, f"{page.name} has no {title}"
    return found[1]


def commands(page: Path, title: str) -> list[str]:
    """Return the commands that a section says to type as root, without what they print."""
    text = section(page, title)
    if page.suffix == ".md":
        blocks = re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)
        lines = [line[2:] for block in blocks for line in block.splitlines() if line[:2] == "# "]
    else:
        found = re.findall(r"::\n\n((?:   [^\n]*\n|\n)+)", text)
        lines = re.sub(r"\|\n +", "| ", "\n".join(found)).splitlines()
    bare = (re.sub(r"\s+# .*", "", line).strip() for line in lines)
    return [line for line in bare if line]
