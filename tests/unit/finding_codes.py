# SPDX-License-Identifier: GPL-2.0-or-later
"""The codes of findings that the sources make."""

from __future__ import annotations

import ast
import re
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "rollback/fs_rollback"
_CODE = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\.[a-z0-9]+(-[a-z0-9]+)*")


def made_codes(*, of_wing: bool) -> set[str]:
    """Return the codes in the wing convert/, or in the rest.

    Whatever looks like a code is one, in a file that makes findings. One in the sources and in none
    of the pages is new, one the other way round has changed.
    """
    made: set[str] = set()
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text())
        ours = ("convert" in path.relative_to(PACKAGE).parts) == of_wing
        if ours and _makes_findings(tree):
            texts = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
            made |= {text for text in texts if isinstance(text, str) and _CODE.fullmatch(text)}
    return made


def _makes_findings(tree: ast.Module) -> bool:
    """Whether a file imports the findings; it must not put a code together then."""
    imports = [n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)]
    names = {f"{n.module}.{alias.name}" for n in imports for alias in n.names}
    if not any("findings" in name.split(".") for name in names):
        return False
    for call in (n for n in ast.walk(tree) if isinstance(n, ast.Call) and n.args):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in ("Finding", "ok", "warning", "fatal"):
            assert not isinstance(call.args[0], (ast.JoinedStr, ast.BinOp)), ast.unparse(call)
    return True
