# SPDX-License-Identifier: GPL-2.0-or-later
"""What comes in between while dnf 5 is in its transaction: it waits, and says for whom."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.dnf.holding import (
    add_action,
    held,
    hold_before_rpm,
    last_end,
    let_go,
    line_of,
    remove_action,
    slow,
    started,
)
from tests.dnf.scenes import (
    app,
    dnf,
    dnf5,
    installed,
    lines_of_ours,
    offer,
    records,
    snapshots,
    wait_for_keepers,
)
from tests.sandbox.engine import Engine
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package

pytestmark = dnf5


def _add_dnf4(sandbox: Sandbox, rpms: list[Path]) -> None:
    """Install the plugin for dnf 4 too, which is on the machine."""
    (rpm,) = (rpm for rpm in rpms if rpm.name.startswith(Engine.DNF4.plugin))
    shutil.copy(rpm, sandbox.path("/run"))
    sandbox.run(["rpm", "--install", f"/run/{rpm.name}"])


@pytest.mark.parametrize("moment", ["before rpm", "in rpm"])
def test_what_is_started_meanwhile_waits(
    sandbox: Sandbox, product_rpms: list[Path], moment: str
) -> None:
    _add_dnf4(sandbox, product_rpms)
    offer(sandbox, app("1"), Package("other", "1"), Package("fast", "1"), slow("slow", "pre"))
    dnf(sandbox, "install", "app")
    (first,) = records(sandbox)
    roots = _roots(sandbox)
    package = "slow"
    if moment == "before rpm":
        hold_before_rpm(sandbox)
        package = "fast"
    with held(sandbox, "install", package) as process:
        for command in (
            ["fs-rollback", "rollback", "--yes"],
            ["fs-rollback", "undo", "--yes"],
            ["fs-rollback", "prune"],
            ["fs-rollback", "delete", first],
            ["fs-rollback", "create"],
            ["dnf-3", "--assumeyes", "install", "other"],
        ):
            with started(sandbox, *command) as meanwhile:
                said = line_of(meanwhile)
                assert "waiting up to 30 seconds for process " in said, (command, said)
                assert "(dnf), running since 2" in said, (command, said)
                assert f"dnf --assumeyes install {package}" in said, (command, said)
                assert meanwhile.poll() is None, command
                sandbox.signal(meanwhile, 15)
        assert sorted(records(sandbox))[0] == first
        assert len(records(sandbox)) == 2, "nothing was done"
        assert _roots(sandbox) == roots
        assert process.poll() is None
        with started(sandbox, "fs-rollback", "rollback", "--yes", first) as rollback:
            assert "waiting up to 30 seconds" in line_of(rollback)
            let_go(sandbox)
            assert rollback.wait(timeout=60) == 0
    assert last_end(sandbox)[0] == "done"
    sandbox.reboot()
    assert installed(sandbox) == installed(sandbox, package) == "", "rpm was in the old root"


def _roots(sandbox: Sandbox) -> list[str]:
    return [path for path in sandbox.subvolumes() if not path.startswith("fs-snapshots/")]


def test_dnf_4_and_dnf_5_take_turns(sandbox: Sandbox, product_rpms: list[Path]) -> None:
    """A snapshot each, and each has the number of its own history."""
    _add_dnf4(sandbox, product_rpms)
    offer(sandbox, app("1"), app("2"), Package("other", "1"))
    dnf(sandbox, "install", "app-1")
    sandbox.run(["dnf-3", "--assumeyes", "install", "other"])
    dnf(sandbox, "upgrade", "app")
    sandbox.run(["dnf-3", "--assumeyes", "remove", "other"])
    found = [record["transaction"] for record in records(sandbox).values()]
    assert [(t["tool"], t["outcome"], t["history_id"]) for t in found] == [
        ("dnf5", "done", 1), ("dnf4", "done", 1), ("dnf5", "done", 2), ("dnf4", "done", 2),
    ]  # fmt: skip
    sandbox.run(["fs-rollback", "rollback", "--yes", snapshots(sandbox)[2]["name"]])
    sandbox.reboot()
    assert (installed(sandbox), installed(sandbox, "other")) == ("1", "1")
    dnf(sandbox, "upgrade", "app")
    assert last_end(sandbox) == ("done", 2), "numbers are given again after a rollback"


def test_a_second_dnf_5_waits(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), slow("slow", "pre"))
    with (
        held(sandbox, "install", "slow") as process,
        sandbox.popen(["dnf", "--assumeyes", "install", "app"]) as second,
    ):
        heard = [line_of(second, timeout_s=1) for _ in range(3)]
        assert not [line for line in heard if "fs-snapshot" in line], "not even in our hook"
        assert len(records(sandbox)) == 1
        let_go(sandbox)
        process.communicate(timeout=60)
        assert process.returncode == 0
        _, rest = second.communicate(timeout=60)
        assert second.returncode == 0
        assert "fs-snapshot: snapshotting /" in rest
    wait_for_keepers(sandbox)
    found = [record["transaction"] for record in records(sandbox).values()]
    assert [(t["outcome"], t["history_id"]) for t in found] == [("done", 1), ("done", 2)]
    assert [t["packages"][0]["name"] for t in found] == ["slow", "app"]


def test_another_action_stops_dnf_5_after_ours(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    add_action(sandbox, "exit 1")
    done = dnf(sandbox, "upgrade", code=1)
    assert len(lines_of_ours(done)) == 1
    assert installed(sandbox) == "1"
    assert last_end(sandbox) == ("interrupted", None)
    remove_action(sandbox)
    dnf(sandbox, "upgrade")
    assert last_end(sandbox) == ("done", 2)
    assert installed(sandbox) == "2"
    status = sandbox.run(["fs-rollback", "status"], check=False)
    assert "interrupted" not in status.stdout + status.stderr
