# SPDX-License-Identifier: GPL-2.0-or-later
"""What snapshots are for, in words, and how much of them a screen has room for."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone

import pytest

from fs_rollback.core.snapshots.purpose import View
from fs_rollback.core.snapshots.record import Kind, Outcome, PackageChange, Transaction
from fs_rollback.core.snapshots.replaced_by import ReplacedBy
from fs_rollback.core.snapshots.snapshot import Roots, Snapshot, origin
from fs_rollback.report import snapshot_details, snapshot_table, view, what
from tests.unit.samples import TOP, gone, snapshot, subvolume, uuid_of

NOON = datetime(2026, 11, 28, 12, 0, tzinfo=timezone.utc)
ROOTS = Roots(running=310, next=310, default=5, origin=261)
NOISE = ["-y", "--setopt=install_weak_deps=False", "--disableplugin", "foo"]


@pytest.fixture(autouse=True)
def _time_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "UTC0")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def taken(number: int, at: str, words: Sequence[str], upgraded: int) -> Snapshot:
    moment = datetime.fromisoformat(f"2026-11-{at}").replace(tzinfo=timezone.utc)
    made = snapshot(number, f"yum_{moment:%Y%m%d%H%M%S}")
    changes = (PackageChange("upgrade", "app", "noarch", "1-1", "2-1"),) * upgraded
    transaction = Transaction("dnf4", tuple(words), "admin", changes, Outcome.DONE, 7)
    assert made.record is not None
    return made._replace(record=made.record._replace(created=moment, transaction=transaction))


def old_root(number: int, at: str, by: ReplacedBy) -> Snapshot:
    moment = datetime.fromisoformat(f"2026-11-{at}").replace(tzinfo=timezone.utc)
    made = snapshot(number, f"replaced_{moment:%Y%m%d%H%M%S}", kind=Kind.REPLACED, outcome=None)
    assert made.record is not None
    return made._replace(record=made.record._replace(created=moment, replaced_by=by))


def manual(number: int, at: str, description: str) -> Snapshot:
    made = taken(number, at, (), 0)
    assert made.record is not None
    return made._replace(
        record=made.record._replace(kind=Kind.MANUAL, description=description, transaction=None)
    )


UPGRADE = taken(258, "26T16:18:54", ["dnf", "upgrade"], 112)
INSTALL = taken(261, "28T10:23:27", ["dnf", *NOISE, "install", "httpd", "mod_ssl"], 2)
MANUAL = manual(262, "28T10:23:41", "before the new mail server")
OLDER = old_root(256, "27T20:29:31", ReplacedBy(UPGRADE.name, 258, NOON))
NEWER = old_root(300, "28T11:05:02", ReplacedBy(INSTALL.name, 261, NOON))
EVERY = [UPGRADE, OLDER, INSTALL, MANUAL, NEWER]

IN_80_COLUMNS = """\
  ID  Date                 Packages      Marks    For
----  -------------------  ------------  -------  --------------------------
 258  2026-11-26 16:18:54  112 upgraded           dnf upgrade
 256  2026-11-27 20:29:31                         root until rollback to 258
 261  2026-11-28 10:23:27  2 upgraded    origin   dnf install httpd mod_ssl
 262  2026-11-28 10:23:41                         before the new mail server
 300  2026-11-28 11:05:02                         root until rollback to 261"""
IN_60_COLUMNS = """\
  ID  Date              Marks    For
