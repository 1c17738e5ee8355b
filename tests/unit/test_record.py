# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import copy
import json
import random
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fs_rollback.core.snapshots.record import (
    Kind,
    Outcome,
    PackageChange,
    Record,
    RecordError,
    Source,
    Transaction,
    dump,
    format_time,
    parse,
    parse_time,
)
from tests.unit.samples import NOW, uuid_of

# As the design document has it: a record that another program of the same version wrote.
STORED: dict[str, Any] = {
    "version": 1,
    "name": "yum_20261123132957",
    "kind": "pre",
    "created": "2026-11-23T13:29:57Z",
    "uuid": "0123456789abcdef0123456789abcdef",
    "source": {"path": "root", "id": 256, "uuid": "fedcba9876543210fedcba9876543210"},
    "description": "",
    "pinned": True,
    "kernels": ["6.11.4-301.fc41.x86_64"],
    "boot_files": "0f2c" * 16,
    "transaction": {
        "tool": "dnf4",
        "command_line": ["dnf", "upgrade", "--enablerepo", "a b"],
        "user": "admin",
        "packages": [
            {"action": "upgrade", "name": "vim", "arch": "x86_64", "from": "1-1", "to": "1-2"},
            {"action": "install", "name": "gdb", "arch": "x86_64", "from": None, "to": "9-1"},
        ],
        "outcome": "done",
        "history_id": 77,
    },
}


def test_a_version_that_is_not_told_is_none() -> None:
    data = copy.deepcopy(STORED)
    change = data["transaction"]["packages"][1]
    del change["from"]
    record = parse(json.dumps(data))
    assert record.transaction is not None
    assert record.transaction.packages[1].old is None
    del change["name"]
    with pytest.raises(RecordError):
        parse(json.dumps(data))


def test_what_is_stored_is_what_is_read() -> None:
    record = parse(json.dumps(STORED))
    assert record.kind is Kind.PRE
    assert record.created == datetime(2026, 11, 23, 13, 29, 57, tzinfo=timezone.utc)
    assert record.source == Source("root", 256, "fedcba9876543210fedcba9876543210")
    assert record.pinned
    assert record.transaction is not None
    assert record.transaction.packages[1] == PackageChange("install", "gdb", "x86_64", None, "9-1")
    assert record.transaction.outcome is Outcome.DONE
    assert json.loads(dump(record)) == STORED


def test_a_round_trip_loses_nothing() -> None:
    changes = (PackageChange("remove", "näme\u202e", "", "1", None),)
    record = Record(
        name="replaced_20261123132957",
        kind=Kind.REPLACED,
        created=NOW,
        uuid=uuid_of(300),
        source=Source("", 5, uuid_of(5)),
        description='quotes ", backslashes \\ and\nlines',
        kernels=("6.1", "6.2"),
        transaction=Transaction("dnf5", ("dnf",), "", changes, Outcome.INTERRUPTED, None),
        nested=("srv/two\nlines \udcff", "var/lib/machines"),
    )
    assert parse(dump(record))._replace(stored="") == record
    assert dump(record).isascii()
    assert dump(record).endswith("}\n")


def test_time_is_utc_with_whole_seconds() -> None:
    berlin = timezone(timedelta(hours=1))
    assert format_time(datetime(2026, 1, 1, 0, 30, 0, 999, tzinfo=berlin)) == "2025-12-31T23:30:00Z"


@pytest.mark.parametrize(
    "text", ["0001-01-01T00:00:00Z", "0999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"]
)
def test_the_first_and_the_last_day_survive(text: str) -> None:
    assert format_time(parse_time(text)) == text


def _with_unknown(data: dict[str, Any]) -> dict[str, Any]:
    data = copy.deepcopy(data)
    extra: Any = {"deep": [1, {"x": None}]}
    data["future"] = extra
    data["source"]["future"] = extra
    data["transaction"]["future"] = extra
    data["transaction"]["packages"][0]["future"] = extra
    data["transaction"]["packages"][1]["repository"] = "updates"
    return data


def test_unknown_keys_survive_a_change_at_every_depth() -> None:
    stored = _with_unknown(STORED)
    record = parse(json.dumps(stored))
    assert record.transaction is not None
    settled = record.transaction._replace(outcome=Outcome.FAILED, history_id=78)
    expected = copy.deepcopy(stored)
    expected["pinned"] = False
    expected["transaction"].update(outcome="failed", history_id=78)
    assert json.loads(dump(record._replace(pinned=False, transaction=settled))) == expected


def test_a_newer_version_is_read_and_not_written() -> None:
    record = parse(json.dumps({**_with_unknown(STORED), "version": 2}))
    assert record.name == "yum_20261123132957"
    assert not record.writable
    assert parse(json.dumps(STORED)).writable


