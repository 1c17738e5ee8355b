# SPDX-License-Identifier: GPL-2.0-or-later
"""What the README and the manual say to type after a bad upgrade is typed, and it helps."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from tests.dnf.scenes import app, dnf, installed, offer, snapshots
from tests.pages import MANUAL, TOP, commands
from tests.sandbox.machine import Sandbox

_QUESTIONS = ("rollback", "undo")


def _type(sandbox: Sandbox, line: str, snapshot: int) -> None:
    """Type a command of an example, and answer yes."""
    words = [str(snapshot) if word in ("259", "260", "ID") else word for word in shlex.split(line)]
    if words == ["reboot"]:
        sandbox.reboot()
        return
    if words[1] in _QUESTIONS:
        words.append("--yes")
    if words[1] == "undo":
        words.append("--to-replaced")
    done = sandbox.run(words, check=False)
    # What only reads may have found something; the sandbox has no boot loader, for example.
    assert done.returncode in ((0,) if words[1] in ("create", *_QUESTIONS) else (0, 1, 3)), done
    assert done.stdout, done


@pytest.mark.parametrize(
    ("page", "title"),
    [
        (TOP / "README.md", "The bad day"),
        (MANUAL / "fs-rollback.8.rst", "AFTER A BAD UPGRADE"),
    ],
    ids=["README", "manual"],
)
def test_after_a_bad_upgrade(sandbox: Sandbox, page: Path, title: str) -> None:
    for line in commands(TOP / "README.md", "The first snapshot"):
        _type(sandbox, line, 0)
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    dnf(sandbox, "upgrade")
    before_upgrade = snapshots(sandbox)[-1]["id"]
    seen = []
    for line in commands(page, title):
        _type(sandbox, line, before_upgrade)
        if line == "reboot":
            seen.append(installed(sandbox))
    assert seen == ["1", "2"], "the rollback, and its undo"
