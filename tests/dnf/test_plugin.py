# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugins in real transactions of real dnf 4 and dnf 5; test_scenarios.py has one of each."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.dnf.scenes import (
    LINE,
    app,
    both,
    dnf,
    dnf5_always,
    installed,
    lines_of_ours,
    offer,
    once_each,
    records,
    said,
    snapshots,
    wait_for_keepers,
)
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package


@once_each
def test_the_whole_story(any_sandbox: Sandbox) -> None:
    """tests/demo tells it in both layouts, and what is here has a named root elsewhere."""
    box = any_sandbox
    offer(box, app("1"))
    assert LINE in said(dnf(box, "install", "app"))
    offer(box, app("2"))
    lines = lines_of_ours(dnf(box, "upgrade"))
    assert len(lines) == 1
    assert re.fullmatch(r"fs-snapshot: snapshotting /: /fs-snapshots/yum_\d{14}", lines[0])
    assert installed(box) == "2"

    done = box.run(["fs-rollback", "rollback", "--yes"])
    assert "Rolled back" in done.stdout
    assert installed(box) == "2", "nothing changes before the reboot"
    box.reboot()
    assert installed(box) == "1"
    assert box.output("app") == "1\n"
    assert box.output("rpm", "-V", "app") == "", "the files and the rpmdb agree"
    assert snapshots(box)[-1]["kind"] == "replaced"

    box.run(["fs-rollback", "undo", "--yes", "--to-replaced"])
    box.reboot()
    assert installed(box) == "2"
    assert box.output("app") == "2\n"


@both
def test_what_is_recorded(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), Package("gone", "1"), Package("old", "1"))
    dnf(sandbox, "install", "app", "gone", "old")
    offer(sandbox, app("2"), Package("fresh", "1"))
    sandbox.run(
        ["sh", "-c", "dnf --assumeyes install --allowerasing app-2 fresh"], env={"SUDO_USER": "eve"}
    )
    wait_for_keepers(sandbox)
    dnf(sandbox, "remove", "gone")
    first, second, third = records(sandbox).values()
    for record in (first, second, third):
        assert record["version"] == 1
        assert record["kind"] == "pre"
        assert record["transaction"]["tool"] == sandbox.engine.value
        assert record["transaction"]["outcome"] == "done"
        assert len(record["uuid"]) == 32
    numbers = [r["transaction"]["history_id"] for r in (first, second, third)]
    assert numbers == [1, 2, 3]
    command = ["dnf", "--assumeyes", "install", "--allowerasing", "app-2", "fresh"]
    assert second["transaction"]["command_line"] == command
    assert second["transaction"]["user"] == "eve"
    assert second["transaction"]["packages"] == [
        {"action": "upgrade", "name": "app", "arch": "noarch", "from": "1-1", "to": "2-1"},
        {"action": "install", "name": "fresh", "arch": "noarch", "from": None, "to": "1-1"},
    ]
    assert third["transaction"]["packages"] == [
        {"action": "remove", "name": "gone", "arch": "noarch", "from": "1-1", "to": None},
    ]


@both
def test_one_switch(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    switch = "/etc/dnf/plugins/fs-snapshot.conf"
    usual = sandbox.path(switch).read_text()
    for value in ("0", "no", "False"):
        sandbox.path(switch).write_text(f"[main]\nenabled = {value}\n")
        assert lines_of_ours(dnf(sandbox, "install", "app")) == []
        assert lines_of_ours(dnf(sandbox, "remove", "app")) == []
    assert records(sandbox) == {}
    status = json.loads(sandbox.run(["fs-rollback", "status", "--json"], check=False).stdout)
    assert any("switched off" in line for line in status["attention"])
    sandbox.path(switch).write_text(usual)
    assert len(lines_of_ours(dnf(sandbox, "install", "app"))) == 1
    assert len(records(sandbox)) == 1


def test_what_dnf_loads_in_every_command_is_one_small_file(sandbox: Sandbox) -> None:
    script = (
        "import dnf.cli.main, sys\n"
        "base, before = dnf.Base(), {*sys.modules}\n"
        "base.init_plugins()\n"
        "print(*sorted({*sys.modules} - before))"
    )
    loaded = sandbox.output("python3", "-c", script).split()
    assert loaded == ["dnf.plugin.dynamic", "dnf.plugin.dynamic.fs_snapshot"]


def test_use_through_the_api_has_no_command_line(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    script = """
import dnf, logging
base = dnf.Base()
base.read_all_repos()
base.init_plugins()
base.pre_configure_plugins()
base.configure_plugins()
base.fill_sack()
base.install("app")
base.resolve()
base.download_packages(base.transaction.install_set)
base.do_transaction()
base.close()
"""
    sandbox.run(["python3", "-c", script])
    (record,) = records(sandbox).values()
    assert installed(sandbox) == "1"
    assert record["transaction"]["command_line"] == ["-c"]
    assert record["transaction"]["outcome"] == "done"
    assert record["transaction"]["packages"][0]["name"] == "app"


_ADVISORY = """<?xml version="1.0" encoding="UTF-8"?>
<updates><update from="x" status="final" type="security" version="1"><id>TEST-2026-1</id>
<title>app</title><severity>Critical</severity><issued date="2026-11-01 00:00:00"/>
<description>d</description><references/><pkglist><collection short="t"><name>t</name>
<package name="app" version="2" release="1" epoch="0" arch="noarch" src="app.src.rpm">
<filename>app-2-1.noarch.rpm</filename></package></collection></pkglist></update></updates>
"""


@dnf5_always
def test_the_question_says_what_goes_back(sandbox: Sandbox, tmp_path: Path) -> None:
    offer(sandbox, app("1"), app("2"), Package("late", "1"))
    (tmp_path / "updateinfo.xml").write_text(_ADVISORY)
    modify = ["modifyrepo_c", "--mdtype=updateinfo", str(tmp_path / "updateinfo.xml")]
    repodata = str(sandbox.repository / "repodata")
    subprocess.run([*modify, repodata], check=True, capture_output=True)
    dnf(sandbox, "install", "app-1")
    dnf(sandbox, "upgrade")
    dnf(sandbox, "install", "late")
    upgrade = snapshots(sandbox)[1]["name"]
    sandbox.path("/etc/hosts").write_text("127.0.0.1 here\n")
    answer = json.loads(sandbox.output("fs-rollback", "rollback", "--dry-run", "--json", upgrade))
    assert [(p["name"], p["from"], p["to"]) for p in answer["reverts"]["packages"]] == [
        ("app", "2-1", "1-1"),
        ("late", "1-1", None),
    ]
    assert answer["reverts"]["advisories"] == ["TEST-2026-1 Critical app-2-1.noarch"]
    (advisory,) = answer["reverts"]["security"]
    assert (advisory["id"], advisory["severity"]) == ("TEST-2026-1", "Critical")
    assert "/etc/hosts" in answer["reverts"]["files"]
    assert answer["done"] is False
    text = sandbox.output("fs-rollback", "rollback", "--dry-run", upgrade)
    assert "TEST-2026-1" in text
    assert "changed by hand: /etc/hosts" in text
