# SPDX-License-Identifier: GPL-2.0-or-later
"""The plugin in real transactions of real dnf 4."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.dnf.scenes import LINE, app, dnf, installed, offer, records, snapshots
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package


def test_the_whole_story(toplevel_sandbox: Sandbox) -> None:
    """tests/demo tells it in both layouts, and what is here has a named root elsewhere."""
    box = toplevel_sandbox
    offer(box, app("1"))
    assert LINE in dnf(box, "install", "app").stdout
    offer(box, app("2"))
    said = dnf(box, "upgrade").stdout
    lines = [line for line in said.splitlines() if "fs-snapshot" in line]
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

    box.run(["fs-rollback", "undo", "--yes"])
    box.reboot()
    assert installed(box) == "2"
    assert box.output("app") == "2\n"


def test_what_is_recorded(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), Package("gone", "1"), Package("old", "1"))
    dnf(sandbox, "install", "app", "gone", "old")
    offer(sandbox, app("2"), Package("fresh", "1"))
    sandbox.run(
        ["sh", "-c", "dnf --assumeyes --allowerasing install app-2 fresh"], env={"SUDO_USER": "eve"}
    )
    dnf(sandbox, "remove", "gone")
    first, second, third = records(sandbox).values()
    for record in (first, second, third):
        assert record["version"] == 1
        assert record["kind"] == "pre"
        assert record["transaction"]["tool"] == "dnf4"
        assert record["transaction"]["outcome"] == "done"
        assert len(record["uuid"]) == 32
    numbers = [r["transaction"]["history_id"] for r in (first, second, third)]
    assert numbers == [1, 2, 3]
    command = ["dnf", "--assumeyes", "--allowerasing", "install", "app-2", "fresh"]
    assert second["transaction"]["command_line"] == command
    assert second["transaction"]["user"] == "eve"
    assert second["transaction"]["packages"] == [
        {"action": "upgrade", "name": "app", "arch": "noarch", "from": "1-1", "to": "2-1"},
        {"action": "install", "name": "fresh", "arch": "noarch", "from": None, "to": "1-1"},
    ]
    assert third["transaction"]["packages"] == [
        {"action": "remove", "name": "gone", "arch": "noarch", "from": "1-1", "to": None},
    ]


def test_a_failing_pre_scriptlet(sandbox: Sandbox) -> None:
    offer(sandbox, app("1", scriptlets={"pre": "exit 1"}))
    dnf(sandbox, "install", "app", code=1)
    (record,) = records(sandbox).values()
    assert record["transaction"]["outcome"] == "failed"
    assert record["transaction"]["history_id"] == 1


def test_reinstall_downgrade_and_obsoletes(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-2")
    dnf(sandbox, "reinstall", "app")
    dnf(sandbox, "downgrade", "app")
    actions = [r["transaction"]["packages"][0] for r in records(sandbox).values()]
    assert [(a["action"], a["from"], a["to"]) for a in actions] == [
        ("install", None, "2-1"),
        ("reinstall", "2-1", "2-1"),
        ("downgrade", "2-1", "1-1"),
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("install", "--downloadonly", "app"),
        ("upgrade",),
        ("repolist",),
        ("install", "--installroot=/tmp/other", "app"),
        ("--setopt=tsflags=test", "install", "app"),
    ],
    ids=" ".join,
)
def test_no_snapshot_where_nothing_changes_here(
    sandbox: Sandbox, arguments: tuple[str, ...]
) -> None:
    offer(sandbox, app("1"))
    done = sandbox.run(["dnf", "--assumeyes", *arguments], check=False)
    assert "fs-snapshot" not in done.stdout + done.stderr
    assert records(sandbox) == {}


def test_group_mark_has_an_empty_transaction(sandbox: Sandbox) -> None:
    comps = """<?xml version="1.0"?><comps><group><id>tools</id><name>Tools</name>
    <uservisible>true</uservisible><packagelist><packagereq type="mandatory">app</packagereq>
    </packagelist></group></comps>"""
    offer(sandbox, app("1"))
    (sandbox.repository / "comps.xml").write_text(comps)

    subprocess.run(
        ["createrepo_c", "--quiet", "--groupfile", "comps.xml", str(sandbox.repository)], check=True
    )
    done = dnf(sandbox, "group", "mark", "install", "tools")
    assert "fs-snapshot" not in done.stdout + done.stderr
    assert records(sandbox) == {}
    assert "Tools" in dnf(sandbox, "group", "list", "--installed").stdout


def test_the_installonly_trim(sandbox: Sandbox) -> None:
    """Removing the oldest kernel adds an item whose package dnf itself cannot look up."""
    for version in ("1", "2", "3", "4"):
        offer(
            sandbox, Package("kernel", version, files={f"/usr/lib/modules/{version}/vmlinuz": ""})
        )
        done = dnf(sandbox, "--setopt=installonly_limit=2", "install", f"kernel-{version}")
        assert LINE in done.stdout
        assert "Traceback" not in done.stdout + done.stderr
    last = list(records(sandbox).values())[-1]
    assert {(p["action"], p["from"], p["to"]) for p in last["transaction"]["packages"]} >= {
        ("install", None, "4-1"),
        ("remove", "2-1", None),
    }
    assert set(last["kernels"]) >= {"2", "3"}


def test_quiet_says_nothing_and_protects(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    assert "fs-snapshot" not in dnf(sandbox, "--quiet", "install", "app").stdout
    assert len(records(sandbox)) == 1


def test_disableplugin(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"))
    dnf(sandbox, "--disableplugin=fs-snapshot", "install", "app")
    assert records(sandbox) == {}


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
    assert answer["reverts"]["advisories"] == ["TEST-2026-1 Critical/Sec. app-2-1.noarch"]
    assert "/etc/hosts" in answer["reverts"]["files"]
    assert answer["done"] is False
    text = sandbox.output("fs-rollback", "rollback", "--dry-run", upgrade)
    assert "TEST-2026-1" in text
    assert "/etc/hosts, written since, goes back." in text
