# SPDX-License-Identifier: GPL-2.0-or-later
"""The role and the playbooks of the Ansible collection, and what Ansible's own tools say of it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

from tests.packaging.collection import NOT_BTRFS, Collection
from tests.packaging.stand_in import COLLECTION, UPDATED

MODULES = ("fs_rollback", "fs_rollback_boot", "fs_rollback_info")
GOOD = ("armed guarded", "guarded judged healthy", "asked returned")
BAD = ("armed guarded", "guarded judged fallen waiting back")
# Those of `ansible-test sanity` that need no environment of their own, which takes the network.
_SANITY = (
    "action-plugin-docs", "empty-init", "ignores", "line-endings", "no-assert", "no-get-exception",
    "no-illegal-filenames", "no-smart-quotes", "replace-urlopen", "shebang", "symlinks",
    "use-argspec-type-path", "use-compat-six",
)  # fmt: skip


def test_a_fleet_of_which_one_fails(collection: Collection) -> None:
    """A canary, one that is up to date, one that is updated, and one that falls back."""
    canary, other = collection.machine("before", *GOOD), collection.machine("before")
    good, bad = collection.machine("before", *GOOD), collection.machine("before", *BAD)
    machines = [canary, other, good, bad]
    more = ("-e", "fleet_run=test", "-e", "fleet_max_fail_percentage=40")
    told = collection.play("update_fleet", machines, *more, "-e", "fleet_serial=3", code=2)
    assert [machine.state for machine in machines] == ["healthy", "before", "healthy", "back"]
    assert "failed=1" in next(line for line in told.splitlines() if line.startswith(bad.name))
    assert sum("failed=1" in line for line in told.splitlines()) == 1, told
    for text in ("httpd.service is failed", "Reverted: app 2-1 to 1-1", "dnf upgrade",
                 "Failed to start httpd.service", "Check: no problems found."):  # fmt: skip
        assert text in told, told
    changes = [line for line in other.log() if not line.endswith(("status --json", "list --json"))]
    assert changes == ["check --json", "guard on --json", "move", "guard off --json"]
    asked = bad.log()
    assert asked.count("guard on --json") == 1
    assert not any(line.startswith("rollback") for line in asked), "it went back by itself"
    collection.play("update_fleet", machines, *more, "--tags", "undo")
    assert [machine.state for machine in machines] == ["returned", "before", "returned", "back"]
    assert f"rollback {UPDATED} --yes --json" in good.log()
    path = collection.directory / "table"
    collection.play("fleet_table", machines, "-e", f"fleet_table={path}")
    lines = path.read_text().splitlines()
    assert lines[0].split() == [
        "HOST",
        "RUNNING",
        "ROOT",
        "NEWEST",
        "SNAPSHOT",
        "HEALTH",
        "DAYS",
        "WHY",
    ]
    row = lines[machines.index(bad) + 1]
    assert row.split()[:5] == [bad.name, "/root", f"({UPDATED})", UPDATED, "fell_back"]
    assert len(lines) == 5


def test_a_run_stops_at_a_canary_whose_health_tasks_fail(collection: Collection) -> None:
    """The canary is well, and does not do what it is for: it goes back, and the others stay."""
    canary, other = collection.machine("before", *GOOD), collection.machine("before", *GOOD)
    health = collection.directory / "health.yml"
    health.write_text("- name: Ask the site\n  ansible.builtin.fail:\n    msg: no answer\n")
    path = os.path.relpath(health, collection.place)  # where it is run
    told = collection.play("update_fleet", [canary, other], "-e", f"fleet_health={path}", code=2)
    assert (canary.state, other.state, other.log()) == ("returned", "before", [])
    assert "task 'Ask the site' failed: no answer" in told.replace("\\n", " ")
    assert f"rollback {UPDATED} --yes --json" in canary.log()


def test_check_mode_and_a_guard_that_is_required(collection: Collection) -> None:
    machine = collection.machine("before", *GOOD)
    collection.play("update_fleet", [machine], "--check")
    looks = ("status --json", "list --json", "check --json")
    assert [line for line in machine.log() if not line.endswith(looks)] == []
    told = collection.machines.words("before", "guard", "status")
    cannot = {**told, "possible": False, "reason": "grubenv is on btrfs"}
    collection.machines.answer("before", ["guard", "status", "--json"], 0, cannot)
    required = ("-e", "guarded_update_guard=required")
    said = collection.play("update_fleet", [machine], *required, code=2)
    collection.machines.answer("before", ["guard", "status", "--json"], 0, told)
    assert "its boot cannot be guarded: grubenv is on btrfs" in said
    assert "move" not in machine.log()


def test_a_machine_that_cannot_go_back_is_not_touched(collection: Collection) -> None:
    machine = collection.machine("back", *GOOD)
    told = collection.play("update_fleet", [machine], code=2)
    assert "httpd.service is failed" in told
    assert "move" not in machine.log()
    ext4 = collection.machine("ext4")
    collection.machines.answer("ext4", ["status", "--json"], 3, None, NOT_BTRFS)
    told = collection.play("update_fleet", [ext4], code=2)
    assert "/ is ext4, not btrfs" in told


def test_what_a_machine_says_is_no_template(collection: Collection) -> None:
    """Whoever has one machine gets nothing of the others, nor of the one that Ansible runs on."""
    proof = collection.directory / "proof"
    lookup = f"lookup('ansible.builtin.pipe', 'touch {proof}')"
    evil = f"{{{{ {lookup} }}}} {{% set x = {lookup} %}} \x1b]0;mine\x07"
    for state in ("fallen", "back"):
        answer = collection.machines.words(state, "guard", "status")
        failure = {**answer["failure"], "reason": evil, "log": [evil], "since": evil}
        changed = {**answer, "failure": failure, "attention": [evil]}
        collection.machines.answer(state, ["guard", "status", "--json"], 1, changed)
    machine = collection.machine("before", *BAD)
    told = collection.play("update_fleet", [machine], code=2)
    assert "ansible.builtin.pipe" in told, "it is shown as it is"
    table = collection.directory / "table"
    collection.play("fleet_table", [machine], "-e", f"fleet_table={table}")
    assert "ansible.builtin.pipe" in table.read_text()
    assert not proof.exists()
    assert "\x1b" not in table.read_text()


# What Ansible says of it.


def test_the_documentation_of_each_module(collection: Collection) -> None:
    names = [f"fs_rollback.snapshots.{name}" for name in MODULES]
    told = json.loads(collection.tool("ansible-doc", "--json", *names))
    for name in names:
        assert told[name]["doc"]["options"], name
        assert told[name]["return"], name
    role = collection.tool("ansible-doc", "--type=role", "fs_rollback.snapshots.guarded_update")
    defaults = (COLLECTION / "roles/guarded_update/defaults/main.yml").read_text()
    for name in re.findall(r"^(\w+):", defaults, re.MULTILINE):
        assert name in role, name


def test_syntax_of_the_playbooks(collection: Collection) -> None:
    paths = sorted(map(str, (collection.place / "playbooks").glob("*.yml")))
    assert len(paths) == 2
    collection.tool("ansible-playbook", "--syntax-check", "-i", "localhost,", *paths)


def test_what_ansible_test_says(collection: Collection) -> None:
    tests = [word for name in _SANITY for word in ("--test", name)]
    version = ".".join(map(str, sys.version_info[:2]))
    collection.tool("ansible-test", "sanity", *tests, "--python", version)
    collection.tool("ansible-test", "sanity", "--test", "compile", "--python", version)


def test_what_it_checks_in_environments_of_their_own(collection: Collection) -> None:
    """It would fetch what they need from the network; that is in tests/requirements.txt."""
    spec = importlib.util.find_spec("ansible_test")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    checks = Path(spec.submodule_search_locations[0]) / "_util/controller/sanity"
    modules = [f"plugins/modules/{name}.py" for name in MODULES]
    wrong = collection.tool(
        sys.executable, str(checks / "validate-modules/validate.py"), "--format=json", "--arg-spec",
        "--collection=ansible_collections/fs_rollback/snapshots", *modules,
    )  # fmt: skip
    assert json.loads(wrong) == {}
    configuration = checks / "yamllint/config/default.yml"
    collection.tool("yamllint", "--strict", f"--config-file={configuration}", ".")


def test_the_table_has_a_line_for_each_host(collection: Collection) -> None:
    path = collection.place / "plugins/filter/fleet_table.py"
    spec = importlib.util.spec_from_file_location("fleet_table", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    forged = "a\n\rweb5  ok\x1b[2J"  # a host makes no line of another's
    link = {"name": "kernel", "grade": "broken", "text": "no such file"}
    usual = {"running": "/root", "copy_of": None, "newest": None, "days_since_update": 31,
             "reason": None, "transaction": None}  # fmt: skip
    broken = {**usual, "health": "broken", "attention": ["a disk"], "links": [link]}
    told = {
        "web2": {"summary": broken},
        "web1": {"unreachable": True, "msg": "no route\nto it"},
        "web3": {"failed": True, "msg": "it is not installed"},
        "web4": {"summary": {**broken, "attention": [], "links": [{**link, "text": forged}]}},
        "a-long-name": {"summary": {**broken, "health": "ok", "attention": [], "links": []}},
    }
    assert module.fleet_table(told) == [
        "HOST         RUNNING ROOT  NEWEST SNAPSHOT  HEALTH       DAYS  WHY",
        "a-long-name  /root         -                ok             31",
        "web1         -             -                unreachable     -  no route to it",
        "web2         /root         -                broken         31  kernel: no such file",
        "web3         -             -                unknown         -  it is not installed",
        "web4         /root         -                broken         31  kernel: a  web5  ok [2J",
    ]
