# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever watches on a terminal is told how far it is, and nothing of that is left there."""

from __future__ import annotations

import os
import re
import signal

import pytest

from fs_rollback.system.machine import host
from fs_rollback.system.space import holders
from tests.kernel.commands import done, fs_rollback, on_terminal
from tests.kernel.machine import Machine, run
from tests.kernel.running import AT_ONCE
from tests.kernel.test_store import listed
from tests.terminal import bars
from tests.unit.test_progress import need_tqdm

_AT_ONCE = {AT_ONCE: "1", "TERM": "xterm"}


def _watched(machine: Machine, *words: str, code: int = 0) -> tuple[list[str], str]:
    """Return what was shown of how far a command is, and what is left on the terminal."""
    terminal = on_terminal(machine.root, *words, env=_AT_ONCE)
    assert terminal.end() == code
    return bars(terminal.text)


def _upgraded(machine: Machine) -> list[str]:
    names = []
    for number in range(6):
        (machine.root / "var/data").write_bytes(os.urandom(100 << 10))
        names.append(machine.upgrade(number + 2))
    return names


def test_sizes_and_deletions(named: Machine) -> None:
    need_tqdm()
    names = _upgraded(named)
    found, left = _watched(named, "list", "--size")
    assert re.match(r"reading sizes: +0%\| +\| 0\.00/\d", found[0])
    assert left == done(named.root, "list", "--size").out
    ids = {name: row["id"] for name, row in listed(named).items()}
    found, left = _watched(named, "delete", *names[:2])
    assert [bar[: len("deleting: 100%|")] for bar in found] == [
        "deleting:   0%|",
        "deleting:  50%|",
    ]
    labels = [f"{ids[name]} ({name})" for name in names]
    assert left == "".join(f"fs-rollback: deleted {label}\n" for label in labels[:2])
    # Four are left: two go by their number, and one for `min_free`, which is never reached.
    config = "keep_last = 2\nkeep_days = 0\nmin_free = 99%\n"
    named.write(named.root, "etc/fs-rollback.conf", config)
    found, left = _watched(named, "prune", "--dry-run")
    assert found[0].startswith("reading sizes: ")
    assert not left.startswith("reading")
    found, left = _watched(named, "prune")
    assert {bar.partition("%")[0] for bar in found if bar.startswith("deleting")} == {
        "deleting:   0",
        "deleting:  50",
    }
    assert any(bar.startswith("waiting for btrfs to free them:   0%") for bar in found)
    said = [f"fs-rollback: deleting {label}" for label in labels[2:5]]
    assert left.splitlines()[:4] == [*said, "fs-rollback: deleted 3 of 4 snapshots"]


def test_json_and_pipes_and_dumb_terminals_are_left_alone(named: Machine) -> None:
    _upgraded(named)
    words = ("list", "--size", "--json")
    expected = done(named.root, *words)
    assert fs_rollback(named.root, *words, env=_AT_ONCE) == expected
    assert _watched(named, *words)[1] == expected.out
    terminal = on_terminal(named.root, *words, env={**_AT_ONCE, "TERM": "dumb"})
    assert terminal.end() == 0
    assert terminal.text == expected.out


def test_sizes_tell_how_much_was_looked_at(named: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """From what is passed of the places of data, in their order: up to the last one in use."""
    _upgraded(named)
    monkeypatch.setattr(holders, "_ITEMS_A_LOOK", 1)
    told: list[tuple[int, int]] = []
    with host.opened(str(named.root)) as machine:
        found = holders.held(machine, named.snapshots(), progress=lambda *now: told.append(now))
    assert found is not None
    assert len(set(told)) > 6
    assert told == sorted(told)
    (total,) = {total for _, total in told}
    printed = run("btrfs", "filesystem", "usage", "--raw", str(named.root))
    assert total == sum(map(int, re.findall(r"^Data,.*Size:(\d+)", printed, re.MULTILINE)))
    assert 0 < told[-1][0] < total


def _keep_many(machine: Machine) -> str:
    """Fill a kept path after a snapshot; return the name of that."""
    name = machine.upgrade()
    for number in range(2000):
        (machine.root / f"root/{number}").write_text("kept\n")
    return name


def test_a_rollback_shows_its_copies(named: Machine) -> None:
    need_tqdm()
    name = _keep_many(named)
    found, left = _watched(named, "rollback", "--yes", name)
    steps = [line for line in found if line.startswith("step ")]
    shown = [line for line in found if line not in steps]
    first = r"copying kept files: +0%\| +\| 0/200\d \["
    assert re.match(first, shown[0])
    last = r"copying kept files: 100%\|#+\| (200\d)/\1 \["
    assert any(re.match(last, bar) for bar in shown)
    # One line, which is gone at the end: the question stays on the screen.
    count = len(steps)
    assert all(re.match(rf"step {n} of {count}: \w", s) for n, s in enumerate(steps, start=1))
    assert max(map(len, steps)) < 80
    assert "step" not in left[left.index("Roll back to") : left.index("Rolled back: ")]


def test_ctrl_c_in_a_copy_leaves_a_clean_line(named: Machine) -> None:
    need_tqdm()
    name = _keep_many(named)
    terminal = on_terminal(named.root, "rollback", "--yes", name, env=_AT_ONCE)
    terminal.read_until("copying kept files")
    # It does not come to its end while the key is on its way.
    os.kill(terminal.process, signal.SIGSTOP)
    terminal.type("\x03")
    os.kill(terminal.process, signal.SIGCONT)
    assert terminal.end() == 130
    assert "^C\r\033[K" in terminal.text, repr(terminal.text[-600:])
    left = bars(terminal.text)[1]
    assert re.search(r"\nfs-rollback: interrupted; the machine is", left)
    assert "step " not in left


def test_a_restore_shows_its_copies(named: Machine) -> None:
    need_tqdm()
    _keep_many(named)
    found, left = _watched(named, "restore", "--yes", named.take(), "/root")
    assert re.match(r"copying: 100%\|#+\| (200\d)/\1 \[", found[-1])
    assert re.fullmatch(r"(?s)Restore from snapshot .*:\n.*\nRestored\.\n", left)
    assert all(bar not in left for bar in found)


def test_a_first_boot_says_it_in_lines(named: Machine) -> None:
    """For a console and the journal."""
    name = _keep_many(named)
    done(named.root, "rollback", "--yes", name)
    for number in range(1000):
        (named.root / f"root/{number}").unlink()
    (named.root / "var/log/messages").write_text("the last line\n")
    named.reboot()
    ended = fs_rollback(named.root, "settle", "--at-boot", env=_AT_ONCE)
    assert ended.code == 0
    said = ended.err.splitlines()
    of = r"[\d,]+ of [\d,]+ files, [\d,]+/s(, \d+ s left)?"
    assert all(
        re.fullmatch(rf"fs-rollback: copying changes to /(root|var/log): {of}", s) for s in said
    )
    assert re.match(r"fs-rollback: copying changes to /root: 0 of \d,\d+ files, 0/s", said[0])
    assert re.search(r"/root: (\d,\d+) of \1 files, [\d,]+/s, 0 s left$", ended.err, re.MULTILINE)
