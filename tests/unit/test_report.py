# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import json
import os
import time
import unicodedata
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from fs_rollback.core.snapshots.events import Event
from fs_rollback.core.snapshots.record import Kind, Outcome, PackageChange, Transaction, parse_time
from fs_rollback.core.snapshots.retention import Policy, retention
from fs_rollback.core.snapshots.snapshot import Roots, Snapshot
from fs_rollback.report import (
    clean,
    command_line,
    event_table,
    local_time,
    marks,
    package_table,
    size,
    snapshot_details,
    snapshot_json,
    snapshot_table,
    verdict_json,
    verdict_table,
    view,
    what,
)
from tests.unit.samples import NOW, gone, incomplete, snapshot

DAY = timedelta(days=1)
ROOTS = Roots(running=1261, next=1262, default=5, origin=1260)


def _upgrade(number: int, count: int, line: str, *, age: int) -> Snapshot:
    changes = [PackageChange("upgrade", f"p{n}", "x86_64", "1", "2") for n in range(count)]
    changes.append(PackageChange("install", "kernel-core", "x86_64", None, "6.11.4-301"))
    changes.append(PackageChange("remove", "kernel-core", "x86_64", "6.10.1-200", None))
    taken = snapshot(number, age=age * DAY)
    transaction = Transaction("dnf4", tuple(line.split()), "admin", tuple(changes), Outcome.DONE, 7)
    assert taken.record is not None
    return taken._replace(record=taken.record._replace(transaction=transaction))


# What a machine has after some months; the IDs are those of a filesystem in use for years.
SNAPSHOTS = [
    gone("yum_20260101000000", age=300 * DAY),
    incomplete(1258, "yum_20260901080000", age=80 * DAY),
    _upgrade(1259, 1203, "dnf system-upgrade download --releasever 42 --allowerasing", age=40),
    snapshot(1260, age=30 * DAY, kind=Kind.MANUAL, description="before I touch the mail server"),
    snapshot(1261, "replaced_20261101120000", age=22 * DAY, kind=Kind.REPLACED, pinned=True),
    _upgrade(1262, 12, "dnf upgrade", age=2),
    snapshot(104857, kind=Kind.POST, outcome=Outcome.PENDING),
]
SEEN = view(SNAPSHOTS, NOW, ROOTS.running)
IDS = [str(s.id) for s in SNAPSHOTS[1:]]


@pytest.fixture(params=["UTC0", "Asia-14", "America+12"])
def _time_zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain text", "plain text"),
        ("näme 日本 🙂", "näme 日本 🙂"),
        ("", ""),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("\x85\x90", r"\x85\x90"),
        ("a\nb\rc\td", r"a\nb\rc\td"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\u2066\u2069\u200f\u061c", r"\u2066\u2069\u200f\u061c"),
        ("\u2028\u2029", r"\u2028\u2029"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("\x00\x7f", r"\x00\x7f"),
        ("\udcff\ud800", r"\udcff\ud800"),
        ("\U000e0041", r"\U000e0041"),
        ("no\xa0break", r"no\xa0break"),
    ],
)
def test_clean_writes_out_what_a_terminal_would_obey(text: str, expected: str) -> None:
    assert clean(text) == expected
    assert clean(clean(text)) == clean(text)


def test_no_character_at_all_gets_through_as_a_control() -> None:
    passed = set(clean("".join(map(chr, range(0x110000)))))
    assert len(passed) > 100_000
    assert not {unicodedata.category(c) for c in passed} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_what_was_typed_can_be_typed_again() -> None:
    assert command_line(["dnf", "install", "a b", "c"]) == "dnf install 'a b' c"
    assert command_line([]) == ""


@pytest.mark.parametrize("width", [80, 100, 132, 250])
def test_the_table_fits(width: int) -> None:
    lines = snapshot_table(SNAPSHOTS, ROOTS, width, NOW).splitlines()
    assert len(lines) == len(SNAPSHOTS) + 2
    assert max(len(line) for line in lines) <= width


def test_a_wider_terminal_shows_more_and_a_wide_one_everything() -> None:
    narrow, wide = (snapshot_table(SNAPSHOTS, ROOTS, width, NOW) for width in (80, 200))
    assert "..." in narrow
    assert "..." not in wide
    for part in (
        "--releasever 42 --allowerasing",
        "1203 upgraded, 1 new, 1 removed",
        "mail server",
    ):
        assert part in wide


@pytest.mark.parametrize("width", [0, 1, 20, 40, 60, 80, 120])
def test_ids_dates_and_marks_are_never_cut(width: int) -> None:
    lines = snapshot_table(SNAPSHOTS, ROOTS, width, NOW).splitlines()[2:]
    for line, taken in zip(lines, SNAPSHOTS):
        assert line.split()[0] == str(taken.id or "-")
        assert local_time(taken.created) in line
        assert " ".join(marks(taken, ROOTS)) in line


def test_the_newest_is_last() -> None:
    lines = snapshot_table(SNAPSHOTS, ROOTS, 132, NOW).splitlines()
    assert lines[0].split() == ["ID", "Date", "Kind", "Packages", "Marks", "For"]
    assert [line.split()[0] for line in lines[2:]] == ["-", *IDS]


def test_tables_without_rows() -> None:
    assert "ID" in snapshot_table([], ROOTS, 80, NOW)
    assert "Verdict" in verdict_table([], 80)
    assert "Package" in package_table([])


def test_a_hostile_description_stays_in_its_cell() -> None:
    taken = snapshot(300, description="\x1b[1;1H 999 \n 998  2026\u202e")
    for text in (snapshot_table([taken], ROOTS, 120, NOW), snapshot_details(taken, ROOTS, SEEN)):
        assert "\x1b" not in text
        assert "\u202e" not in text
    assert len(snapshot_table([taken], ROOTS, 120, NOW).splitlines()) == 3


