# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf while a rollback waits for an answer, and a rollback that was answered while dnf runs."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import time
from types import TracebackType

from tests.dnf.holding import held, let_go, slow
from tests.dnf.scenes import LINE, app, both, dnf, installed, offer
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package

_TIMEOUT_S = 120.0


class _Asked:
    """A command on a terminal in a sandbox."""

    def __init__(self, sandbox: Sandbox, *command: str) -> None:
        self.text = ""
        self._terminal, other = pty.openpty()
        self.process: subprocess.Popen[str] = sandbox.running.popen(
            ["setsid", "--ctty", *command], stdin=other, stdout=other, stderr=other
        )
        os.close(other)

    def read_until(self, pattern: str) -> str:
        """Read until the terminal shows a pattern; returns all that it has shown."""
        deadline = time.monotonic() + _TIMEOUT_S
        while not re.search(pattern, self.text):
            ready = select.select([self._terminal], [], [], max(deadline - time.monotonic(), 0))[0]
            assert ready, f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self._terminal, 65536).decode().replace("\r", "")
        return self.text

    def answer(self) -> None:
        """Answer yes, and forget what was shown."""
        self.text = ""
        os.write(self._terminal, b"y\n")

    def __enter__(self) -> _Asked:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.process.kill()
        os.close(self._terminal)


@both
def test_dnf_does_not_wait_for_a_person(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), Package("late", "1"))
    dnf(sandbox, "install", "app")
    with _Asked(sandbox, "fs-rollback", "rollback") as asked:
        asked.read_until(r"\[y/N\] $")
        done = dnf(sandbox, "install", "late")
        assert "waiting" not in done.stdout + done.stderr
        assert LINE in done.stdout + done.stderr
        asked.answer()
        said = asked.read_until(r"\[y/N\] $")
        assert "changed since the question was asked: " in said
        assert "late 1-1" in said
        asked.answer()
        asked.read_until("Rolled back")
        assert asked.process.wait(timeout=60) == 0
    sandbox.reboot()
    assert installed(sandbox) == installed(sandbox, "late") == ""


@both
def test_a_yes_while_dnf_runs_waits_and_says_for_whom(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), slow("slow", "pre"))
    dnf(sandbox, "install", "app")
    with _Asked(sandbox, "fs-rollback", "rollback") as asked:
        asked.read_until(r"\[y/N\] $")
        with held(sandbox, "install", "slow") as transaction:
            asked.answer()
            said = asked.read_until(r"waiting up to 30 seconds for process .*\n")
            assert re.search(r"process \d+ \(dnf", said), said
            assert "install slow" in " ".join(said.split())
            let_go(sandbox)
            transaction.communicate(timeout=60)
        said = asked.read_until(r"\[y/N\] $")
        assert "slow 1-1" in said
        asked.answer()
        asked.read_until("Rolled back")
        assert asked.process.wait(timeout=60) == 0
