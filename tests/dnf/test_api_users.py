# SPDX-License-Identifier: GPL-2.0-or-later
"""Programs that use dnf as a library, and go on after a transaction that failed."""

from __future__ import annotations

import subprocess

from tests.dnf.scenes import app, installed, offer, records
from tests.sandbox.machine import Sandbox

# Says what it is about to do, and goes on with each line that it reads.
_DAEMON = """
import sys
import dnf

class Base(dnf.Base):
    fails = False

    def _run_transaction(self, cb):
        if self.fails:
            raise dnf.exceptions.Error("Could not run transaction.")
        return super()._run_transaction(cb)

def ready():
    base = Base()
    base.conf.assumeyes = True
    base.conf.read()
    base.read_all_repos()
    base.init_plugins()
    base.pre_configure_plugins()
    base.configure_plugins()
    base.fill_sack()
    return chosen(base)

def chosen(base):
    base.install("app")
    base.resolve()
    return base

def say(text):
    print(text, flush=True)
    sys.stdin.readline()

base = ready()
base.fails = True
for _ in range(2):  # one Base for all
    try:
        base.do_transaction()
    except dnf.exceptions.Error as error:
        kept = error  # with its frames
        say(f"failed: {error}")
    base._closeRpmDB()
    base.reset(goal=True)
    chosen(base)
base.unload_plugins()

other = ready()  # one for each
other._plugins.run_pre_transaction()
say("in the middle")
other.close()
say("closed")
dnf.plugin.Plugins()._unload()

last = ready()
last.do_transaction()
say("done")
"""


def test_the_lock_ends_with_the_transaction_or_its_base(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    daemon = sandbox.running.popen(["python3", "-c", _DAEMON], stdin=subprocess.PIPE)
    assert daemon.stdin is not None
    assert daemon.stdout is not None

    def goes_on() -> str:
        assert daemon.stdout is not None
        for line in daemon.stdout:
            if line.startswith(("failed", "in the middle", "closed", "done")):
                return line.strip()
        raise AssertionError(daemon.wait(), daemon.communicate())

    def proceed() -> None:
        assert daemon.stdin is not None
        daemon.stdin.write("\n")
        daemon.stdin.flush()

    with daemon:
        for _ in range(2):
            assert goes_on() == "failed: Could not run transaction."
            assert sandbox.run(["fs-rollback", "create"]).stderr == ""
            proceed()
        assert goes_on() == "in the middle"
        with sandbox.popen(["fs-rollback", "create"]) as waiting:
            assert waiting.stderr is not None
            line = waiting.stderr.readline()
            assert "waiting up to 30 seconds for process " in line
            assert "(python3), running since 2" in line
            assert ": python3 -c import sys" in line
            assert waiting.poll() is None
            proceed()
            assert goes_on() == "closed"
            assert waiting.wait(timeout=20) == 0
        proceed()
        assert goes_on() == "done"
        proceed()
        assert daemon.wait(timeout=20) == 0, daemon.communicate()
    assert installed(sandbox) == "1"
    ends = [r["transaction"]["outcome"] for r in records(sandbox).values() if r["transaction"]]
    assert ends == ["interrupted"] * 3 + ["done"]