----  ----------------  -------  --------------------------
 258  2026-11-26 16:18           dnf upgrade
 256  2026-11-27 20:29           root until rollback to 258
 261  2026-11-28 10:23  origin   dnf install httpd mod_ssl
 262  2026-11-28 10:23           before the new mail server
 300  2026-11-28 11:05           root until rollback to 261"""
IN_A_PIPE = [
    "  ID  Name                     Date                 Kind      Packages      Marks    For",
    " 258  yum_20261126161854       2026-11-26 16:18:54  pre       112 upgraded           "
    "dnf upgrade",
    " 256  replaced_20261127202931  2026-11-27 20:29:31  replaced                         "
    "the system until 2026-11-27 20:29, set aside by the rollback to 258",
    " 261  yum_20261128102327       2026-11-28 10:23:27  pre       2 upgraded    origin   "
    "dnf -y --setopt=install_weak_deps=False --disableplugin foo install httpd mod_ssl",
    " 262  yum_20261128102341       2026-11-28 10:23:41  manual                           "
    "before the new mail server",
    " 300  replaced_20261128110502  2026-11-28 11:05:02  replaced                         "
    "the system until 11:05, set aside by the rollback to 261",
]


@pytest.mark.parametrize(("width", "screen"), [(80, IN_80_COLUMNS), (60, IN_60_COLUMNS)])
def test_what_a_person_sees(width: int, screen: str) -> None:
    assert snapshot_table(EVERY, ROOTS, width, NOON) == screen


def test_in_a_pipe_there_is_everything() -> None:
    head, _, *rows = snapshot_table(EVERY, ROOTS, None, NOON).splitlines()
    assert [head, *rows] == IN_A_PIPE


def test_seconds_are_there_where_rows_of_one_minute_need_them() -> None:
    assert "10:23:27" in snapshot_table(EVERY, ROOTS, 80, NOON)
    assert "10:23:27" not in snapshot_table(EVERY[:3], ROOTS, 80, NOON)
    assert "10:23:27" in snapshot_table(EVERY[:3], ROOTS, None, NOON), "always the same in a pipe"


def test_the_name_and_the_packages_are_there_where_they_fit() -> None:
    def headers(width: int) -> list[str]:
        return snapshot_table(EVERY, ROOTS, width, NOON).splitlines()[0].split()

    assert headers(132) == ["ID", "Name", "Date", "Kind", "Packages", "Marks", "For"]
    assert headers(100) == ["ID", "Date", "Kind", "Packages", "Marks", "For"]
    assert headers(80) == ["ID", "Date", "Packages", "Marks", "For"]
    # Without the packages there is room for the kinds again.
    assert headers(75) == ["ID", "Date", "Kind", "Marks", "For"]


def test_a_post_keeps_its_kind_however_narrow_it_is() -> None:
    """Its command is that of the pre: which of the two it is must be seen."""
    assert INSTALL.record is not None
    post = INSTALL._replace(record=INSTALL.record._replace(kind=Kind.POST))
    rows = snapshot_table([*EVERY, post], ROOTS, 50, NOON).splitlines()
    assert [row.split()[3] for row in rows[-1:]] == ["post"]


@pytest.mark.parametrize(
    ("number", "shown"), [(258, "root until rollback to 258"), (104857, "until rollback to 104857")]
)
def test_where_a_rollback_went_is_not_cut_on_60_columns(number: int, shown: str) -> None:
    target = snapshot(number, UPGRADE.name)
    old = old_root(number + 1, "27T20:29:31", ReplacedBy(target.name, number, NOON))
    text = snapshot_table([target, old, INSTALL], ROOTS, 60, NOON)
    assert text.splitlines()[3].endswith(f"  {shown}")
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    ("words", "matters"),
    [
        ("upgrade", "upgrade"),
        ("-y upgrade foo", "upgrade foo"),
        ("upgrade -y --refresh foo", "upgrade foo"),
        ("--setopt=a=b --setopt c=d -x kernel --exclude=glibc upgrade foo", "upgrade foo"),
        ("--releasever 42 --enablerepo u* install foo", "install foo"),
        ("--disable-plugin actions --setvar a=b install foo", "install foo"),
        ("-qy -d10 -d 1 install foo", "install foo"),
        ("install -- -odd", "install -odd"),
        ("group install --with-optional web", "group install web"),
        ("-y -x", ""),
        ("", ""),
    ],
)
def test_what_matters_of_a_command_line(words: str, matters: str) -> None:
    made = taken(261, "28T10:23:27", ["dnf", *words.split()], 1)
    whole, short = View({}, str).purpose(made)
    assert (whole, short) == (f"dnf {words}".rstrip(), f"dnf {matters}".rstrip())


def test_a_word_with_a_blank_stays_one_word() -> None:
    made = taken(261, "28T10:23:27", ["dnf", "--comment", "a b", "install", "c d"], 1)
    assert View({}, str).purpose(made) == ["dnf --comment 'a b' install 'c d'", "dnf install 'c d'"]


def test_old_roots_are_told_apart() -> None:
    seen = view(EVERY, NOON)
    assert what(NEWER, seen) == (
        "the system until 11:05, set aside by the rollback to 261 (yum_20261128102327)"
    )
    assert what(OLDER, seen) == (
        "the system until 2026-11-27 20:29, set aside by the rollback to 258 (yum_20261126161854)"
    )
    assert what(NEWER, view(EVERY, NOON, running=NEWER.id)).startswith("the running system, set")
    given_up = old_root(300, "28T11:05:02", ReplacedBy(UPGRADE.name, 258, given_up=True))
    assert what(given_up, seen).endswith("(yum_20261126161854), which was given up")


def test_what_is_gone_has_only_a_name() -> None:
    """An ID would lead nowhere then; version 0.1.0 noted none of what is still there."""
    target = gone(INSTALL.name)
    assert what(NEWER, view([target, NEWER], NOON)).endswith(f"the rollback to {INSTALL.name}")
    without_id = old_root(300, "28T11:05:02", ReplacedBy(INSTALL.name))
    assert what(without_id, view(EVERY, NOON)).endswith(f"to 261 ({INSTALL.name})")


def test_a_description_that_somebody_wrote_comes_first() -> None:
    assert NEWER.record is not None
    described = NEWER._replace(record=NEWER.record._replace(description="the good one"))
    assert view(EVERY, NOON).purpose(described) == ["the good one"]


def test_details_say_what_became_of_the_new_root() -> None:
    seen = view(EVERY, NOON)

    def shown(by: ReplacedBy) -> str:
        text = snapshot_details(old_root(300, "28T11:05:02", by), ROOTS, seen)
        (line,) = [line for line in text.splitlines() if line.startswith("New root:")]
        return line.partition(":")[2].strip()

    by = ReplacedBy(INSTALL.name, 261)
    assert shown(by) == "not booted yet"
    assert shown(by._replace(confirmed=NOON)) == "first booted 12:00"
    earlier = NOON - timedelta(days=1)
    assert shown(by._replace(confirmed=earlier)).endswith("first booted 2026-11-27 12:00")
    assert "given up" in shown(by._replace(given_up=True))
    assert "New root:" not in snapshot_details(INSTALL, ROOTS, seen)


def test_the_origin_of_a_root() -> None:
    copied = subvolume(261, "fs-snapshots/yum_1")
    every = [TOP, subvolume(256, "root"), copied]
    root = subvolume(310, "root", parent_uuid=uuid_of(261))
    assert origin(root, [*every, root]) is copied
    assert origin(root, every[:2]) is None, "it is gone"
    assert origin(subvolume(256, "root"), every) is None
    assert origin(None, every) is None
    # A top level that older tools have made has no UUID, and a root that is no copy no parent.
    nobody = "0" * 32
    top = TOP._replace(uuid=nobody)
    assert origin(subvolume(310, "root", parent_uuid=nobody), [top]) is None
