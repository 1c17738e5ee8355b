# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever watches on a terminal is told how far it is, and nothing of that is left there."""

from __future__ import annotations

import os
import re

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