def test_what_may_be_missing() -> None:
    needed = ("version", "name", "kind", "created", "source")
    record = parse(json.dumps({key: STORED[key] for key in needed}))
    assert (record.description, record.pinned, record.kernels) == ("", False, ())
    assert record.boot_files == "", "records have it since there are saved kernels"
    assert record.transaction is None
    assert not record.pending
    for key in needed:
        with pytest.raises(RecordError):
            parse(json.dumps({k: v for k, v in STORED.items() if k != key}))


def test_pending_is_a_transaction_without_an_end() -> None:
    data = copy.deepcopy(STORED)
    data["transaction"]["outcome"] = "pending"
    assert parse(json.dumps(data)).pending


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "\0",
        "{",
        "null",
        "[]",
        "1",
        '"text"',
        "NaN",
        "\ufeff{}",
        "{}",
        json.dumps(STORED)[:-1],
        json.dumps(STORED) + "}",
        "[" * 100_000,
        '{"version":' * 100_000,
        "9" * 10_000,
        json.dumps(STORED).replace("256", "9" * 10_000),
        "\udcff\udc80",
        "\ud800",
    ],
    ids=lambda text: repr(text[:20]),
)
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(RecordError):
        parse(text)


WRONG: list[Any] = [None, True, 1, 1.5, "x", [], {}, [[]], {"a": 1}, float("nan"), float("inf"), -1]
_TEXTS = ("name", "kind", "created", "uuid", "description", "boot_files")
_FITTING: dict[str, tuple[Any, ...]] = {
    "name": ("x",),
    "uuid": ("x",),
    "description": ("x",),
    "boot_files": ("x",),
    "pinned": (True,),
    "kernels": ([],),
    "version": (1, -1),
}


@pytest.mark.parametrize("key", [*_TEXTS, "pinned", "kernels", "source", "version"])
def test_a_wrong_type_is_an_error_and_never_a_guess(key: str) -> None:
    # A text is a sequence too: "kernels": "6.1" must not become the kernels "6", "." and "1"; and
    # "pinned": "yes" must not read as unpinned, for that would let retention delete it.
    for value in WRONG:
        if value in _FITTING.get(key, ()) and type(value) is type(STORED[key]):
            continue
        with pytest.raises(RecordError):
            parse(json.dumps({**STORED, key: value}))


@pytest.mark.parametrize(
    "key", ["tool", "command_line", "user", "packages", "outcome", "history_id"]
)
def test_a_wrong_type_in_a_transaction(key: str) -> None:
    for value in [True, 1.5, "x", {}, [1], [[]], [None]]:
        if isinstance(value, str) and key in ("tool", "user"):
            continue
        broken = {**STORED, "transaction": {**STORED["transaction"], key: value}}
        with pytest.raises(RecordError):
            parse(json.dumps(broken))


@pytest.mark.parametrize("depth", [10, 300, 600, 900, 950, 970, 980, 985, 990, 995, 5000])
def test_deep_nesting_in_a_known_key(depth: int) -> None:
    nest = "[" * depth + "]" * depth
    for key in ("name", "kind", "source"):
        text = json.dumps({**STORED, key: "HERE"}).replace('"HERE"', nest)
        with pytest.raises(RecordError):
            parse(text)


def test_a_lone_surrogate_is_kept_and_can_be_written() -> None:
    text = json.dumps({**STORED, "description": "\ud800"})
    record = parse(text)
    assert parse(dump(record))._replace(stored=text) == record
    dump(record).encode("utf-8")


def _mutations(chance: random.Random) -> str:
    text = json.dumps(_with_unknown(STORED))
    for _ in range(chance.randint(1, 4)):
        place = chance.randrange(len(text))
        length = chance.choice((0, 0, 1, 1, 2, 30))
        bits = ("", '"', "{", "}", "[", "]", ",", ":", "0", "-", "1e999", "NaN", "null", "\0", "é")
        text = (
            text[:place]
            + chance.choice((*bits, "\\ud800", "\udcff", "true", "2"))
            + text[place + length :]
        )
    return text


def test_no_damage_raises_anything_but_a_record_error() -> None:
    chance = random.Random(20101123)
    read = 0
    for _ in range(4000):
        text = _mutations(chance)
        try:
            record = parse(text)
        except RecordError:
            continue
        read += 1
        # NaN is unlike itself, so texts are compared.
        assert dump(parse(dump(record))) == dump(record)
    # Not all damage can be seen (a letter in a name); both outcomes must have been tried.
    assert 100 < read < 3900


def _replaced(data: Any, chance: random.Random) -> Any:
    if chance.random() < 0.06:
        return copy.deepcopy(chance.choice(WRONG))
    if isinstance(data, dict):
        return {key: _replaced(v, chance) for key, v in data.items() if chance.random() > 0.01}
    if isinstance(data, list):
        return [_replaced(value, chance) for value in data]
    return data


def test_no_wrong_value_raises_anything_but_a_record_error() -> None:
    chance = random.Random(20261123)
    for _ in range(4000):
        try:
            record = parse(json.dumps(_replaced(STORED, chance)))
        except RecordError:
            continue
        assert dump(parse(dump(record))) == dump(record)
