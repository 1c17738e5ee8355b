# SPDX-License-Identifier: GPL-2.0-or-later
"""Asks the disks below a filesystem whether they are about to fail: smartctl(8)."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator, Sequence

from ...core.boot import health
from ...core.boot.health import Disk
from ...errors import ProcessError
from ..linux import process

PROGRAM = "smartctl"
_ALL_S = 10.0  # for all disks together; one takes some 20 to 100 ms


def is_installed() -> bool:
    """Whether the program is installed."""
    return shutil.which(PROGRAM) is not None


def ask(disks: Sequence[str]) -> Iterator[Disk]:
    """Yield what each disk reports about itself. Wakes no disk, and waits for none that hangs."""
    until = time.monotonic() + _ALL_S
    for path in disks:
        left_s = until - time.monotonic()
        yield _ask(path, left_s) if left_s > 0 else Disk(path, None, "other disks took too long")


def _ask(path: str, timeout_s: float) -> Disk:
    options = ("--json=c", "--health", f"--nocheck=standby,{health.ASLEEP}")
    try:
        status, printed = process.ask((PROGRAM, *options, path), timeout_s=timeout_s)
        return health.of_smartctl(path, status, json.loads(printed))
    except ProcessError as error:  # said as unknown
        return Disk(path, None, str(error))
    except ValueError:  # said as unknown; a version before 7.0 prints no JSON
        return Disk(path, None, f"{PROGRAM} printed no JSON: version 7.0 or later is needed")
