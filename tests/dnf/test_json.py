# SPDX-License-Identifier: GPL-2.0-or-later
"""Every answer in JSON is what the manual page says: the same keys, of the same types."""

from __future__ import annotations

import json
from typing import Any

from tests.dnf.scenes import app, dnf, offer
from tests.sandbox.machine import Sandbox
from tests.unit.manual import differences


def _answer(sandbox: Sandbox, command: str, *words: str) -> dict[str, Any]:
    done = sandbox.run(["fs-rollback", command, "--json", *words], check=False)
    assert done.returncode in (0, 1, 3), done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    assert differences(command, answer) == []
    return answer


def test_answers(sandbox: Sandbox) -> None:
    _answer(sandbox, "list")
    _answer(sandbox, "prune")
    assert _answer(sandbox, "status")["newest"] is None
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    dnf(sandbox, "upgrade")
    assert len(_answer(sandbox, "list")["snapshots"]) == 2
    assert _answer(sandbox, "show", "latest")["snapshot"]["transaction"]["packages"]
    assert len(_answer(sandbox, "prune", "--dry-run")["verdicts"]) == 2
    assert _answer(sandbox, "check")["links"]
    assert _answer(sandbox, "rollback", "--dry-run")["reverts"]["packages"]
    assert _answer(sandbox, "rollback", "--yes")["done"] is True
    assert _answer(sandbox, "status")["waiting"] == "reboot"
    assert _answer(sandbox, "settle")["waiting"] == "reboot"
    assert _answer(sandbox, "undo", "--yes")["taken_back"] is True
    _answer(sandbox, "rollback", "--yes")
    sandbox.reboot()
    assert _answer(sandbox, "settle", "--at-boot")["said"]
    assert _answer(sandbox, "status")["last_rollback"] is not None
    assert _answer(sandbox, "undo", "--dry-run")["steps"]
