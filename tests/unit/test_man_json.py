# SPDX-License-Identifier: GPL-2.0-or-later
"""The JSON Schemas, from which fs-rollback-json(7) is made, against the code.

Tests that run the command hold it against real answers: `differences` in manual.py.
"""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

import pytest
from jsonschema.validators import validator_for

from fs_rollback.cli import session
from fs_rollback.cli.screen.findings import boot_wording
from fs_rollback.core.boot import findings, judge
from fs_rollback.core.rollback.plan import _STEPS
from fs_rollback.core.snapshots.events import NAMES, PREFIX, Event
from fs_rollback.core.snapshots.record import Kind, Outcome, PackageChange, Transaction
from fs_rollback.core.snapshots.replaced_by import ReplacedBy
from fs_rollback.core.snapshots.retention import Policy, retention
from fs_rollback.core.snapshots.snapshot import Roots
from fs_rollback.report import event_json, snapshot_json, verdict_json
from tests.unit.finding_codes import made_codes
from tests.unit.manual import (
    DIALECT,
    chapter,
    commands,
    differences,
    documented_keys,
    expect_whole,
    options,
    schema,
    subparsers,
    values,
    wrongly_worded,
)
from tests.unit.samples import NOW, gone, incomplete, snapshot


def test_the_answers_are_documented_for_the_commands_that_have_them() -> None:
    having = {name for name, found in subparsers().items() if "--json" in options(found)}
    documented = [command for command in commands() if not command.startswith("convert ")]
    assert documented == sorted(having)
    for command in documented:
        expect_whole(command)


@pytest.mark.parametrize("command", commands())
def test_each_schema_is_one(command: str) -> None:
    for strict in (False, True):
        found = schema(command, strict=strict)
        validator_for(found).check_schema(found)
        assert "additionalProperties" in json.dumps(found) or not strict


def test_keys_may_be_added() -> None:
    assert schema("list")["properties"]["version"]["const"] == session.JSON_VERSION
    found = schema("show")
    assert validator_for(found) is validator_for({"$schema": DIALECT}) is not validator_for({})
    errors = validator_for(found)(found).iter_errors({"version": 1, "more": 1})
    assert [error.message for error in errors] == ["'snapshot' is a required property"]


def test_a_difference_is_found_whatever_it_is() -> None:
    good = {"version": 1, "verdict": "ok", "links": [
        {"name": "a", "grade": "ok", "text": "b", "advice": None,
         "code": "kernel.ok", "subject": None}]}  # fmt: skip
    assert differences("check", good) == []
    row = good["links"][0]  # type: ignore[index]
    for answer, path in (
        ({**good, "more": 1}, "more"),
        ({"version": 1, "links": []}, "verdict"),
        ({**good, "verdict": None}, "verdict"),
        ({**good, "verdict": 1}, "verdict"),
        ({**good, "version": True}, "version"),
        ({**good, "links": {}}, "links"),
        ({**good, "links": [{**row, "more": 1}]}, "links[].more"),
        ({**good, "links": [{"name": "a"}]}, "links[].grade"),
        ({**good, "links": [{**row, "code": "kernel.new"}]}, "links[].code"),
    ):
        assert path.rpartition(".")[2] in differences("check", answer)[0], path


