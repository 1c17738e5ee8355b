# SPDX-License-Identifier: GPL-2.0-or-later
"""The modules of the Ansible collection, on machines that answer what was recorded."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.packaging.collection import NOT_BTRFS, Collection
from tests.packaging.stand_in import BEFORE, UPDATED, recorded
from tests.unit.manual import differences


def test_what_was_recorded_is_what_the_manual_says() -> None:
    count = 0
    for state, rows in recorded().items():
        for row in rows:
            answers = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
            for answer in filter(None, answers):
                assert differences(row["words"][0], answer) == [], (state, row["words"])
                count += 1
    assert count > 70


# Reading.


def test_how_a_machine_stands(collection: Collection) -> None:
    ended = collection.run(collection.machine("before"), "fs_rollback_info")
    assert ended.result["changed"] is False
    summary = ended.result["summary"]
    assert (summary["health"], summary["newest"], summary["running"]) == ("ok", BEFORE, "/root")
    assert summary["days_since_update"] >= 0
    assert sorted(ended.asked) == [
        "check --json", "guard status --json", "list --json", "status --json",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("state", "health"),
    [("fallen", "in_snapshot"), ("back", "fell_back"), ("waiting", "fell_back"),
     ("guarded", "ok"), ("empty", "attention"), ("asked", "waiting"), ("undone", "ok")],
)  # fmt: skip
def test_the_health_of_a_machine_is_the_worst(
    collection: Collection, state: str, health: str
) -> None:
    summary = collection.run(collection.machine(state), "fs_rollback_info").result["summary"]
    assert summary["health"] == health


def test_what_a_failed_machine_tells(collection: Collection) -> None:
    summary = collection.run(collection.machine("back"), "fs_rollback_info").result["summary"]
    assert summary["transaction"] == "dnf upgrade"
    assert "httpd.service is failed" in summary["reason"]
    assert summary["log"][-1] == "systemd: Failed to start httpd.service"
    assert (summary["copy_of"], summary["links"]) == (UPDATED, [])
    link = {"name": "kernel", "grade": "broken", "text": "no such file", "advice": "reinstall it"}
    answer = collection.machines.words("before", "check")
    link = {**answer["links"][0], **link}
    broken = {**answer, "verdict": "broken", "links": [*answer["links"], link]}
    machine = collection.machine("broken")
    for words in (["status"], ["list"], ["guard", "status"]):
        told = collection.machines.words("before", *words)
        collection.machines.answer("broken", [*words, "--json"], 0, told)
    collection.machines.answer("broken", ["check", "--json"], 3, broken)
    summary = collection.run(machine, "fs_rollback_info").result["summary"]
    assert (summary["health"], summary["links"]) == ("broken", [link])


def test_only_what_is_asked_for(collection: Collection) -> None:
    machine = collection.machine("updated")
    ended = collection.run(machine, "fs_rollback_info", gather=["list"])
    assert ended.asked == ["status --json", "list --json"]
    (row, _) = ended.result["snapshots"]
    assert row["transaction"]["package_count"] == 1
    assert "packages" not in row["transaction"]
    ended = collection.run(machine, "fs_rollback_info", gather=["list"], packages=True)
    assert ended.result["snapshots"][0]["transaction"]["packages"][0]["name"] == "app"
    ended = collection.run(machine, "fs_rollback_info", gather=["diff"], snapshot=UPDATED)
    diff = ended.result["diff"]
    assert [row["name"] for row in diff["packages"]] == ["app"]
    assert diff["end"]["packages"] == 1
    assert "needs a snapshot" in collection.run(
        machine, "fs_rollback_info", gather=["diff"]
    ).result["msg"]  # fmt: skip


def test_a_machine_without_btrfs(collection: Collection) -> None:
    machine = collection.machine("ext4")
    collection.machines.answer("ext4", ["status", "--json"], 3, None, NOT_BTRFS)
    told = collection.run(machine, "fs_rollback_info").result
    assert (told["supported"], told["summary"]["health"]) == (False, "unsupported")
    assert told["reason"] == "/ is ext4, not btrfs. Snapshots need a btrfs root filesystem"
    told = collection.run(machine, "fs_rollback", state="rolled_back").result
    assert (told["failed"], told["outcome"], told["exit_code"]) == (True, "unsupported", 3)


def test_an_older_command_and_a_newer_one(collection: Collection) -> None:
    machine = collection.machine("old")
    for name in ("status", "list", "check"):
        answer = dict(collection.machines.words("before", name))
        answer.pop("guard", None)
        collection.machines.answer("old", [name, "--json"], 0, answer)
    told = collection.run(machine, "fs_rollback_info", gather=["summary", "guard"]).result
    assert (told["guard"], told["summary"]["health"]) == (None, "ok")
    ended = collection.run(machine, "fs_rollback", guard="on")
    assert "too old to guard" in ended.result["msg"]
    assert collection.run(machine, "fs_rollback_boot").result["boot"] == "healthy"
    collection.machines.answer("old", ["status", "--json"], 0, {"version": 2})
    for ended in (
        collection.run(machine, "fs_rollback_info"),
        collection.run(machine, "fs_rollback", state="rolled_back"),
    ):
        assert "version 2 of its JSON" in ended.result["msg"]
        assert ended.changes == []


def test_no_command(collection: Collection) -> None:
    machine = collection.machine("before")
    real, path = machine.python.read_text(), os.environ["PATH"]
    assert not any(Path(place, "fs-rollback").exists() for place in path.split(":"))
    machine.python.write_text(re.sub(r"PATH=\S*\$PATH", "PATH=$PATH", real))
    told = collection.run(machine, "fs_rollback_info").result
    assert told["outcome"] == "not_installed"
    assert "libdnf5-plugin-fs-snapshot" in told["msg"]


# Changing.


def test_a_snapshot_is_taken_once(collection: Collection) -> None:
    machine = collection.machine("before")
    arguments: dict[str, Any] = {"state": "snapshot", "description": "all is well"}
    ended = collection.run(machine, "fs_rollback", check=True, **arguments)
    assert (ended.result["changed"], ended.changes) == (True, [])
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert ended.changes == ["create --message=all is well --json"]
    assert ended.result["snapshots"][0]["name"].startswith("yum_")
    machine.go_to("kept")
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert (ended.result["changed"], ended.changes) == (False, [])


def test_pinned_and_not(collection: Collection) -> None:
    machine = collection.machine("before")
    (number,) = (row["id"] for row in collection.machines.words("before", "list")["snapshots"])
    for reference in (BEFORE, str(number), "latest", f"/fs-snapshots/{BEFORE}", BEFORE[:-1]):
        ended = collection.run(
            machine, "fs_rollback", check=True, state="pinned", snapshots=[reference]
        )
        assert (ended.result["changed"], ended.changes) == (True, [])
    ended = collection.run(machine, "fs_rollback", state="pinned", snapshot=[BEFORE, number])
    assert (ended.result["changed"], ended.changes) == (True, [f"pin {BEFORE} --json"])
    ended = collection.run(machine, "fs_rollback", state="unpinned", snapshots=[BEFORE])
    assert (ended.result["changed"], ended.changes) == (False, [])
    machine.go_to("kept")
    ended = collection.run(machine, "fs_rollback", state="pinned", snapshots=[BEFORE])
    assert (ended.result["changed"], ended.changes) == (False, [])
    ended = collection.run(machine, "fs_rollback", state="unpinned", snapshots=[BEFORE])
    assert ended.changes == [f"unpin {BEFORE} --json"]
    for wrong, said in (("nothing", "no snapshot"), ("yum_", "matches 2 snapshots")):
        ended = collection.run(machine, "fs_rollback", state="pinned", snapshots=[wrong])
        assert said in ended.result["msg"]


def test_deleted(collection: Collection) -> None:
    machine = collection.machine("kept")
    made = collection.machines.words("kept", "list")["snapshots"][-1]["name"]
    arguments: dict[str, Any] = {"state": "deleted", "snapshots": [made]}
    ended = collection.run(machine, "fs_rollback", check=True, **arguments)
    assert ended.changes == [f"delete --dry-run {made} --json"]
    assert ended.result["changed"] is True
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert (ended.result["changed"], ended.changes) == (True, [f"delete {made} --json"])
    ended = collection.run(machine, "fs_rollback", state="deleted", snapshots=["yum_19991231"])
    assert (ended.result["changed"], ended.changes) == (False, [])
    ended = collection.run(machine, "fs_rollback", state="deleted", snapshots=[BEFORE])
    told = ended.result
    assert (told["failed"], told["outcome"], told["changed"]) == (True, "refused", False)
    assert "it is pinned. Run 'fs-rollback unpin' first" in told["msg"]
    ended = collection.run(machine, "fs_rollback", state="deleted", snapshots=["latest"])
    assert "another snapshot" in ended.result["msg"]


def test_rolled_back(collection: Collection) -> None:
    machine = collection.machine("updated")
    arguments: dict[str, Any] = {"state": "rolled_back", "snapshots": [UPDATED]}
    ended = collection.run(machine, "fs_rollback", check=True, **arguments)
    assert ended.changes == [f"rollback {UPDATED} --dry-run --json"]
    told = ended.result
    assert (told["changed"], told["reboot_required"], told["target"]) == (True, False, UPDATED)
    assert told["diff"]["before"] == (
        "package app.noarch 2-1\n/etc/app.conf, changed by hand\n"
    )  # fmt: skip
    assert told["diff"]["after"] == "package app.noarch 1-1\n"
    assert "steps" not in told["rollback"]
    assert "files" not in told["rollback"]["reverts"]
    ended = collection.run(machine, "fs_rollback", check=True, state="rolled_back")
    assert ended.changes == ["rollback --dry-run --json"]
    machine.go_to("healthy")
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert ended.changes == [f"rollback {UPDATED} --yes --json"]
    assert (ended.result["changed"], ended.result["reboot_required"]) == (True, True)
    assert machine.state == "asked"
    for _ in range(2):
        ended = collection.run(machine, "fs_rollback", **arguments)
        assert (ended.result["changed"], ended.changes) == (False, [])
        assert (ended.result["reboot_required"], ended.result["target"]) == (True, UPDATED)
    for state in ("returned", "back"):
        machine.go_to(state)
        ended = collection.run(machine, "fs_rollback", **arguments)
        assert (ended.result["changed"], ended.changes) == (False, []), "it runs a copy of it"
        assert ended.result["reboot_required"] is False
    machine.go_to("undone")
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert ended.changes == [f"rollback {UPDATED} --yes --json"], "what it runs is another root"


def test_undone(collection: Collection) -> None:
    machine = collection.machine("updated")
    for to_replaced in (False, True):
        ended = collection.run(machine, "fs_rollback", state="undone")
        assert (ended.result["changed"], ended.changes) == (False, []), to_replaced
    machine.go_to("waiting")
    ended = collection.run(machine, "fs_rollback", check=True, state="undone")
    assert (ended.result["changed"], ended.changes) == (True, ["undo --dry-run --json"])
    ended = collection.run(machine, "fs_rollback", state="undone")
    assert (ended.result["changed"], ended.changes) == (True, ["undo --yes --json"])
    assert ended.result["reboot_required"] is False
    machine.go_to("back")
    ended = collection.run(machine, "fs_rollback", state="undone")
    assert (ended.result["changed"], ended.changes) == (False, []), "none waits"
    arguments: dict[str, Any] = {"state": "undone", "to_replaced": True}
    ended = collection.run(machine, "fs_rollback", check=True, **arguments)
    assert ended.changes == ["undo --to-replaced --dry-run --json"]
    assert "package app.noarch 2-1" in ended.result["diff"]["after"]
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert (ended.result["changed"], ended.result["reboot_required"]) == (True, True)
    machine.go_to("undone")
    ended = collection.run(machine, "fs_rollback", **arguments)
    assert (ended.result["changed"], ended.changes) == (False, []), "a second one would go there"


def test_the_guard(collection: Collection) -> None:
    machine = collection.machine("updated")
    ended = collection.run(machine, "fs_rollback", check=True, guard="on")
    assert (ended.result["changed"], ended.changes) == (True, [])
    ended = collection.run(machine, "fs_rollback", guard="off")
    assert (ended.result["changed"], ended.changes) == (False, [])
    ended = collection.run(machine, "fs_rollback", guard=True)
    assert (ended.result["changed"], ended.changes) == (True, ["guard on --json"]), "YAML's on"
    assert ended.result["guard"]["way_back"] == UPDATED
    ended = collection.run(machine, "fs_rollback", guard="on")
    assert (ended.result["changed"], ended.changes) == (False, [])
    machine.go_to("judged")
    ended = collection.run(machine, "fs_rollback", guard=False)
    assert ended.changes == ["guard off --json"]
    machine.go_to("back")
    ended = collection.run(machine, "fs_rollback", guard="acknowledged")
    assert (ended.result["changed"], ended.changes) == (True, ["guard acknowledge --json"])
    machine.go_to("healthy")
    ended = collection.run(machine, "fs_rollback", guard="acknowledged")
    assert (ended.result["changed"], ended.changes) == (False, [])
    machine.go_to("empty")
    told = collection.run(machine, "fs_rollback", guard="on").result
    assert (told["outcome"], told["exit_code"]) == ("usage", 2)
    answer = {**collection.machines.words("empty", "guard", "status"), "possible": False}
    answer["reason"] = "grubenv is on btrfs. It takes systemd-boot"
    collection.machines.answer("empty", ["guard", "status", "--json"], 0, answer)
    told = collection.run(machine, "fs_rollback", guard="on").result
    assert (told["outcome"], "grubenv is on btrfs" in told["msg"]) == ("refused", True)


@pytest.mark.parametrize(
    ("code", "outcome"),
    [(1, "failed"), (2, "usage"), (3, "refused"), (4, "needs_hands"), (130, "interrupted")],
)
def test_each_exit_code(collection: Collection, code: int, outcome: str) -> None:
    machine = collection.machine("healthy")
    words = ["rollback", UPDATED, "--yes", "--json"]
    old = collection.machines.words("healthy", *words[:-1])
    said = "fs-rollback: waiting for process 7\nfs-rollback: it is so\n  Do this,\n  and that.\n"
    collection.machines.answer("healthy", words, code, None, said)
    ended = collection.run(machine, "fs_rollback", state="rolled_back", snapshots=[UPDATED])
    collection.machines.answer("healthy", words, 0, old)
    told = ended.result
    assert (told["failed"], told["exit_code"], told["outcome"]) == (True, code, outcome)
    assert (told["msg"], told["hint"]) == ("it is so. Do this, and that", "Do this, and that.")
    assert told["changed"] is (code == 4), "only then nobody knows"


@pytest.mark.parametrize(
    ("state", "boot"),
    [("judged", "undecided"), ("guarded", "healthy"), ("healthy", "healthy"),
     ("back", "rolled_back"), ("fallen", "in_snapshot"), ("waiting", "undecided"),
     ("asked", "undecided")],
)  # fmt: skip
def test_where_a_boot_has_ended(collection: Collection, state: str, boot: str) -> None:
    machine = collection.machine(state)
    told = collection.run(machine, "fs_rollback_boot").result
    assert told["boot"] == boot
    if boot == "rolled_back":
        assert told["transaction"] == "dnf upgrade"
        known = collection.machines.words(state, "guard", "status")["failure"]["time"]
        again = collection.run(machine, "fs_rollback_boot", known_failure=known).result
        assert (again["boot"], again["reason"]) == ("healthy", None), "that is an old story"


def test_a_machine_that_is_about_to_act(collection: Collection) -> None:
    """In the snapshot it looks whether that is healthy, makes it the root, and reboots."""
    machine = collection.machine("fallen")
    (machine.path / "unit").write_text("activating\n")
    assert collection.run(machine, "fs_rollback_boot").result["boot"] == "undecided"
    (machine.path / "unit").write_text("active\n")
    assert collection.run(machine, "fs_rollback_boot").result["boot"] == "in_snapshot"
