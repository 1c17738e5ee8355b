# SPDX-License-Identifier: GPL-2.0-or-later
"""The child that stays for dnf 5, where dnf 5 is a service, or a version with another lock.

Those are not to be had here: a program stands in for them, and asks the real entry point as the
Actions plugin does.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.dnf.scenes import dnf5, records
from tests.sandbox.machine import Sandbox

pytestmark = dnf5

# Arguments: whether it has dnf 5's lock, and keeps it, the state that its history ends with.
_SERVICE = """
import fcntl, json, os, sqlite3, subprocess, sys, time
with_lock, state = sys.argv[1] in ("lock", "given back"), sys.argv[2]
os.makedirs("/run/dnf", exist_ok=True)
os.makedirs("/usr/lib/sysimage/libdnf5", exist_ok=True)
database = sqlite3.connect("/usr/lib/sysimage/libdnf5/transaction_history.sqlite")
database.executescript(
    "CREATE TABLE trans_state (id INTEGER PRIMARY KEY, name TEXT);"
    "CREATE TABLE trans (id INTEGER PRIMARY KEY, dt_begin INTEGER, state_id INTEGER);"
    "INSERT INTO trans_state VALUES (1, 'Started'), (2, 'Ok'), (3, 'Error');"
)
if with_lock:
    lock = open("/run/dnf/rpmtransaction.lock", "w")
    fcntl.lockf(lock, fcntl.LOCK_EX)
    lock.write('pid = 1\\ndescription = "install app --from=\\\\"a service\\\\""\\n')
    lock.flush()
hook = subprocess.Popen(
    ["/usr/libexec/fs-snapshot-dnf5", str(os.getpid())],
    stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
)
hook.stdout.readline()
package = {"name": "app", "arch": "noarch", "evr": "1-1", "action": "I"}
answer = {"status": "OK", "return": {"trans_packages": [package]}}
hook.stdin.write(json.dumps(answer) + "\\n")
hook.stdin.flush()
assert hook.stdout.read() == ""
assert hook.wait() == 0
query = "INSERT INTO trans (dt_begin, state_id) SELECT ?, id FROM trans_state WHERE name = ?"
database.execute(query, (int(time.time()), state))
database.commit()
if sys.argv[1] == "given back":
    fcntl.lockf(lock, fcntl.LOCK_UN)
print("done", flush=True)
sys.stdin.readline()
"""


@contextmanager
def _service(box: Sandbox, lock: str, state: str) -> Iterator[subprocess.Popen[str]]:
    command = ["python3", "-c", _SERVICE, lock, state]
    with box.running.popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == "done\n", process.communicate()
        yield process
        process.communicate("\n", timeout=60)


def _outcome(box: Sandbox, *, within_s: float) -> str:
    """Return how the transaction ended, as the first record says when that is known."""
    deadline = time.monotonic() + within_s
    while True:
        record, *_ = records(box).values()
        outcome = str(record["transaction"]["outcome"])
        if outcome != "pending" or time.monotonic() > deadline:
            return outcome
        time.sleep(0.1)


@pytest.mark.parametrize("lock", ["lock", "no lock"])
def test_a_service_lives_on_and_its_transaction_has_ended(sandbox: Sandbox, lock: str) -> None:
    with _service(sandbox, lock, "Ok") as process:
        assert _outcome(sandbox, within_s=20) == "done"
        sandbox.run(["fs-rollback", "create"], timeout_s=20)
        assert process.poll() is None
    record, _ = records(sandbox).values()
    if lock == "lock":
        line = ["install", "app", '--from="a', 'service"']
        assert record["transaction"]["command_line"] == line, "not that of the service"
    else:
        assert record["transaction"]["command_line"][0] == "python3"


@pytest.mark.parametrize("lock", ["lock", "no lock"])
def test_one_that_dies_has_been_interrupted(sandbox: Sandbox, lock: str) -> None:
    with _service(sandbox, lock, "Started"):
        create = sandbox.running.popen(["fs-rollback", "create"])
        time.sleep(2.5)
        assert create.poll() is None, "it waits: the transaction runs"
    assert _outcome(sandbox, within_s=10) == "interrupted"
    _, said = create.communicate(timeout=60)
    assert "waiting up to 30 seconds for process " in said
    assert "(python3)" in said, "for what runs the transaction, not for the child"
    answer = json.loads(sandbox.run(["fs-rollback", "status", "--json"], check=False).stdout)
    assert answer["attention"][0].startswith("dnf was interrupted in the middle of 1 package;")


_NO_FILE = """
for directory in /usr/lib/sysimage/rpm /var/lib/rpm; do
    [ ! -d $directory ] || { rm -f $directory/.rpm.lock; mkdir -p $directory/.rpm.lock; }
done
"""


def test_a_lock_of_rpm_that_cannot_be_read_is_not_the_end(sandbox: Sandbox) -> None:
    """Without dnf 5's own lock only rpm's tells that its transaction runs; it may."""
    sandbox.run(["sh", "-c", _NO_FILE])
    with _service(sandbox, "given back", "Started"):
        assert _outcome(sandbox, within_s=2.5) == "pending"
    assert _outcome(sandbox, within_s=10) == "interrupted"
