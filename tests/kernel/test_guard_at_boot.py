# SPDX-License-Identifier: GPL-2.0-or-later
"""What the units of a guarded boot look at and say, without a boot."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from fs_rollback.cli.guard import facts
from fs_rollback.system.guard import health
from fs_rollback.system.machine import host
from tests.kernel.machine import Machine


def _run(directory: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> str:
    """Return why a boot is not healthy of which a program is looked at."""
    program = directory / "program"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    found = health.checks(str(directory), ())
    monkeypatch.setattr(health, "checks", lambda: found)
    return health.trouble((), str, str)


@pytest.mark.parametrize(
    "script",
    ["sleep 30 &", "(for each in $(seq 300); do sleep 0.1; echo on; done) &"],
    ids=["silent", "talking"],
)
def test_a_program_that_leaves_a_daemon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    """It has succeeded, whoever holds its output."""
    began = time.monotonic()
    assert not _run(tmp_path, monkeypatch, script)
    assert time.monotonic() - began < 10


def test_a_program_that_never_ends_its_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reason = _run(tmp_path, monkeypatch, "head --bytes=30M /dev/zero | tr '\\0' x; exit 1")
    assert len(reason) < 1000


@pytest.mark.parametrize(
    ("mode", "directory", "owner", "group"),
    [
        (0o757, 0o755, 0, 0),
        (0o775, 0o755, 0, 1234),
        (0o755, 0o755, 1234, 0),
        (0o755, 0o777, 0, 0),
        (0o755, 0o1777, 0, 0),
    ],
)
@pytest.mark.parametrize("linked", [False, True])
def test_a_program_that_others_can_change_is_not_run(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    linked: bool,
    mode: int,
    directory: int,
    owner: int,
    group: int,
) -> None:
    """Root would run what they write. That it is not run is no reason to go back."""
    place = tmp_path / "health.d"
    programs = tmp_path / "elsewhere" if linked else place
    for path in {place, programs}:
        path.mkdir()
    program = programs / "check"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/proof; exit 1\n")
    if linked:
        (place / "check").symlink_to(program)
    os.chown(program, owner, group)
    program.chmod(mode)
    programs.chmod(directory)
    found = health.checks(str(place), ())
    assert len(found) == 1
    monkeypatch.setattr(health, "checks", lambda: found)
    said: list[str] = []
    assert health.trouble((), str, said.append) == ""
    changed = programs if directory != 0o755 else place / "check"
    assert said == [f"{place}/check is not run: others than root can change {changed}"]
    assert not (tmp_path / "proof").exists()


def test_a_program_that_is_left_out_or_gone_is_told(
    named: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the boot, too, which may seem healthy without it."""
    others, gone = (tmp_path / name for name in ("others", "gone"))
    for program in (others, gone):
        program.write_text("#!/bin/sh\n")
        program.chmod(0o757 if program == others else 0o755)
    found = health.checks(str(tmp_path), ())
    monkeypatch.setattr(health, "checks", lambda: found)
    gone.unlink()
    assert health.trouble((), str, str).startswith(f"{gone} failed: ")
    with host.opened(str(named.root)) as machine:
        assert facts.gather(machine, None)[1] == []
        machine.__dict__["is_running"] = True
        (told,) = facts.gather(machine, None)[1]
    assert told.startswith(f"{others} is not run: others than root can change {others}. ")
    assert "chmod go-w" in told


def test_programs_that_cannot_be_listed(
    named: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other facts are told all the same."""
    circle = tmp_path / "health.d"
    circle.symlink_to(circle)
    listed = health.checks
    monkeypatch.setattr(health, "checks", lambda: listed(str(circle), ()))
    with host.opened(str(named.root)) as machine:
        machine.__dict__["is_running"] = True
        (told,) = facts.gather(machine, None)[1]
    assert f"cannot be listed: [Errno 40] Too many levels of symbolic links: '{circle}'" in told


def test_what_is_shown_at_login(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that a program has printed reaches a terminal as more than text."""
    files = [tmp_path / "motd.d/fs-rollback", tmp_path / "issue.d/fs-rollback.issue"]
    monkeypatch.setattr(facts, "_MESSAGES", tuple(map(str, files)))
    facts.say_at_login("\x1b[31mred\\n\nmore")
    motd, issue = (file.read_text() for file in files)
    assert motd == "fs-rollback: \\x1b[31mred\\n\\nmore\n"
    assert issue == motd.replace("\\", "\\\\"), "agetty(8) takes it for an escape"
    facts.say_at_login("")
    assert not any(file.exists() for file in files)
