# SPDX-License-Identifier: GPL-2.0-or-later
"""Whoever waits for the store's lock says at once for whom, and names them when giving up."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fs_rollback.errors import LockedError
from fs_rollback.system.machine import host
from fs_rollback.system.store import store
from tests.kernel.commands import arguments, environment, start
from tests.kernel.machine import Machine

# Locks argv[1] and says so; with a second argument leaves the lock to a child and ends.
_HOLD = """
import fcntl, os, sys, time
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
child = os.fork() if len(sys.argv) > 2 else 0
if child == 0:
    print(os.getpid(), flush=True)
    time.sleep(60)
"""


@contextmanager
def _held(path: Path, *more: str) -> Iterator[int]:
    """Have another process hold a lock; gives its number."""
    command = (sys.executable, "-c", _HOLD, str(path), *more)
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        number = int(process.stdout.readline())
        if more:
            process.wait()
        yield number
        os.kill(number, 9)


@pytest.fixture
def store_path(named: Machine) -> Path:
    named.take()
    return named.top / "fs-snapshots"  # not the mount that the commands use


def _wait(machine: Machine) -> tuple[list[str], str]:
    """Wait for the lock; returns what was said, and the complaint in the end."""
    said: list[str] = []
    with host.opened(str(machine.root)) as opened, store.opened(opened) as found:
        assert found is not None
        with pytest.raises(LockedError) as caught, found.locked(said.append, wait_s=0.6):
            pass
    return said, caught.value.message


def test_the_holder_is_named_with_what_it_runs(named: Machine, store_path: Path) -> None:
    # The same number in another subvolume of the same filesystem.
    number = store_path.stat().st_ino
    decoy = next(p for p in named.root.rglob("*") if p.lstat().st_ino == number)
    with _held(decoy), _held(store_path) as number:
        (said,), complaint = _wait(named)
    holder = f"process {number} (python"
    assert said.startswith(f"waiting up to 0 seconds for {holder}")
    assert complaint.startswith(f"the snapshot store is in use by {holder}")
    for text in (said, complaint):
        assert f", running since {time.strftime('%Y-')}" in text
        assert f": {sys.executable} -c import fcntl, os, sys, time fcntl." in text


def test_a_lock_that_was_left_to_a_child(named: Machine, store_path: Path) -> None:
    with _held(store_path, "child") as number:
        assert f"process {number} (" in _wait(named)[1]


def test_a_holder_that_cannot_be_seen(named: Machine, store_path: Path) -> None:
    alone = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
    with _held(store_path):
        process = subprocess.Popen(
            (*alone, *arguments(named.root, ("create",))),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment(),
            text=True,
        )
        assert process.stderr is not None
        line = process.stderr.readline()
    assert "for a process that /proc does not show, perhaps in a container" in line
    assert process.communicate(timeout=30)[1] == ""
    assert process.returncode == 0


def test_commands_say_it_at_once_without_a_terminal(named: Machine, store_path: Path) -> None:
    for words in (("create",), ("prune",), ("delete", "latest")):
        with _held(store_path) as number:
            begin = time.monotonic()
            waiting = start(named.root, *words)
            assert waiting.stderr is not None
            line = waiting.stderr.readline()
            assert time.monotonic() - begin < 10, "not when it gives up"
            assert line.startswith(f"fs-rollback: waiting up to 30 seconds for process {number} (")
        assert "waiting" not in waiting.communicate(timeout=30)[1]
        assert waiting.returncode == 0


def test_what_is_short_is_not_worth_a_word(named: Machine, store_path: Path) -> None:
    with _held(store_path):
        waiting = start(named.root, "create")
        time.sleep(0.1)
    assert waiting.communicate(timeout=30)[1] == ""
