# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
from datetime import timedelta, timezone

from fs_rollback.core.snapshots.events import NAMES, Event, dump, merged, of_journal, parse, values
from tests.unit.samples import NOW

DELETED = Event(
    "deleted", "yum_20261123132957", 258, "ab", reason="22nd newest (keep_last = 20), 90 days old",
    user="admin", command="dnf upgrade", time=NOW,
)  # fmt: skip
# What journalctl(1) of systemd 252 and 257 prints, less the fields that are not read.
_JOURNAL = {
    "MESSAGE": "deleted ...", "_UID": "0", "PRIORITY": "6", "SYSLOG_IDENTIFIER": "fs-rollback",
    "__REALTIME_TIMESTAMP": "1795440597000000", "FS_ROLLBACK_EVENT": "deleted",
    "FS_ROLLBACK_SNAPSHOT": "yum_20261123132957", "FS_ROLLBACK_SNAPSHOT_ID": "258",
    "FS_ROLLBACK_REASON": list(b"two\nlines"), "FS_ROLLBACK_NEWER": "x",
}  # fmt: skip


def test_a_line_of_the_store_is_read_as_it_was_written() -> None:
    assert parse(dump(DELETED)) == [DELETED]
    assert "\n" not in dump(DELETED._replace(reason="two\nlines"))
    assert json.loads(dump(DELETED))["time"] == "2026-11-23T13:29:57Z"
    assert parse(dump(DELETED._replace(reason="\udcff"))) == [DELETED._replace(reason="\udcff")]


def test_what_was_cut_off_or_is_strange_is_passed_over() -> None:
    line = dump(DELETED)
    strange = (
        *("{", "[]", "7", "null", "[" * 100_000, line[:-9], ""),
        *('{"event": "deleted"}', '{"time": "x", "event": "taken"}'),
        line.replace('"deleted"', '"of tomorrow"'),
        line.replace('"258"', '"x"'),
    )
    text = "\n".join([line, *strange, line])
    assert parse(text) == [DELETED, DELETED]
    assert parse(line.replace("{", '{"newer": [1], ', 1)) == [DELETED]


def test_a_line_of_the_journal() -> None:
    others: tuple[object, ...] = (
        {**_JOURNAL, "FS_ROLLBACK_EVENT": "x"},
        {"MESSAGE": "settled"},
        [],
        {"a": None},
    )
    lines = [json.dumps(line) for line in (*others, _JOURNAL)]
    (found,) = of_journal("\n".join(["no JSON", *lines, ""]))
    assert found == Event(
        "deleted", "yum_20261123132957", 258, reason="two\nlines", time=found.time
    )
    assert found.time is not None
    assert found.time.tzinfo is timezone.utc
    assert found.time.timestamp() == 1795440597


def test_a_sentence_for_people() -> None:
    assert DELETED.message == (
        "deleted 258 (yum_20261123132957): 22nd newest (keep_last = 20), 90 days old"
        " [admin: dnf upgrade]"
    )
    rolled_back = Event("rolled-back", "yum_1", replaced="replaced_1", system="/mnt")
    assert rolled_back.message == "rolled back to yum_1, the old root is replaced_1 on /mnt"
    assert "\n" not in DELETED._replace(reason="two\nlines").message
    assert {name: Event(name).priority for name in NAMES} == {  # type: ignore[arg-type]
        **dict.fromkeys(NAMES, 6), "refused": 4, "failed": 3, "unhealthy": 3, "fell-back": 3,
    }  # fmt: skip


def test_no_value_is_too_long_for_a_datagram() -> None:
    found = values(DELETED._replace(command="x" * 100_000))
    assert max(map(len, found.values())) == 500


def test_the_journal_and_the_store_tell_of_each_deletion_once() -> None:
    second = timedelta(seconds=1)
    told = [DELETED._replace(time=NOW + second), Event("taken", "yum_2", time=NOW + 2 * second)]
    older = DELETED._replace(snapshot="yum_0", snapshot_uuid="cd", time=NOW - second)
    assert merged(told, [older, DELETED]) == [older, *told]
    assert merged([], [DELETED, older]) == [older, DELETED]
    # The store says why, even where the journal has one of the same name on another filesystem.
    other = DELETED._replace(snapshot_uuid="ef", time=NOW + 3 * second)
    assert merged(told, [other]) == [*told, other]