@pytest.mark.parametrize(
    ("taken", "words"),
    [
        (SNAPSHOTS[0], ["gone"]),
        (SNAPSHOTS[1], ["incomplete"]),
        (SNAPSHOTS[4], ["running", "pinned"]),
        (SNAPSHOTS[3], ["origin"]),
        (SNAPSHOTS[5], ["next"]),
        (SNAPSHOTS[6], ["pending"]),
        (snapshot(300, outcome=Outcome.FAILED), ["failed"]),
        (snapshot(300, outcome=Outcome.INTERRUPTED), ["interrupted"]),
        (snapshot(300), []),
    ],
)
def test_marks(taken: Snapshot, words: list[str]) -> None:
    assert marks(taken, ROOTS) == words


def test_a_snapshot_that_is_gone_is_never_the_unknown_root() -> None:
    # Offline, running and next are 0, and so is the ID of what has no subvolume.
    assert marks(SNAPSHOTS[0], Roots(0, 0, 5)) == ["gone"]


def test_what_a_snapshot_is_for() -> None:
    assert what(SNAPSHOTS[3]) == "before I touch the mail server"
    assert what(SNAPSHOTS[5]) == "dnf upgrade"
    assert what(SNAPSHOTS[1]) == "no record"
    assert what(snapshot(1, kind=Kind.MANUAL, outcome=None)) == ""


def test_details_say_everything() -> None:
    text = snapshot_details(SNAPSHOTS[5], ROOTS, SEEN)
    for part in (
        "1262",
        "/fs-snapshots/yum_",
        "12 upgraded, 1 new",
        "history ID 7",
        "admin",
        "dnf4",
    ):
        assert part in text
    assert "kernel-core.x86_64" in text
    assert "Problem:" in snapshot_details(SNAPSHOTS[1], ROOTS, SEEN)
    for taken in SNAPSHOTS:
        assert "None" not in snapshot_details(taken, ROOTS, SEEN)


def test_a_package_table_cuts_nothing() -> None:
    name = "texlive-collection-fontsextra-" + "x" * 90
    text = package_table([PackageChange("upgrade", name, "noarch", "1:2-3", "1:2-4\x1b[0m")])
    assert f"{name}.noarch" in text
    assert "\x1b" not in text


@pytest.mark.parametrize("taken", SNAPSHOTS, ids=str)
def test_json_is_json(taken: Snapshot) -> None:
    data = snapshot_json(taken, ROOTS)
    read = json.loads(json.dumps(data, allow_nan=False))
    assert read == data
    assert read["name"] == taken.name
    assert parse_time(read["created"]) == taken.created.replace(microsecond=0)
    assert (read["id"] is None) == taken.gone
    assert read["path"].startswith("/fs-snapshots/")


def test_json_keeps_texts_as_they_are() -> None:
    description = "\x1b[2J \ud800 \u202e"
    data = snapshot_json(snapshot(300, description=description), ROOTS)
    assert data["description"] == description
    assert json.dumps(data).isascii()


def test_verdicts() -> None:
    verdicts = retention(SNAPSHOTS, Policy(1, 1, 1), ROOTS, NOW)
    lines = verdict_table(verdicts, 80).splitlines()
    assert all(line.endswith(v.reason) for line, v in zip(lines[2:], verdicts)), "never cut"
    assert [line.split()[3] for line in lines[2:]] == [v.action.value for v in verdicts]
    rows = [verdict_json(verdict) for verdict in verdicts]
    assert json.loads(json.dumps(rows)) == rows
    assert {row["verdict"] for row in rows} == {"keep", "delete"}


@pytest.mark.usefixtures("_time_zone")
@pytest.mark.parametrize("year", [1, 999, 1969, 9999])
def test_any_time_a_record_can_hold_can_be_shown(year: int) -> None:
    first = datetime(year, 1, 1, tzinfo=timezone.utc)
    last = datetime(year, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    for moment in (first, last):
        taken = snapshot(300)
        assert taken.record is not None
        odd = taken._replace(record=taken.record._replace(created=moment))
        assert len(snapshot_table([odd], ROOTS, 80, NOW).splitlines()) == 3
        assert snapshot_details(odd, ROOTS, SEEN)
        assert parse_time(snapshot_json(odd, ROOTS)["created"]) == moment


@pytest.mark.usefixtures("_time_zone")
def test_times_are_those_of_the_wall() -> None:
    noon = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)
    shown = {
        "UTC0": "2026-11-23 12:00",
        "Asia-14": "2026-11-24 02:00",
        "America+12": "2026-11-23 00:00",
    }
    assert local_time(noon) == shown[os.environ["TZ"]]


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (3 << 30, "3.0 GiB"),
        (7 << 40, "7.0 TiB"),
        (9 << 50, "9216.0 TiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert size(count) == text


def test_events_say_why_however_long_that_is() -> None:
    reason = "because " * 30
    every = [
        Event("deleted", "yum_1", 258, reason=reason, user="me", command="dnf x", time=NOW),
        Event("rolled-back", "yum_2", replaced="replaced_1", system="/mnt\n", time=NOW),
    ]
    lines = event_table(every, {"yum_2": 260, "replaced_1": 256}, 80).splitlines()
    assert len(lines) == 4
    assert len(lines[1]) == 80
    assert lines[2].endswith(f" {reason}; dnf x")
    assert "  258 (yum_1)  " in lines[2], "as it was told"
    assert "  260 (yum_2)  " in lines[3], "as others tell"
    assert lines[3].endswith("the old root is 256 (replaced_1); on /mnt\\n")
    assert event_table(every[1:], {}, 200).splitlines()[1].endswith("-")
