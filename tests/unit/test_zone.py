# SPDX-License-Identifier: GPL-2.0-or-later
"""A time zone in $TZ that does not exist: times are right, and it is said which they are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.need import withhold

_PACKAGE = Path(__file__).parents[2] / "rollback"
_TELL = (
    f"import sys; sys.path.insert(0, {str(_PACKAGE)!r});"
    " from datetime import datetime, timezone;"
    " from fs_rollback.cli.screen import zone; from fs_rollback.report import local_time;"
    " print(ascii(zone.corrected()));"
    " print(local_time(datetime(2026, 7, 1, 12, 0, tzinfo=timezone.utc)));"
    " datetime.now().astimezone()"
)


def _told(**environment: str) -> tuple[str, str]:
    """Return what is said of the time zone, and what noon in UTC is called."""
    done = subprocess.run(
        [sys.executable, "-c", _TELL], env=environment, capture_output=True, text=True, check=True
    )
    said, shown = done.stdout.splitlines()
    return said, shown


@pytest.mark.parametrize(
    "zone",
    ["Nowhere/Land", ":Nowhere", "/etc/passwd", "../../etc/passwd", "UTC+99", "garbage!", "XYZ"],
)
def test_a_zone_that_does_not_exist_is_said_and_is_utc(zone: str) -> None:
    said, shown = _told(TZ=zone)
    assert said == f'"unknown time zone {zone.lstrip(":")!r} in TZ: times are in UTC"'
    assert shown == "2026-07-01 12:00"


def test_a_zone_that_is_not_installed(tmp_path: Path) -> None:
    said, shown = _told(TZ="Europe/Berlin", TZDIR=str(tmp_path))
    assert "times are in UTC" in said
    assert shown == "2026-07-01 12:00"


@pytest.mark.parametrize(
    ("zone", "noon"),
    [
        ("Europe/Berlin", "14:00"),
        (":Europe/Berlin", "14:00"),
        ("/usr/share/zoneinfo/Europe/Berlin", "14:00"),
        ("CET-1CEST", "14:00"),
        ("Europe/London", "13:00"),
        ("Africa/Abidjan", "12:00"),
        ("<+03>-3", "15:00"),
        ("<-00>0", "12:00"),
        ("UTC", "12:00"),
        ("GMT", "12:00"),
        ("UTC0", "12:00"),
        ("Etc/UTC", "12:00"),
        ("", "12:00"),
        (":", "12:00"),
    ],
)
def test_a_zone_that_exists_is_not_worth_a_word(zone: str, noon: str) -> None:
    if not Path("/usr/share/zoneinfo/Europe/Berlin").exists():
        withhold("there is no tzdata")
    assert _told(TZ=zone) == ("''", f"2026-07-01 {noon}")
