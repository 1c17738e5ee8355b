# SPDX-License-Identifier: GPL-2.0-or-later
"""What has changed in texts, as diff -u shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ...core.comparison.files import FileChange
    from ...system.comparison.owned import Side

# What is larger is no configuration, and nobody reads a comparison of it.
_MOST_BYTES = 1 << 20


def patches(sides: tuple[Side, Side], changes: Iterable[FileChange]) -> dict[str, str]:
    """Return a unified diff of each file whose content differs, by its path. Raises KernelError."""
    found = {}
    for change in changes:
        if change.kind == "file" and (change.action != "changed" or "content" in change.what):
            source = change.source or change.path
            found[change.path] = _unified(
                source,
                None if change.action == "added" else _text(sides[0].tree, source),
                change.path,
                None if change.action == "removed" else _text(sides[1].tree, change.path),
            )
    return {path: text for path, text in found.items() if text}


def _text(tree: int, path: str) -> bytes:
    from ...system.linux import files

    return files.read_bytes(tree, path, _MOST_BYTES + 1)


def _unified(source: str, old: Optional[bytes], path: str, new: Optional[bytes]) -> str:
    import difflib

    texts = [text or b"" for text in (old, new)]
    if any(len(text) > _MOST_BYTES or b"\0" in text for text in texts):
        return f"Binary or large files {source} and {path} differ"
    first, second = map(_lines, texts)
    names = "/dev/null" if old is None else source, "/dev/null" if new is None else path
    return "\n".join(difflib.unified_diff(first, second, *names, lineterm=""))


def _lines(text: bytes) -> list[str]:
    """Return lines as diff(1) has them: only a line feed ends one, and the last may have none."""
    *lines, last = text.decode("utf-8", "backslashreplace").split("\n")
    return [*lines, f"{last}\n\\ No newline at end of file"] if last else lines
