# SPDX-License-Identifier: GPL-2.0-or-later
"""dnf in a trial, and in another tool's snapshot: said before, marked, and never offered."""

from __future__ import annotations

import json
import re
import subprocess
from typing import Any

from tests.dnf.scenes import LINE, app, dnf, installed, offer, snapshots
from tests.dnf.test_other_roots import boot, run, upgraded
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package


def marked(sandbox: Sandbox) -> list[str]:
    return [row["name"] for row in snapshots(sandbox) if "trial" in row["marks"]]


def target(sandbox: Sandbox, *words: str) -> Any:
    return json.loads(sandbox.output("fs-rollback", "rollback", "--dry-run", "--json", *words))[
        "target"
    ]


def copies(sandbox: Sandbox) -> set[str]:
    return {
        path
        for path in sandbox.subvolumes()
        if "fs-snapshots/try_" in path and "/" not in path[13:]
    }


def test_dnf_in_what_is_not_the_machines_own_root(sandbox: Sandbox) -> None:
    _, second = upgraded(sandbox)
    slow = Package("slow", "1", scriptlets={"post": "kill -9 $PPID"})
    offer(sandbox, app("2"), slow, Package("extra", "1"), Package("more", "1"))
    theirs = _in_another_tools_snapshot(sandbox)
    trial = _in_a_trial(sandbox, second)
    _at_home(sandbox, second, theirs, trial)
    _pruned(sandbox, trial)
    _after_a_rollback(sandbox)


def _in_another_tools_snapshot(sandbox: Sandbox) -> list[str]:
    theirs = "timeshift"
    with sandbox.top() as top:
        snapshot = ["btrfs", "-q", "subvolume", "snapshot", str(top / "root")]
        subprocess.run([*snapshot, str(top / theirs)], check=True)
    boot(sandbox, f"subvol={theirs} systemd.volatile=overlay")
    said = dnf(sandbox, "remove", "app").stderr
    assert "fs-snapshot: no snapshot: / is an overlay" in said
    boot(sandbox, f"subvol={theirs}")
    assert installed(sandbox) == "2"
    said = dnf(sandbox, "install", "extra").stderr
    assert f"this machine runs /{theirs}: changes made now stay in it" in said
    assert "latest" in run(sandbox, "create").stderr
    assert len(marked(sandbox)) == 2
    return marked(sandbox)


def _in_a_trial(sandbox: Sandbox, of: str) -> list[str]:
    """Do a transaction, and one whose end only dnf's history in the trial could tell."""
    before = marked(sandbox)
    boot(sandbox, f"subvol=fs-snapshots/{of.replace('yum', 'try')}")
    assert installed(sandbox) == "1"
    said = sandbox.output("sh", "-c", "dnf -y install extra 2>&1")
    assert LINE in said
    (line,) = (line for line in said.splitlines() if "trial" in line)
    start = (
        f"fs-snapshot: this machine runs a trial of {of}: changes made now are lost when the trial"
        " ends."
    )
    assert line.startswith(start)
    assert "'fs-rollback rollback', reboot" in line
    assert said.index(line) < said.index("Running transaction\n")
    sandbox.run(["dnf", "-y", "install", "slow"], check=False)
    trial = [name for name in marked(sandbox) if name not in before]
    assert len(trial) == 2
    assert target(sandbox) == of, "what the machine runs a trial of"
    assert target(sandbox, "latest") == of
    sandbox.output("fs-rollback", "create", "-m", "of the own root")
    assert marked(sandbox) == [*before, *trial]
    return trial


def _at_home(sandbox: Sandbox, newest: str, theirs: list[str], trial: list[str]) -> None:
    """Nothing of a trial counts as the own root's."""
    boot(sandbox)
    assert installed(sandbox) == "2"
    assert target(sandbox) == newest
    rows = snapshots(sandbox)
    assert rows[-1]["description"] == "of the own root"
    assert json.loads(run(sandbox, "status", "--json").stdout)["newest"] == rows[-1]["name"]
    outcome = {row["name"]: (row["transaction"] or {}).get("outcome") for row in rows}
    assert [outcome[name] for name in (*theirs, *trial)] == ["done", None, "done", "pending"]
    assert re.search(r"Marks: +trial", run(sandbox, "show", trial[0]).stdout)
    # It can be rolled back to, if somebody asks for that by its name.
    assert target(sandbox, trial[1]) == trial[1]


def _pruned(sandbox: Sandbox, trial: list[str]) -> None:
    """They are no part of `keep_last`, and have no entry in the menu."""
    sandbox.path("/etc/fs-rollback.conf").write_text("keep_last = 2\nkeep_days = 30\n")
    assert "trial" not in dnf(sandbox, "install", "extra").stderr
    newest = [row["name"] for row in snapshots(sandbox)][-2:]
    assert copies(sandbox) == {f"fs-snapshots/{name.replace('yum', 'try')}" for name in newest}
    # The trial is gone: nothing can tell any more how that transaction ended.
    outcome = {row["name"]: row["transaction"] for row in snapshots(sandbox)}
    assert outcome[trial[1]]["outcome"] == "interrupted"
    sandbox.path("/etc/fs-rollback.conf").write_text("keep_last = 2\nkeep_days = 0\n")
    sandbox.output("fs-rollback", "prune")
    left = snapshots(sandbox)
    assert not any("trial" in row["marks"] for row in left), "those of the trial aged out"
    # Two of dnf's, and the one by hand that is counted apart.
    assert [row["kind"] for row in left] == ["pre", "manual", "pre"]
    assert [row["name"] for row in left][-2:] == newest


def _after_a_rollback(sandbox: Sandbox) -> None:
    """The own root is a copy like any other then."""
    newest = snapshots(sandbox)[-1]["name"]
    boot(sandbox, f"subvol=fs-snapshots/{newest.replace('yum', 'try')}")
    sandbox.output("fs-rollback", "rollback", "--yes")
    boot(sandbox)
    assert "trial" not in dnf(sandbox, "install", "more").stderr
    assert marked(sandbox) == []
    assert target(sandbox) == snapshots(sandbox)[-1]["name"]
