# SPDX-License-Identifier: GPL-2.0-or-later
"""Keeps what takes long to find out in /var/cache/fs-rollback of the running system, for root only.

Whatever is wrong with it, it is a cache: nothing is raised, and what is not there is found out.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import Any

from ...errors import KernelError
from ..linux import durable, files

DIRECTORY = "/var/cache/fs-rollback"


def _directory() -> str:
    """Return where it is: a unit may say so with CacheDirectory=, systemd.exec(5)."""
    return os.environ.get("CACHE_DIRECTORY", DIRECTORY)


def load(name: str) -> Any:
    """Return what was kept under a name; None where nothing was, or nothing that can be read."""
    # As promised.
    with suppress(OSError, ValueError), open(f"{_directory()}/{name}", encoding="ascii") as file:
        return json.load(file)
    return None


def save(name: str, data: Any, most: int) -> None:
    """Keep JSON data under a name, and of those that begin like it, up to a "-", the newest few."""
    # As promised: a disk may be full, or read-only.
    with suppress(OSError, KernelError):
        os.makedirs(_directory(), 0o700, exist_ok=True)
        with files.opened(_directory()) as directory:
            durable.write_text(directory, name, json.dumps(data))
            kind = name.partition("-")[0] + "-"
            others = [other for other in os.listdir(directory) if other.startswith(kind)]
            others.sort(key=lambda other: os.stat(other, dir_fd=directory).st_mtime_ns)
            for other in others[:-most]:
                os.unlink(other, dir_fd=directory)
