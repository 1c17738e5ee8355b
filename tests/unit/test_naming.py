# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import os
from datetime import datetime, timedelta, timezone

import pytest

from fs_rollback.core.snapshots.names import (
    REPLACED_PREFIX,
    SNAPSHOT_PREFIX,
    beginning,
    free_name,
    grouped,
    label,
    labelled,
    resolve,
)
from fs_rollback.core.snapshots.record import Kind
from fs_rollback.core.snapshots.snapshot import Snapshot
from fs_rollback.errors import UsageError
from tests.unit.samples import gone, incomplete, snapshot

DAY = timedelta(days=1)
OLD = snapshot(300, "yum_20261121080000", age=2 * DAY)
LATER = snapshot(301, "yum_20261121090000", age=2 * DAY)
NEWEST = snapshot(1205, "yum_20261123132957")
REPLACED = snapshot(256, "replaced_20261123140000", kind=Kind.REPLACED)
GONE = gone("yum_20261120070000")
ALL = [GONE, OLD, LATER, NEWEST, REPLACED]


def test_a_name_shows_the_clock_on_the_wall() -> None:
    # The line that the plugin has printed since 2010 has this very name in it.
    tokyo = timezone(timedelta(hours=9))
    moment = datetime(2026, 11, 23, 4, 29, 57, tzinfo=timezone.utc).astimezone(tokyo)
    assert free_name(SNAPSHOT_PREFIX, moment, set()) == "yum_20261123132957"


def test_two_in_one_second_get_two_names() -> None:
    moment = datetime(2026, 11, 23, 13, 29, 57, tzinfo=timezone.utc)
    taken: set[str] = set()
    for _ in range(4):
        taken.add(free_name(SNAPSHOT_PREFIX, moment, taken))
    assert sorted(taken) == [f"yum_202611231329{s}" for s in ("57", "58", "59")] + [
        "yum_20261123133000"
    ]


def test_a_free_name_leaps_over_the_end_of_a_year() -> None:
    moment = datetime(2026, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone.utc)
    name = free_name(REPLACED_PREFIX, moment, {"replaced_20261231235959"})
    assert name == "replaced_20270101000000"


def test_the_other_kind_of_name_takes_nothing_away() -> None:
    moment = datetime(2026, 11, 23, 13, 29, 57, tzinfo=timezone.utc)
    assert free_name(REPLACED_PREFIX, moment, {"yum_20261123132957"}) == "replaced_20261123132957"


def test_messages_give_the_id_and_the_name() -> None:
    assert label(NEWEST) == "1205 (yum_20261123132957)"
    assert label(REPLACED) == "256 (replaced_20261123140000)"
    assert label(GONE) == "yum_20261120070000", "it has no ID any more"
    assert labelled("yum_1", 7) == "7 (yum_1)"
    assert labelled("yum_1", None) == "yum_1", "as in a record of version 0.1.0"


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("300", OLD),
        ("yum_20261121080000", OLD),
        ("yum_202611210", None),
        ("yum_2026112108", OLD),
        ("yum_20261123", NEWEST),
        ("latest", NEWEST),
        ("256", REPLACED),
        ("rep", REPLACED),
        ("yum_20261120070000", GONE),
        # As dnf's line has it, with a slash of the shell, and what messages say.
        ("/fs-snapshots/yum_20261121080000", OLD),
        ("/fs-snapshots/yum_20261121080000/", OLD),
        ("/fs-snapshots/yum_2026112108", OLD),
        ("/fs-snapshots/yum_202611210", None),
        ("/fs-snapshots/replaced_20261123140000", REPLACED),
        ("300 (yum_20261121080000)", OLD),
        ("256 (replaced_20261123140000)", REPLACED),
    ],
)
def test_what_a_user_may_write(reference: str, expected: Snapshot | None) -> None:
    if expected is None:
        with pytest.raises(UsageError, match="matches 2 snapshots"):
            resolve(reference, ALL)
    else:
        assert resolve(reference, ALL) is expected


@pytest.mark.parametrize(
    "reference",
    [
        "", " ", "0", "30", "0300", "-1", "+300", "lates", "LATEST",
        "/", "/fs-snapshots", "/fs-snapshots/", "/fs-snapshots/300", "/fs-snapshots/latest",
        "/fs-snapshots/yum_20261121080000/etc", "/mnt/fs-snapshots/yum_20261121080000",
        "301 (yum_20261121080000)", "300 (yum_2026112108)", "300 ()",
    ],
)  # fmt: skip
def test_what_means_none(reference: str) -> None:
    # "30" begins the ID 300, but an ID is a number: it has no prefixes.
    with pytest.raises(UsageError, match="no snapshot") as caught:
        resolve(reference, ALL)
    assert caught.value.exit_code == 2
    assert "fs-rollback list" in caught.value.hint


