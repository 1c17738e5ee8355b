# SPDX-License-Identifier: GPL-2.0-or-later
"""The journal on disk: its fields, and what older programs wrote is still read."""

from __future__ import annotations

import json

import pytest

from fs_rollback.core.boot.layout import Kind
from fs_rollback.core.rollback.journal import (
    Pending,
    PendingError,
    RootChange,
    State,
    begun,
    dump,
    parse,
)
from fs_rollback.core.rollback.plan import plan_rollback
from fs_rollback.core.rollback.root_steps import Exchange
from fs_rollback.core.rollback.steps import KeepPaths
from tests import written_by
from tests.unit.machines import LAYOUTS, NAME, REPLACED, SPARE, machine


def _journal(layout: str = "fedora") -> Pending:
    situation = machine(layout).situation
    return begun(situation, plan_rollback(situation), "admin", "boot")


def test_the_generation_is_kept() -> None:
    assert parse(dump(_journal()._replace(generation=4711))).generation == 4711


def test_a_journal_from_before_there_was_a_generation() -> None:
    data = json.loads(dump(_journal()._replace(generation=4711)))
    del data["generation"]
    assert parse(json.dumps(data)) == _journal()


@pytest.mark.parametrize("value", [5, True, ["x"], {"a": 1}])
@pytest.mark.parametrize("key", ["user", "target", "old_uuid", "new_uuid", "boot_id"])
def test_a_value_that_is_no_text_is_refused(key: str, value: object) -> None:
    data = json.loads(dump(_journal()))
    with pytest.raises(PendingError, match="expected a text"):
        parse(json.dumps({**data, key: value}))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_roots_are_named(layout: str) -> None:
    data = json.loads(dump(_journal(layout)))
    assert data["roots"] == {
        "target_path": f"fs-snapshots/{NAME}",
        "root": machine(layout).root,
        "layout": "named" if layout in ("fedora", "oracle") else "default subvolume",
        "spare": SPARE,
        "replaced": REPLACED,
        "kept": ["/root", "/var/log"],
        "carried": ["var/lib/machines", "var/lib/machines/inner"],
        "swap": [],
    }


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_steps_say_the_same_as_the_fields(layout: str) -> None:
    """So a program that knows only the steps does the same, and this one knows what that wrote."""
    data = json.loads(dump(_journal(layout)))
    del data["roots"]
    assert parse(json.dumps(data)) == _journal(layout)


@pytest.mark.parametrize(("version", "name"), written_by.names("pending"))
def test_a_journal_of_version_0_1_0(version: str, name: str) -> None:
    text = written_by.text(version, name)
    data, journal = json.loads(text), parse(text)
    named = "-named-" in name
    root = "root" if named else "sys" if "-default-" in name else ""
    assert journal.roots == RootChange(
        target_path=f"fs-snapshots/{data['target']}",
        root=root,
        layout=Kind.NAMED if named else Kind.DEFAULT,
        spare=data["plan"]["steps"][0]["spare"],
        replaced=data["plan"]["steps"][-2]["name"],
        kept=("/root", "/var/log") if root else ("/home", "/root", "/var/log"),
        carried=("var/lib/machines", "var/lib/machines/inner"),
        swap=(),
    )
    assert [s.frozen for s in journal.plan.steps if isinstance(s, KeepPaths)] == [
        journal.roots.frozen
    ]
    exchanged = {s.root for s in journal.plan.steps if isinstance(s, Exchange)}
    assert exchanged == ({root} if root else set())
    assert journal.state is State(name.rpartition("-")[2])
    assert journal.new_uuid == data.get("new_uuid", "")
    assert journal.generation == data.get("generation", 0)
    if version == "0.1.0":
        written = json.loads(dump(journal))
        assert {key: written[key] for key in data} == data, "that version reads it"
