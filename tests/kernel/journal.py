# SPDX-License-Identifier: GPL-2.0-or-later
"""A system's journal for the tests alone: the real journald, in the mount namespace of the tests.

What commands of other tests tell reaches nobody: `hide` takes the journal of the host from them.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kernel.machine import run
from tests.need import need, withhold

_PROGRAM = Path("/lib/systemd/systemd-journald")
_PLACES = ("/run/systemd", "/run/log")
_VOLATILE = "/run/log/journal"
_CONFIGURATION = """\
[Journal]
Storage=volatile
ReadKMsg=no
Audit=no
ForwardToSyslog=no
ForwardToWall=no
RateLimitIntervalSec=0
"""
_FIELD = "FS_ROLLBACK_"


def hide() -> None:
    """Hide the journal of the host, in this mount namespace."""
    for place in _PLACES:
        Path(place).mkdir(exist_ok=True)
        run("mount", "-t", "tmpfs", "tmpfs", place)
    if os.path.isdir("/var/log/journal"):
        run("mount", "-t", "tmpfs", "tmpfs", "/var/log/journal")


class Journal:
    """A running journald."""

    def lines(self) -> list[dict[str, Any]]:
        """Return all that was told so far as fs-rollback, as journalctl(1) does."""
        run("journalctl", "--sync")
        said = run("journalctl", "-t", "fs-rollback", "--output=json", "--no-pager", "--quiet")
        return [json.loads(line) for line in said.splitlines()]

    def events(self) -> list[dict[str, str]]:
        """Return our fields of these lines, each by its name in small letters."""
        return [
            {k[len(_FIELD) :].lower(): v for k, v in line.items() if k.startswith(_FIELD)}
            for line in self.lines()
        ]

    @contextmanager
    def of_machine(self, root: Path) -> Iterator[None]:
        """Have it be what a machine that is mounted keeps its journal in."""
        place = root / "var/log/journal"
        place.mkdir(parents=True, exist_ok=True)
        run("mount", "--bind", _VOLATILE, str(place))
        try:
            yield
        finally:
            run("umount", str(place))


@contextmanager
def running() -> Iterator[Journal]:
    """Start journald, and end it and forget what it has."""
    need("journalctl")
    if not _PROGRAM.exists():
        withhold("there is no journald")
    Path("/run/systemd/journald.conf.d").mkdir(exist_ok=True)
    Path("/run/systemd/journald.conf.d/test.conf").write_text(_CONFIGURATION)
    environment = {**os.environ, "SYSTEMD_LOG_TARGET": "console"}
    with subprocess.Popen([_PROGRAM], env=environment, stderr=subprocess.DEVNULL) as journald:
        try:
            deadline = time.monotonic() + 10
            while subprocess.run(
                ["journalctl", "--sync"], check=False, capture_output=True
            ).returncode:
                assert time.monotonic() < deadline, "journald does not answer"
                time.sleep(0.02)
            yield Journal()
        finally:
            journald.terminate()
            journald.wait()
            run("rm", "-rf", _VOLATILE, "/run/systemd/journal")
