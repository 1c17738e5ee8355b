# SPDX-License-Identifier: GPL-2.0-or-later
"""What came along without a snapshot is noticed afterwards: real rpm, real dnf."""

from __future__ import annotations

import json
import os
import time

from tests.dnf.scenes import app, dnf, installed, offer, records, wait_for_path
from tests.dnf.test_roads import status
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package

_HOUR_S = 3600


def noticed(sandbox: Sandbox) -> bool:
    """Whether status and check say that packages changed; both say the same."""
    answer = status(sandbox)
    lines = [line for line in answer["attention"] if line.startswith("packages changed at ")]
    assert bool(lines) == bool(answer["changed_without_snapshot"])
    links = json.loads(sandbox.run(["fs-rollback", "check", "--json"], check=False).stdout)
    warned = [
        link for link in links["links"] if (link["name"], link["grade"]) == ("rpm", "warning")
    ]
    assert len(warned) == len(lines)
    return bool(lines)


def an_hour_passes(sandbox: Sandbox) -> None:
    """Make all that was written so far an hour older."""
    database = sandbox.path("/var/lib/rpm")
    with sandbox.top() as top:
        paths = [*(top / "fs-snapshots").glob("*.json"), *database.iterdir()]
        for path in paths:
            before = path.stat()
            os.utime(path, (before.st_atime - _HOUR_S, before.st_mtime - _HOUR_S))


def test_rpm_by_itself_is_noticed_until_there_is_a_snapshot(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), app("2"))
    assert not noticed(sandbox), "there is no record"
    dnf(sandbox, "install", "app-1")
    assert not noticed(sandbox)
    an_hour_passes(sandbox)
    sandbox.run(["rpm", "--query", "--all"])
    sandbox.run(["dnf", "check"], check=False)
    assert not noticed(sandbox), "nobody has changed anything"
    sandbox.run(["rpm", "--erase", "app"])
    (line,) = status(sandbox)["attention"]
    now = time.strftime("%H:%M")
    assert line.startswith("packages changed at ")
    assert line[20:25] <= now
    assert line.endswith("'fs-rollback create' takes one")
    assert noticed(sandbox)
    sandbox.run(["fs-rollback", "create"])
    assert not noticed(sandbox)
    an_hour_passes(sandbox)
    dnf(sandbox, "--disableplugin=fs-snapshot", "install", "app-1")
    assert noticed(sandbox)
    dnf(sandbox, "upgrade")
    assert not noticed(sandbox)


def test_a_rollback_is_no_change_without_a_snapshot(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    dnf(sandbox, "install", "app")
    an_hour_passes(sandbox)
    sandbox.run(["fs-rollback", "rollback", "--yes"])
    assert status(sandbox)["changed_without_snapshot"] is None
    sandbox.reboot()
    sandbox.run(["fs-rollback", "settle"])
    assert installed(sandbox) == ""
    assert not noticed(sandbox)
    sandbox.run(["fs-rollback", "undo", "--yes", "--to-replaced"])
    sandbox.reboot()
    assert installed(sandbox) == "1"
    assert not noticed(sandbox)
    dnf(sandbox, "remove", "app")
    assert not noticed(sandbox)


def test_while_dnf_runs_and_after_it_was_killed(sandbox: Sandbox) -> None:
    wait = {"post": "touch /run/now; while [ -e /run/now ]; do sleep 0.1; done"}
    offer(sandbox, app("1"), Package("slow", "1", scriptlets=wait))
    dnf(sandbox, "install", "app")
    an_hour_passes(sandbox)
    with sandbox.popen(["dnf", "--assumeyes", "install", "slow"]) as process:
        wait_for_path(sandbox.path("/run/now"))
        assert status(sandbox)["attention"] == []
        sandbox.signal(process, 9)
        sandbox.path("/run/now").unlink()
        process.communicate(timeout=60)
    time.sleep(0.5)
    an_hour_passes(sandbox)
    sandbox.run(["rpm", "-e", "--noscripts", "slow"], check=False)
    (line,) = status(sandbox)["attention"]
    assert line == (
        "dnf was interrupted in the middle of 1 package; 'fs-rollback rollback' returns to the"
        " state before it"
    )
    plan = json.loads(sandbox.output("fs-rollback", "rollback", "--dry-run", "--json"))
    assert plan["target"] == max(records(sandbox))
    dnf(sandbox, "reinstall", "app")
    assert status(sandbox)["attention"] == []
