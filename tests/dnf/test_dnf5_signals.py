# SPDX-License-Identifier: GPL-2.0-or-later
"""Signals to dnf 5 and to what we leave beside it: in our hook, right after it, and within rpm.

dnf 5 ends at once, rpm unfinished. Its history has a row then, without an end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence

import pytest

from tests.dnf.holding import (
    held,
    hold_before_rpm,
    last_end,
    let_go,
    remove_action,
    seconds_since,
    slow,
    started,
)
from tests.dnf.scenes import (
    LINE,
    app,
    dnf,
    dnf5,
    installed,
    keepers,
    lines_of_ours,
    offer,
    records,
    said,
    snapshots,
    wait_for,
    wait_for_keepers,
    wait_for_path,
)
from tests.sandbox.machine import Sandbox

pytestmark = dnf5

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL)
_HOLDER = (
    "import sys; from fs_rollback.system.machine import host\n"
    "from fs_rollback.system.store import store\n"
    "with host.opened() as h, store.opened(h) as s, s.locked():\n"
    "    print('held', flush=True); sys.stdin.readline()"
)


def _is_usable(sandbox: Sandbox) -> None:
    """The next transaction waits for nobody, takes its snapshot and is recorded.

    It says so where one was cut off in the middle of rpm, and none was done since.
    """
    taken = records(sandbox)
    ends = [record["transaction"] for record in taken.values() if record["transaction"]]
    done = [number for number, end in enumerate(ends) if end["outcome"] == "done"]
    since = ends[done[-1] + 1 :] if done else ends
    was_cut_off = any(e["outcome"] == "interrupted" and e["history_id"] for e in since)
    before = len(taken)
    verb = "remove" if installed(sandbox) else "install"
    lines = lines_of_ours(dnf(sandbox, verb, "app"))
    assert [line for line in lines if line.startswith(LINE)] == lines[:1]
    assert ["interrupted in the middle of" in line for line in lines[1:]] == [True] * was_cut_off
    assert len(records(sandbox)) == before + 1
    assert last_end(sandbox)[0] == "done"


@pytest.mark.parametrize(
    ("scriptlet", "signals"),
    [("pre", _SIGNALS), ("post", (signal.SIGINT, signal.SIGKILL))],
    ids=["pre", "post"],
)
def test_in_the_middle_of_rpm(
    sandbox: Sandbox, scriptlet: str, signals: Sequence[signal.Signals]
) -> None:
    offer(sandbox, app("1"), slow("slow", scriptlet))
    number = 0
    for signum in signals:
        with held(sandbox, "install", "slow") as process:
            sandbox.signal(process, signum)
            process.wait(timeout=10)
            died = time.monotonic()
            wait_for_keepers(sandbox)
            assert seconds_since(died) < 1, signum
        number += 1
        assert last_end(sandbox) == ("interrupted", number), signum
        sandbox.run(["rpm", "--erase", "--noscripts", "slow"], check=False)
        _is_usable(sandbox)
        number += 1


def test_typed_at_a_terminal(sandbox: Sandbox) -> None:
    """Ctrl-C goes to all that runs there: dnf 5, our hook or what it left, scriptlets."""
    offer(sandbox, app("1"), slow("slow", "pre"))
    ours, terminal = os.openpty()
    for number in (1, None):
        if number is None:
            hold_before_rpm(sandbox)
        words = ["setsid", "--ctty", "--wait", "dnf", "--assumeyes", "install", "slow"]
        with sandbox.running.popen(
            words, stdin=terminal, stdout=terminal, stderr=terminal
        ) as process:
            wait_for_path(sandbox.path("/run/held"))
            os.write(ours, b"\x03")
            process.wait(timeout=10)
        wait_for_keepers(sandbox, timeout_s=1)
        assert last_end(sandbox) == ("interrupted", number)
        let_go(sandbox)
    remove_action(sandbox)
    _is_usable(sandbox)
    os.close(terminal)
    os.close(ours)


def test_between_our_hook_and_rpm(sandbox: Sandbox) -> None:
    """No row of the history: nothing has changed, and the record does not say that it has."""
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    for signum in _SIGNALS:
        hold_before_rpm(sandbox)
        with held(sandbox, "upgrade", "app") as process:
            sandbox.signal(process, signum)
            process.wait(timeout=10)
            wait_for_keepers(sandbox, timeout_s=1)
        assert last_end(sandbox) == ("interrupted", None), signum
        assert installed(sandbox) == "1"
    remove_action(sandbox)
    _is_usable(sandbox)


def test_in_our_hook(sandbox: Sandbox) -> None:
    """While it waits for the store. Whether a snapshot is taken or not: nothing else is done."""
    offer(sandbox, app("1"))
    sandbox.run(["fs-rollback", "create"])
    for signum, is_typed in (*((signum, False) for signum in _SIGNALS), (signal.SIGINT, True)):
        holder = sandbox.running.popen(["python3", "-c", _HOLDER], stdin=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with holder, started(sandbox, "dnf", "--assumeyes", "install", "app") as process:
            assert process.stderr is not None
            assert any("waiting up to 30" in line for line in process.stderr), "it is in our hook"
            if is_typed:
                for pid in keepers(sandbox):
                    os.kill(pid, signum)
            else:
                sandbox.signal(process, signum)
                process.wait(timeout=10)
            holder.communicate("go\n", timeout=60)
            process.wait(timeout=10)
            assert process.returncode != 0
        wait_for_keepers(sandbox)
        assert installed(sandbox) == "", signum
        assert not [s for s in snapshots(sandbox) if "pending" in s["marks"]], signum
    _is_usable(sandbox)
    assert last_end(sandbox) == ("done", 1), "no row of what was ended before"


def test_the_child_that_stays_is_killed(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), slow("slow", "pre"), slow("late", "post"))
    dnf(sandbox, "install", "app")
    for package in ("slow", "late"):
        with held(sandbox, "install", package) as process:
            (pid,) = keepers(sandbox)
            os.kill(pid, signal.SIGKILL)
            wait_for(lambda: not keepers(sandbox), "it is gone")
            for command in (["list"], ["status"], ["check"]):
                told = said(sandbox.run(["fs-rollback", *command], check=False))
                assert "interrupted" not in told, "its transaction runs"
            assert snapshots(sandbox)[-1]["transaction"]["outcome"] == "pending"
            assert _is_refused(sandbox)
            created = sandbox.run(["fs-rollback", "create"])
            assert created.stdout
            assert process.poll() is None
            assert _end_of(sandbox, package)[0] == "pending", "still not told"
            let_go(sandbox)
            process.communicate(timeout=60)
            assert process.returncode == 0, "dnf 5 goes on"
        assert installed(sandbox, package) == "1"
        assert snapshots(sandbox)[-2]["transaction"]["outcome"] == "done", "as who looks sees it"
        sandbox.run(["fs-rollback", "create"])
        assert _end_of(sandbox, package)[0] == "done"


def _end_of(sandbox: Sandbox, package: str) -> tuple[str, object]:
    """Return what the record of the transaction with this package says of its end."""
    transactions = [r["transaction"] for r in records(sandbox).values() if r["transaction"]]
    found = [t for t in transactions if package in {p["name"] for p in t["packages"]}]
    return found[-1]["outcome"], found[-1]["history_id"]


def test_the_child_that_stays_is_killed_before_rpm_starts(sandbox: Sandbox) -> None:
    """rpm's lock is free then; dnf 5 has one of its own."""
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    hold_before_rpm(sandbox)
    with held(sandbox, "upgrade", "app") as process:
        (pid,) = keepers(sandbox)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not keepers(sandbox), "it is gone")
        assert _is_refused(sandbox)
        sandbox.run(["dnf", "repoquery", "app"])
        assert _is_refused(sandbox)
        let_go(sandbox)
        process.communicate(timeout=60)
    assert installed(sandbox) == "2"
    assert snapshots(sandbox)[-1]["transaction"]["outcome"] == "done"


def _is_refused(sandbox: Sandbox) -> bool:
    """Whether a rollback is refused because a transaction runs."""
    done = sandbox.run(["fs-rollback", "rollback", "--yes"], check=False)
    return done.returncode == 3 and "a package transaction is running" in done.stderr
