# SPDX-License-Identifier: GPL-2.0-or-later
"""What the numbers of btrfs and smartctl mean; tests/kernel/test_health.py reads real ones."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from fs_rollback.core.boot import health
from fs_rollback.core.boot.health import Device, Errors
from fs_rollback.core.formats import mountinfo, scrub_status
from fs_rollback.core.formats.scrub_status import Scrub
from fs_rollback.system.linux import devices

UUID = "341d923f-d0db-4cde-8f48-d103c69ae9f0"
NOW = datetime(2026, 11, 29, 20, 0, tzinfo=timezone(timedelta(hours=1)))
# Written by btrfs-progs 6.2: a scrub of two devices that found nothing.
RECORD = """\
scrub status:1
341d923f-d0db-4cde-8f48-d103c69ae9f0:1|data_extents_scrubbed:320|tree_extents_scrubbed:11|data_bytes_scrubbed:20971520|tree_bytes_scrubbed:180224|read_errors:0|csum_errors:0|verify_errors:0|no_csum:0|csum_discards:0|super_errors:0|malloc_errors:0|uncorrectable_errors:0|corrected_errors:0|last_physical:109117440|t_start:1795977431|t_resumed:0|duration:0|canceled:0|finished:1
341d923f-d0db-4cde-8f48-d103c69ae9f0:2|data_extents_scrubbed:320|tree_extents_scrubbed:11|data_bytes_scrubbed:20971520|tree_bytes_scrubbed:180224|read_errors:0|csum_errors:0|verify_errors:0|no_csum:0|csum_discards:0|super_errors:0|malloc_errors:0|uncorrectable_errors:0|corrected_errors:0|last_physical:88145920|t_start:1795977431|t_resumed:0|duration:0|canceled:0|finished:1
"""
NONE = Errors(0, 0, 0, 0, 0)


def _with(**numbers: int) -> str:
    """Return the record with other numbers for its second device."""
    before, _, second = RECORD.rpartition(f"{UUID}:2")
    for key, number in numbers.items():
        second, count = re.subn(rf"\|{key}:\d+", f"|{key}:{number}", second)
        assert count == 1
    return f"{before}{UUID}:2{second}"


def test_a_record_of_a_scrub() -> None:
    assert scrub_status.path_of(UUID) == f"var/lib/btrfs/scrub.status.{UUID}"
    found = scrub_status.parse(RECORD, UUID)
    assert found == Scrub(1795977431, True, False, 0, 0)
    assert found.state == "finished"
    assert scrub_status.parse(RECORD, UUID.replace("3", "4")) is None
    assert scrub_status.parse(_with(t_start=0), UUID) == found, "one device was not begun"


@pytest.mark.parametrize(
    ("numbers", "state"),
    [
        ({"finished": 0}, "interrupted"),
        ({"canceled": 1}, "canceled"),  # btrfs-scrub(8) writes finished:1 beside it
        ({"canceled": 1, "finished": 0}, "canceled"),
        ({"corrected_errors": 3, "uncorrectable_errors": 2}, "finished"),
    ],
)
def test_how_a_scrub_ended(numbers: dict[str, int], state: str) -> None:
    found = scrub_status.parse(_with(**numbers), UUID)
    assert found is not None
    assert found.state == state
    assert found.corrected == numbers.get("corrected_errors", 0)
    assert found.uncorrectable == numbers.get("uncorrectable_errors", 0)


@pytest.mark.parametrize(
    "text", ["", "scrub status:2\n", RECORD.replace("t_start:", "t_start:x"), RECORD[:-20]]
)
def test_what_is_no_record(text: str) -> None:
    with pytest.raises(ValueError, match=r"begins with|not a number"):
        scrub_status.parse(text, UUID)


def test_the_age_of_a_scrub() -> None:
    began = int(NOW.timestamp())
    for seconds, words in (
        (0, "began today (2026-11-29 20:00), no errors"),
        (86400, "began 1 day ago (2026-11-28 20:00), no errors"),
        (86400 * 40, "began 40 days ago (2026-10-20 20:00), no errors"),
        (-60, "began at 2026-11-29 20:01, which is in the future, no errors"),
    ):
        scrub = Scrub(began - seconds, True, False, 0, 0)
        found = health.of_scrub(scrub, "/", NOW, is_running=False)
        assert (found.code, found.text) == ("scrub.ok", f"the last scrub {words}")


def test_counters_in_words() -> None:
    assert health.error_words(NONE) == ""
    assert health.error_words(Errors(1, 0, 0, 2, 0)) == "1 failed write, 2 corrupt blocks"
    assert health.error_words(Errors(0, 5, 1, 0, 1)) == (
        "5 failed reads, 1 failed cache flush, 1 outdated block (a lost write)"
    )


def test_unknown_counters_are_not_none() -> None:
    known = Device(1, "/dev/sda2", False, NONE)
    unknown = Device(2, "/dev/sdb2", False, None)
    (found,) = health.of_devices([known, unknown], "/")
    assert (found.code, found.subject) == ("devices.unknown", "/dev/sdb2")
    assert health.trouble([found]) == ()
    assert [f.code for f in health.of_devices([known], "/")] == ["devices.ok"]


@pytest.mark.parametrize("status", [8, 16, 8 | 64])
def test_a_verdict_without_json(status: int) -> None:
    """The bits of the exit status say it too."""
    assert health.of_smartctl("/dev/sda", status, {}).is_failing


def _block(place: Path, name: str, *slaves: str) -> None:
    """Make a block device as sysfs has one: a partition is a directory in that of its disk."""
    below = place / name / "slaves"
    below.mkdir(parents=True)
    for slave in slaves:
        (below / Path(slave).name).symlink_to(place / slave)
    if "/" in name:
        (place / name / "partition").write_text("1\n")


def test_the_disks_below_what_is_mapped(tmp_path: Path) -> None:
    """LUKS on a mirror of md, that on a partition and a whole disk; and a partition of NVMe."""
    for name in ("sda", "sda/sda2", "sdb", "nvme0n1", "nvme0n1/nvme0n1p3"):
        _block(tmp_path, name)
    _block(tmp_path, "md0", "sda/sda2", "sdb")
    _block(tmp_path, "dm-0", "md0")
    (tmp_path / "link").symlink_to("dm-0")
    for name, disks in (
        ("link", ["sda", "sdb"]),
        ("md0", ["sda", "sdb"]),
        ("sda/sda2", ["sda"]),
        ("nvme0n1/nvme0n1p3", ["nvme0n1"]),
        ("sdb", ["sdb"]),
        ("gone", []),
    ):
        assert sorted(devices.disks_below(str(tmp_path / name))) == disks


MOUNT = "60 1 0:35 /root / {} - btrfs /dev/sda3 {},subvolid=256,subvol=/root\n"
HOME = "61 60 0:35 /home /home {} - btrfs /dev/sda3 {},subvolid=257,subvol=/home\n"
OTHER = "62 60 0:36 / /data ro - ext4 /dev/sdb1 ro\n"


@pytest.mark.parametrize(
    ("root", "home", "super_options", "is_forced"),
    [
        ("rw", "rw", "ro", True),
        ("rw,relatime", "rw", "ro,ssd", True),
        ("ro", "rw", "ro", False),  # mount -o remount,ro /
        ("rw", "ro", "ro", False),  # mount -o remount,ro /home
        ("rw", "rw", "rw", False),
        ("ro", "rw", "rw", False),  # mount -o remount,bind,ro /
    ],
)
def test_who_made_a_filesystem_read_only(
    root: str, home: str, super_options: str, *, is_forced: bool
) -> None:
    text = MOUNT.format(root, super_options) + HOME.format(home, super_options) + OTHER
    mounts = mountinfo.parse(text)
    assert mountinfo.is_forced_read_only(mounts, mounts[0]) == is_forced