def test_ambiguity_names_all_or_says_how_many_more() -> None:
    with pytest.raises(UsageError) as caught:
        resolve("yum_20261121", ALL)
    assert "300 (yum_20261121080000), 301 (yum_20261121090000)" in str(caught.value)
    many = [snapshot(300 + n, f"yum_2026112108{n:04}") for n in range(12)]
    with pytest.raises(UsageError, match=r"matches 12 snapshots.* and 7 more"):
        resolve("yum_", many)


def test_a_whole_name_wins_over_longer_ones_and_over_an_id() -> None:
    short = snapshot(300, "yum_1")
    long = snapshot(301, "yum_12")
    assert resolve("yum_1", [short, long]) is short
    looks_like_an_id = snapshot(302, "300")
    assert resolve("300", [short, looks_like_an_id]) is looks_like_an_id


def test_latest_is_by_the_order_given_and_no_old_root() -> None:
    # IDs order snapshots, times do not: a clock can be wrong.
    ahead = snapshot(300, age=-400 * DAY)
    assert resolve("latest", [ahead, NEWEST, REPLACED]) is NEWEST


def test_latest_passes_over_what_cannot_be_gone_back_to() -> None:
    assert resolve("latest", [OLD, gone("yum_20261124000000")]) is OLD
    nameless_old_root = incomplete(400, "replaced_20261124000000")
    assert resolve("latest", [OLD, nameless_old_root]) is OLD
    assert resolve("latest", [OLD, incomplete(401, "yum_20261124000000")]).id == 401


@pytest.mark.parametrize("present", [[], [REPLACED], [GONE]])
def test_latest_of_nothing_says_how_to_begin(present: list[Snapshot]) -> None:
    with pytest.raises(UsageError, match="no snapshot yet") as caught:
        resolve("latest", present)
    assert "fs-rollback create" in caught.value.hint


def test_few_paths_are_named_and_many_are_counted() -> None:
    few = [f"/srv/{n}" for n in range(12)]
    assert grouped(few) == few
    layers = [f"/var/lib/docker/{n}" for n in range(40)]
    many = [*layers, "/.snapshots", "/.snapshots/1/snapshot", "/.snapshots/2/snapshot", "/srv/a b"]
    assert grouped(many) == [
        "/.snapshots and 2 in it", "/srv/a b", "40 in /var/lib/docker"
    ]  # fmt: skip
    scattered = grouped([f"/home/{n}/vm" for n in range(30)])
    assert (len(scattered), scattered[-1]) == (13, "18 more places")


@pytest.mark.parametrize(
    ("text", "most", "found"),
    [
        ("plain", 9, "plain"),
        ("plain", 5, "plain"),
        ("plain", 4, "plai"),
        ("plain", 0, ""),
        ("nai\u0308ve", 3, "na"),
        ("nai\u0308ve", 4, "nai\u0308"),
        ("a\U0001f44d\U0001f3fdb", 2, "a"),
        ("a\U0001f468\u200d\U0001f469b", 3, "a"),
        ("a\U0001f468\u200d\U0001f469b", 2, "a"),
        ("a" + 9 * "\u0301", 4, "a\u0301\u0301\u0301"),
    ],
)
def test_no_character_is_cut(text: str, most: int, found: str) -> None:
    assert beginning(text, most) == found


def test_no_bytes_of_a_character_are_cut() -> None:
    for text in ("ab\u00e4\u20ac\U0001f600z", "x\udcff\udcfey"):
        for most in range(15):
            cut = beginning(text, most, in_bytes=True)
            size = len(os.fsencode(cut))
            assert text.startswith(cut)
            assert size <= most
            assert cut == text or size + len(os.fsencode(text[len(cut)])) > most


def test_of_a_very_long_path_people_read_both_ends() -> None:
    path = "/home/user/" + "a/" * 5000 + "last"
    for paths in ([path], [f"{path}{number}" for number in range(20)]):
        for row in grouped(paths):
            assert len(row) < 400
            assert "/home/user/a/" in row
    assert grouped([path])[0].endswith(".../last")