def test_snapshots() -> None:
    changes = (
        PackageChange("install", "app", "noarch", None, "1-1"),
        PackageChange("remove", "old", "x86_64", "2:1-1", None),
    )
    transaction = Transaction("dnf4", ("dnf", "upgrade"), "admin", changes, Outcome.DONE, 7)
    taken = snapshot(258)
    assert taken.record is not None
    taken = taken._replace(record=taken.record._replace(transaction=transaction, kernels=("6.1",)))
    replaced = snapshot(257, "replaced_20261123140212", kind=Kind.REPLACED, outcome=None)
    assert replaced.record is not None
    replaced = replaced._replace(
        record=replaced.record._replace(replaced_by=ReplacedBy(taken.name, 258, NOW))
    )
    roots = Roots(running=259, next=260, default=5)
    every = (
        taken,
        snapshot(259, "replaced_20261123140211", kind=Kind.REPLACED, outcome=None),
        replaced,
        snapshot(260, kind=Kind.MANUAL, outcome=None, pinned=True, description="why"),
        incomplete(261, "yum_20261124080000"),
        gone("yum_20261125080000"),
    )
    rows = [snapshot_json(one, roots) for one in every]
    assert differences("list", {"version": 1, "snapshots": rows}) == []
    for row in rows:
        assert differences("show", {"version": 1, "snapshot": row}) == []
    keys = documented_keys("list")
    assert values(keys["snapshots[].kind"]) == {kind.value for kind in Kind}
    assert values(keys["snapshots[].transaction.outcome"]) == {end.value for end in Outcome}
    marks = {mark for row in rows for mark in row["marks"]}
    assert marks <= values(keys["snapshots[].marks"])
    verdicts = [verdict_json(v) for v in retention(every, Policy(1, 1, 1), roots, NOW)]
    failures = [{"id": 258, "name": "a", "error": "b"}]
    totals = {"keep": 1, "delete": 2}
    answer = {"version": 1, "verdicts": verdicts, "totals": totals, "shortage": "c"}
    answer["failures"] = failures
    assert differences("prune", answer) == []


def test_events() -> None:
    every = Event("deleted", "yum_1", 258, "ab", "replaced_1", "why", 3, "me", "dnf x", "/mnt", NOW)
    rows = [event_json(event) for event in (every, Event("taken", time=NOW))]
    assert all(every._asdict().values())
    assert differences("log", {"version": 1, "events": rows, "problems": ["x"]}) == []
    assert values(documented_keys("log")["events[].event"]) == set(NAMES)
    fields = re.findall(rf"\*{PREFIX}(\w+)\*", chapter("fs-rollback.8", "THE SYSTEM'S JOURNAL"))
    assert {field.lower() for field in fields} == {*Event._fields} - {"time"}


def test_findings() -> None:
    found = (
        findings.ok("root.ok", "", "/"),
        findings.warning("modules.no-index", "6.1", "b", "c"),
        findings.fatal("fstab.device", "/data", "b", "c"),
    )
    assert wrongly_worded("check", boot_wording(), found) == []
    names = documented_keys("check")["links[].name"].text
    deciding = [findings.ok(f"{area}.ok", "", "").name for area in judge.DECIDING]
    assert all(f"`{name}`" in names for name in deciding)


def test_every_code_is_documented_and_no_other() -> None:
    assert made_codes(of_wing=False) == values(documented_keys("check")["links[].code"])


_SAMPLES: dict[str, Any] = {"str": "x", "int": 1, "tuple[str, ...]": ["x"], "Optional[str]": None}


@pytest.mark.parametrize("name", _STEPS)
def test_a_step_of_a_plan(name: str) -> None:
    """As `rollback --json` has one: its kind, its sentence and all its fields."""
    fields = {field.name: _SAMPLES[str(field.type)] for field in dataclasses.fields(_STEPS[name])}
    row = {"step": name, "sentence": "x", **fields}
    keys = documented_keys("rollback")
    assert differences("rollback", row, "steps") == []
    for path, key in keys.items():
        field = path.partition("steps[].")[2]
        if field and not key.always:
            assert (f"*{name}*" in key.text) == (field in fields), path


def test_no_step_is_documented_that_does_not_exist() -> None:
    named = {
        name
        for path, key in documented_keys("rollback").items()
        if path.startswith("steps[].")
        for name in re.findall(r"(?<!\*)\*(\w+)\*", key.text)
    }
    assert named <= set(_STEPS)


def test_undo_has_both_answers() -> None:
    answer = {"version": 1, "target": "yum_1", "taken_back": True, "done": False}
    assert differences("undo", answer) == []
    assert {**documented_keys("rollback"), **documented_keys("undo")} == documented_keys("undo")
