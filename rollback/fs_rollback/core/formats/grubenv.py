# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads and changes GRUB's environment block (grubenv), as grub2-editenv(1) does.

The format is that of GRUB's lib/envblk.c: a first line that says what it is, then name=value lines
in which a backslash keeps the character after it (a backslash, a newline), comments, and "#" up to
the size of the block. GRUB overwrites the block in place at boot, so the size never changes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Optional

_SIGNATURE = "# GRUB Environment Block\n"
# What "grub2-editenv FILE create" makes, without its comment: 1024 bytes (GRUB_ENVBLK_DEFSIZE).
EMPTY = _SIGNATURE + "#" * (1024 - len(_SIGNATURE))
_LINE = r"(?s)(?:\\.|[^\\\n])+\n?|\n|\\\Z"
_ESCAPED = r"(?s)\\(.)"
_NAME = r"[^=#\s\\][^=\s\\]*"


class GrubenvError(ValueError):
    """The text is not an environment block, or a variable cannot be stored in it."""


def parse(text: str) -> dict[str, str]:
    """Return the variables. Of several lines for one the last counts, as for GRUB's load_env.

    Raises GrubenvError if `text` is not an environment block.
    """
    found = {}
    for line in _lines(text):
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name] = re.sub(_ESCAPED, r"\1", value.removesuffix("\n"))
    return found


def with_values(text: str, values: Mapping[str, Optional[str]]) -> str:
    """Return the block with the variables set to their values, None removing one.

    The result has as many bytes as `text` (UTF-8, others as surrogates); other lines and
    their order stay. Raises GrubenvError if `text` is not an environment block, if the values do
    not fit into it, or if a name is invalid.
    """
    wrong = [name for name in values if not re.fullmatch(_NAME, name)]
    if wrong:
        raise GrubenvError(f"{wrong[0]!r} cannot be the name of a GRUB variable")
    kept, written = [], set()
    for line in _lines(text):
        name = line.partition("=")[0]
        value = values.get(name)
        if name not in values:
            kept.append(line)
        elif value is not None and name not in written:
            written.add(name)
            kept.append(_line(name, value))
    kept += [_line(n, v) for n, v in values.items() if v is not None and n not in written]
    content = _SIGNATURE + "".join(kept)
    free = _size(text) - _size(content)
    if free < 0:
        raise GrubenvError(f"the GRUB environment block is {-free} bytes too small")
    return content + "#" * free


def _lines(text: str) -> list[str]:
    """Return the lines after the first, without the padding.

    A last line without its newline is no variable for GRUB, and nothing could follow it.
    """
    if not text.startswith(_SIGNATURE):
        raise GrubenvError("this is not a GRUB environment block")
    lines = re.findall(_LINE, text[len(_SIGNATURE) :])
    return [line for line in lines if line.endswith("\n") and line.strip("#\n")]


def _line(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("\n", "\\\n")
    return f"{name}={escaped}\n"


def _size(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))
