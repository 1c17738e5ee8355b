# SPDX-License-Identifier: GPL-2.0-or-later
"""Stands in for dnf 5 in its own root, and prints what the entry point costs: a JSON object.

A program of its own, for the Python of that root, started as `hook.py ROUNDS`: it holds dnf 5's
lock, asks the entry point as the Actions plugin does, lets go, and waits for the child that stayed.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

_ENTRY = "/usr/libexec/fs-snapshot-dnf5"
_LOCK = Path("/run/dnf/rpmtransaction.lock")
_HISTORY = Path("/usr/lib/sysimage/libdnf5/transaction_history.sqlite")
_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_PACKAGE = {"name": "app", "arch": "noarch", "evr": "2-1", "action": "U"}
_ANSWER = {"status": "OK", "return": {"trans_packages": [_PACKAGE, {**_PACKAGE, "action": "O"}]}}


def _interpreter() -> float:
    """Return the CPU seconds of a Python that does nothing."""
    process = subprocess.Popen(["/usr/bin/python3", "-c", "pass"])
    _, _, usage = os.wait4(process.pid, 0)
    return usage.ru_utime + usage.ru_stime


def _hook() -> tuple[float, float, float, int]:
    """Return CPU seconds to the first request, of the program, of its child; that one's memory.

    The memory is in bytes, all that is resident, shared or not (proc_pid_smaps(5), Rss).
    """
    lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC)
    fcntl.lockf(lock, fcntl.LOCK_EX)
    process = subprocess.Popen(
        [_ENTRY, str(os.getpid())], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    request = process.stdout.readline()
    first = int(Path(f"/proc/{process.pid}/schedstat").read_text().split()[0]) / 1e9
    assert json.loads(request)["op"] == "get", request
    process.stdin.write(json.dumps(_ANSWER) + "\n")
    process.stdin.flush()
    assert process.stdout.read() == "", "it lets the transaction go on"
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    (child,) = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    memory = _memory(child)
    _write_history()
    os.close(lock)
    _, status, later = os.wait4(int(child), 0)
    assert status == 0, status
    program = usage.ru_utime + usage.ru_stime
    return first, program, later.ru_utime + later.ru_stime, memory


def _write_history() -> None:
    """Add what dnf 5 adds: a transaction that is done."""
    _HISTORY.parent.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(_HISTORY) as database:
        database.executescript(
            "CREATE TABLE IF NOT EXISTS trans_state (id INTEGER PRIMARY KEY, name TEXT);"
            "CREATE TABLE IF NOT EXISTS trans"
            " (id INTEGER PRIMARY KEY, dt_begin INTEGER, state_id INTEGER);"
            "INSERT OR IGNORE INTO trans_state VALUES (1, 'Started'), (2, 'Ok'), (3, 'Error');"
        )
        now = int(time.time())
        database.execute("INSERT INTO trans (dt_begin, state_id) VALUES (?, 2)", (now,))
    database.close()


def _memory(number: str) -> int:
    lines = Path(f"/proc/{number}/smaps_rollup").read_text().splitlines()
    values = dict(line.split(":") for line in lines[1:])
    return int(values["Rss"].split()[0]) * 1024


def main() -> None:
    """Measure as many rounds as asked for."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    _LOCK.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["/usr/bin/python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages"],
        check=False,
    )
    _hook()
    unit, hooks = [], []
    for _ in range(int(sys.argv[1])):
        unit.append(_interpreter())
        hooks.append(_hook())
    first, program, child, memory = zip(*hooks)
    print(
        json.dumps(
            {"unit": unit, "first": first, "program": program, "child": child, "memory": memory}
        )
    )


if __name__ == "__main__":
    main()
