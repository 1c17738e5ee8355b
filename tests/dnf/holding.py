# SPDX-License-Identifier: GPL-2.0-or-later
"""Transactions that stop in the middle, until the test lets them go on."""

from __future__ import annotations

import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.dnf.scenes import records, wait_for_path
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package

_HELD = "/run/held"
_WAIT = f"touch {_HELD}; while [ -e {_HELD} ]; do sleep 0.05; done"
_ACTIONS = "/etc/dnf/libdnf5-plugins/actions.d"


def slow(name: str, scriptlet: str) -> Package:
    """Return a package that stops rpm in one of its scriptlets: "pre" or "post"."""
    return Package(name, "1", scriptlets={scriptlet: _WAIT})


def hold_before_rpm(sandbox: Sandbox) -> None:
    """Have dnf 5 stop between our hook and rpm, at an action of another package."""
    add_action(sandbox, _WAIT)


def add_action(sandbox: Sandbox, script: str, *, name: str = "zz-other") -> None:
    """Give the machine an action, after ours by its name, that ends dnf 5 where it fails."""
    sandbox.path("/usr/libexec/other").write_text(f"#!/bin/sh\n{script}\n")
    sandbox.path("/usr/libexec/other").chmod(0o755)
    line = "pre_transaction:::enabled=host-only raise_error=1:/usr/libexec/other\n"
    sandbox.path(f"{_ACTIONS}/{name}.actions").write_text(line)


def remove_action(sandbox: Sandbox, *, name: str = "zz-other") -> None:
    """Take it away again."""
    sandbox.path(f"{_ACTIONS}/{name}.actions").unlink()


@contextmanager
def held(sandbox: Sandbox, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run dnf until something stops it; it goes on at the end at the latest."""
    with started(sandbox, "dnf", "--assumeyes", *arguments) as process:
        wait_for_path(sandbox.path(_HELD))
        try:
            yield process
        finally:
            let_go(sandbox)
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=60)


@contextmanager
def started(sandbox: Sandbox, *command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside what is done; it is killed where it does not end by itself."""
    with sandbox.popen(command) as process:
        try:
            yield process
        finally:
            sandbox.signal(process, signal.SIGKILL)


def let_go(sandbox: Sandbox) -> None:
    """Let what stopped go on."""
    sandbox.path(_HELD).unlink(missing_ok=True)


def line_of(process: subprocess.Popen[str], *, timeout_s: float = 5) -> str:
    """Return the next line that a process writes to stderr; it comes in time or is ""."""
    assert process.stderr is not None
    ready, _, _ = select.select([process.stderr], [], [], timeout_s)
    return process.stderr.readline().rstrip() if ready else ""


def last_end(sandbox: Sandbox) -> tuple[str, object]:
    """Return what the newest record says of its transaction: the end, and dnf's number."""
    transaction = list(records(sandbox).values())[-1]["transaction"]
    return transaction["outcome"], transaction["history_id"]


def seconds_since(begin: float) -> float:
    """Return how long ago a time of time.monotonic() was."""
    return time.monotonic() - begin
