# SPDX-License-Identifier: GPL-2.0-or-later
"""An answer that cannot be written is no answer; and what is told in one line is one line."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import Optional

from tests.kernel.commands import arguments, done, environment, fs_rollback
from tests.kernel.machine import Machine

_COMPLAINT = "fs-rollback: cannot write the answer: No space left on device\n"


def _into_full(
    machine: Machine, *words: str, stdin: Optional[int] = None, both: bool = False, **env: str
) -> tuple[int, str]:
    """Run a command whose standard output is a full disk; returns its code and what it says."""
    with open("/dev/full", "w", encoding="ascii") as full:
        ended = subprocess.run(
            arguments(machine.root, words),
            check=False,
            stdin=subprocess.DEVNULL if stdin is None else stdin,
            stdout=full,
            stderr=full if both else subprocess.PIPE,
            text=True,
            env=environment(**env),
            timeout=60,
        )
    assert "Traceback" not in (ended.stderr or "")
    return ended.returncode, ended.stderr or ""


def test_what_only_reads_fails(named: Machine) -> None:
    name = named.upgrade()
    for words in (
        ("list",),
        ("list", "--json"),
        ("show", name),
        ("prune", "--dry-run"),
        ("rollback", name, "--dry-run"),
        ("list", "--help"),
    ):
        assert _into_full(named, *words) == (1, _COMPLAINT), words
    assert _into_full(named, "list", PYTHONUNBUFFERED="1") == (1, _COMPLAINT)
    assert _into_full(named, "list", both=True)[0] == 1
    assert _into_full(named, "status") == (1, _COMPLAINT)
    check = fs_rollback(named.root, "check").code
    assert check > 0
    assert _into_full(named, "check")[0] == check, "what it found is worse"
    assert _into_full(named, "show", "nothing", both=True)[0] == 2


def test_what_was_done_is_done(named: Machine) -> None:
    for unbuffered in ("", "1"):
        before = len(named.snapshots())
        assert _into_full(named, "create", PYTHONUNBUFFERED=unbuffered) == (0, _COMPLAINT)
        assert len(named.snapshots()) == before + 1
    assert _into_full(named, "prune", "--json") == (0, _COMPLAINT)
    name = named.upgrade()
    assert _into_full(named, "rollback", name, "--yes", "--json") == (0, _COMPLAINT)
    assert fs_rollback(named.root, "status", "--json").json["waiting"] == "reboot"
    assert _into_full(named, "undo", "--yes", both=True)[0] == 0
    assert fs_rollback(named.root, "status", "--json").json["waiting"] == "nothing"


def test_nothing_is_asked_about_what_nobody_could_read(named: Machine) -> None:
    name = named.upgrade()
    terminal, slave = pty.openpty()
    os.write(terminal, b"y\n")
    code, said = _into_full(named, "rollback", name, stdin=slave)
    os.close(terminal)
    os.close(slave)
    assert code == 1
    assert "cannot show what the question is about: No space left on device" in said
    assert "[y/N]" not in said
    assert fs_rollback(named.root, "status", "--json").json["waiting"] == "nothing"


def test_lines_that_disagree_are_told_in_one(named: Machine) -> None:
    name = named.upgrade()
    (entry,) = (named.root / "boot/loader/entries").glob("abc-*.conf")
    entry.write_text(entry.read_text().replace("subvol=root", "subvol=home"))
    ended = fs_rollback(named.root, "rollback", name, "--yes")
    head, first, second, _ = ended.err.splitlines()
    assert head == "fs-rollback: two lines disagree about the root subvolume:"
    told = f"two lines disagree about the root subvolume: {first.strip()}; {second.strip()}"
    status = fs_rollback(named.root, "status")
    (line,) = (ln for ln in status.out.splitlines() if "disagree" in ln)
    assert line.startswith(f"Attention: no rollback is possible: {told}. ")
    assert told in fs_rollback(named.root, "check").out
    answer = fs_rollback(named.root, "status", "--json").json
    assert [told in text and "\n" not in text for text in answer["attention"]].count(True) == 1
    said = done(named.root, "create").err
    assert "\n  " not in said
    assert "\\n" not in said + status.out
