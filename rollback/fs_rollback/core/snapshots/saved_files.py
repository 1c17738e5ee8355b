# SPDX-License-Identifier: GPL-2.0-or-later
"""The list of saved boot files: what the kernels of a snapshot have outside the root."""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

VERSION = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")


class SavedFile(NamedTuple):
    """One file of one kernel.

    `where` as a plan names it ("tree:boot/vmlinuz-6.1"), `sha256` its content and the name it is
    saved under; size and time tell whether a file is still the one that was saved.
    """

    kernel: str
    where: str
    sha256: str
    size_bytes: int
    mtime_ns: int

    @property
    def is_entry(self) -> bool:
        """Whether it is a boot entry, which names the others."""
        return self.where.endswith(".conf")


class BootFilesError(ValueError):
    """The text is not a list of boot files that this program can read."""


class SavedBoot(NamedTuple):
    """What a boot loader had for a root: the ID of its default entry, "" if unknown, and files."""

    default: str
    files: tuple[SavedFile, ...]


def _digest(value: Any) -> str:
    """Return what names a saved file: nothing else may lead out of their directory."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise BootFilesError(f"{value!r} is not a SHA-256")
    return value


def dump(saved: SavedBoot) -> str:
    """Return the list as JSON text, the same for the same files."""
    rows = [file._asdict() for file in sorted(saved.files)]
    return json.dumps({"version": VERSION, "default": saved.default, "files": rows}) + "\n"


def parse(text: str) -> SavedBoot:
    """Read a list. Raises BootFilesError."""
    try:
        data: Any = json.loads(text)
        if data["version"] > VERSION:
            version = data["version"]
            raise BootFilesError(f"format version {version} is newer than this program supports")
        files = tuple(
            SavedFile(
                str(row["kernel"]),
                str(row["where"]),
                _digest(row["sha256"]),
                int(row["size_bytes"]),
                int(row["mtime_ns"]),
            )
            for row in data["files"]
        )
        return SavedBoot(str(data["default"]), files)
    except BootFilesError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        raise BootFilesError(f"{type(error).__name__}: {error}") from error
