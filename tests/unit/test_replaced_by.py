# SPDX-License-Identifier: GPL-2.0-or-later
"""What replaced a root, in the fields of its record, and in the words of version 0.1.0."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import Any, Optional

import pytest

from fs_rollback.core.snapshots.record import Kind, RecordError, dump, parse
from fs_rollback.core.snapshots.replaced_by import ReplacedBy, from_sentence
from tests import written_by

NAME = "yum_20261129054216"
MOMENT = datetime(2026, 11, 29, 5, 42, tzinfo=timezone.utc)
FIELDS = {"name": NAME, "id": 260, "confirmed": "2026-11-29T05:42:59Z", "given_up": False}
CAME_UP = "came up in the new root 2026-11-29 05:42 UTC"
# A program that knows these fields wrote this.
STORED: dict[str, Any] = {
    **json.loads(written_by.text("0.1.0", "record-replaced")),
    "description": f"replaced by {NAME}; {CAME_UP}",
    "replaced_by": {
        "name": NAME,
        "id": 260,
        "confirmed": "2026-11-29T05:42:59Z",
        "given_up": False,
    },
}


@pytest.mark.parametrize(("version", "name"), written_by.names("record"))
def test_a_record_of_version_0_1_0(version: str, name: str) -> None:
    data = json.loads(written_by.text(version, name))
    record = parse(written_by.text(version, name))
    understood = {
        "record-replaced": ReplacedBy(NAME),
        "record-confirmed": ReplacedBy(NAME, confirmed=MOMENT),
        "record-given-up": ReplacedBy("yum_20261129054219", given_up=True),
    }
    # The first program of all had other words, and a root that an undo kept was not replaced.
    expected = understood.get(name) if version == "0.1.0" else None
    assert record.replaced_by == expected
    assert record.kind is Kind(data["kind"])
    assert record.trial == (name == "record-trial")
    assert record.full_description == data["description"], "people read what they read"
    written = json.loads(dump(record._replace(pinned=not record.pinned)))
    assert {**written, "pinned": record.pinned} == {
        "boot_files": "",
        **data,
        **({"replaced_by": written["replaced_by"]} if expected else {}),
    }


def test_the_fields_are_stored_and_said() -> None:
    record = parse(json.dumps(STORED))
    confirmed = MOMENT.replace(second=59)
    assert record.replaced_by == ReplacedBy(NAME, 260, confirmed)
    assert (record.description, record.full_description) == ("", STORED["description"])
    assert json.loads(dump(record)) == STORED
    given_up = record._replace(replaced_by=ReplacedBy(NAME, 260, given_up=True))
    assert json.loads(dump(given_up)) == {
        **STORED,
        "description": f"replaced by {NAME}; given up",
        "replaced_by": {"name": NAME, "id": 260, "confirmed": None, "given_up": True},
    }
    assert parse(dump(given_up))._replace(stored="") == given_up._replace(stored="")


def test_version_0_1_0_confirms_what_this_one_has_made() -> None:
    """It is in the snapshot that the rollback leads to: it writes its words, and keeps the keys."""
    waiting = {**FIELDS, "confirmed": None}
    record = parse(json.dumps({**STORED, "replaced_by": waiting}))
    assert record.replaced_by == ReplacedBy(NAME, 260, MOMENT)
    given_up = f"replaced by {NAME}; given up"
    record = parse(json.dumps({**STORED, "replaced_by": waiting, "description": given_up}))
    assert record.replaced_by == ReplacedBy(NAME, 260, given_up=True)


def test_unknown_keys_survive_inside_too() -> None:
    extra = {"future": [1]}
    stored = {**STORED, **extra, "replaced_by": {**FIELDS, **extra}}
    record = parse(json.dumps(stored))
    assert record.replaced_by is not None
    changed = record._replace(replaced_by=record.replaced_by._replace(confirmed=None))
    written = json.loads(dump(changed))
    assert written["future"] == [1]
    assert written["replaced_by"] == {**stored["replaced_by"], "confirmed": None}


def test_a_description_is_nobody_elses_words() -> None:
    said = f"replaced by {NAME}; {CAME_UP}"
    for kind in ("pre", "post", "manual"):
        record = parse(
            json.dumps({**STORED, "kind": kind, "description": said, "replaced_by": None})
        )
        assert (record.replaced_by, record.full_description) == (None, said)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("replaced by a b; given up; given up", ReplacedBy("a b; given up", given_up=True)),
        (f"replaced by x; {CAME_UP}; given up", ReplacedBy(f"x; {CAME_UP}", given_up=True)),
        (f"replaced by x; given up; {CAME_UP}", ReplacedBy("x; given up", None, MOMENT)),
        ("replaced by ", ReplacedBy("")),
        ("", None),
        ("why", None),
        ("replaced", None),
        ("replaced by x; came up in the new root", ReplacedBy("x; came up in the new root")),
        ("replaced by x; came up in the new root ", None),
        ("replaced by x; came up in the new root yesterday", None),
        ("replaced by x; came up in the new root 2026-11-29 05:42 CET", None),
        ("replaced by x; came up in the new root 2026-11-29 05:42:01 UTC", None),
    ],
)
def test_only_its_own_sentences_are_understood(text: str, expected: Optional[ReplacedBy]) -> None:
    assert from_sentence(text) == expected
    if expected is not None:
        assert expected.sentence() == text


@pytest.mark.parametrize(
    ("key", "wrong"),
    [
        ("name", None),
        ("name", 1),
        ("id", "260"),
        ("id", True),
        ("confirmed", 1),
        ("confirmed", "2026-11-29 05:42 UTC"),
        ("confirmed", False),
        ("given_up", None),
        ("given_up", "no"),
    ],
)
def test_a_wrong_type_is_an_error(key: str, wrong: Any) -> None:
    stored = {**STORED, "replaced_by": {**FIELDS, key: wrong}}
    with pytest.raises(RecordError):
        parse(json.dumps(stored))


@pytest.mark.parametrize("wrong", [1, "x", [], {}, [[]], True])
def test_what_is_no_rollback_is_an_error(wrong: Any) -> None:
    with pytest.raises(RecordError):
        parse(json.dumps({**STORED, "replaced_by": wrong}))
