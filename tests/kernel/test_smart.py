# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that report their own failure: a stand-in answers as smartctl(8) of smartmontools 7 does.

No disk of these machines has SMART. The answers are those of its source: src/ataprint.cpp,
nvmeprint.cpp, scsiprint.cpp and smartctl.cpp.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from fs_rollback.system.check import smart
from fs_rollback.system.linux import devices
from tests.kernel.attached import attached
from tests.kernel.commands import Done, fs_rollback
from tests.kernel.machine import Machine, run

Answer = tuple[int, dict[str, Any]]


def _said(status: int, severity: str, text: str) -> Answer:
    messages = [{"string": text, "severity": severity}]
    return status, {"smartctl": {"messages": messages, "exit_status": status}}


ANSWERS: dict[str, tuple[Answer, str, str]] = {
    "passed": ((0, {"smart_status": {"passed": True}}), "disk.ok", "reports no failure"),
    # Values were below their thresholds once, and the logs have errors: no verdict of the disk.
    "passed, with a past": (
        (32 | 64 | 128, {"smart_status": {"passed": True}}), "disk.ok", "reports no failure",
    ),
    "ATA": ((8 | 16, {"smart_status": {"passed": False}}), "disk.failing", "health test failed"),
    "NVMe": (
        (8, {"smart_status": {"passed": False, "nvme": {
            "value": 9, "spare_below_threshold": True,
            "temperature_above_or_below_threshold": False, "reliability_degraded": False,
            "media_read_only": True, "volatile_memory_backup_failed": False, "other": 0,
        }}}),
        "disk.failing",
        "its spare blocks are nearly used up, it no longer accepts writes",
    ),
    "asleep": (_said(3, "information", "Device is in STANDBY mode, exit(3)"),
               "disk.unknown", "in standby"),
    "virtual": (_said(1, "error", "/dev/vda: Unable to detect device type"),
                "disk.unknown", "/dev/vda: Unable to detect device type"),
    "no SMART": ((4, {"smartctl": {"exit_status": 4}}), "disk.unknown", "reports no SMART"),
    "cannot be opened": (_said(2, "error", "Smartctl open device: /dev/sda failed: No such device"),
                         "disk.unknown", "failed: No such device"),
}  # fmt: skip


class Smartctl:
    """The stand-in: first in PATH of the commands of a test, it writes down what it was asked."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.env = {"PATH": f"{directory}:{os.environ['PATH']}:/usr/sbin:/sbin"}

    def answer(self, status: int, text: str) -> None:
        script = self.directory / "smartctl"
        script.write_text(
            f"#!{sys.executable}\nimport sys\n"
            f"open({str(self.directory / 'asked')!r}, 'a').write(' '.join(sys.argv[1:]) + '\\n')\n"
            f"print({text!r})\nsys.exit({status})\n"
        )
        script.chmod(0o755)

    def asked(self) -> list[str]:
        return (self.directory / "asked").read_text().splitlines()


@pytest.fixture
def smartctl(tmp_path: Path) -> Smartctl:
    return Smartctl(tmp_path / "tools")


def _device(machine: Machine) -> str:
    return run("findmnt", "-n", "-v", "-o", "SOURCE", str(machine.top)).strip()


def _disk(ended: Done) -> dict[str, Any]:
    (found,) = (f for f in ended.json["links"] if f["code"].startswith("disk."))
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("name", ANSWERS)
def test_what_a_disk_reports(named: Machine, smartctl: Smartctl, name: str) -> None:
    (status, answer), code, words = ANSWERS[name]
    smartctl.answer(status, json.dumps(answer))
    ended = fs_rollback(named.root, "check", "--json", env=smartctl.env)
    found = _disk(ended)
    device = _device(named)
    assert (found["code"], found["subject"]) == (code, device)
    assert words in found["text"]
    assert found["grade"] == ("warning" if code == "disk.failing" else "ok")
    assert smartctl.asked() == [f"--json=c --health --nocheck=standby,3 {device}"]


def test_a_rollback_onto_a_failing_disk(named: Machine, smartctl: Smartctl) -> None:
    """It is said before the question, and done all the same: the old disk may be all there is."""
    smartctl.answer(8, json.dumps({"smart_status": {"passed": False}}))
    name = named.upgrade()
    ended = fs_rollback(named.root, "rollback", name, "--dry-run", env=smartctl.env)
    (line,) = (line for line in ended.out.splitlines() if "is failing" in line)
    assert line.startswith(f"Warning: the disk {_device(named)} reports that it is failing")
    ended = fs_rollback(named.root, "rollback", name, "--yes", "--json", env=smartctl.env)
    assert (ended.code, ended.json["done"]) == (0, True)
    assert [w for w in ended.json["warnings"] if "is failing" in w]
    named.reboot()
    assert named.read("usr/bin/app") == "version 1\n"


def test_status_runs_no_program_for_it(named: Machine, smartctl: Smartctl) -> None:
    smartctl.answer(8, json.dumps({"smart_status": {"passed": False}}))
    fs_rollback(named.root, "status", env=smartctl.env)
    assert not (smartctl.directory / "asked").exists()


@pytest.mark.parametrize("text", ["smartctl 6.6\n", "[]", "", '{"smart_status": 1}'])
def test_what_is_no_answer(named: Machine, smartctl: Smartctl, text: str) -> None:
    smartctl.answer(0, text)
    found = _disk(fs_rollback(named.root, "check", "--json", env=smartctl.env))
    assert (found["code"], found["grade"]) == ("disk.unknown", "ok")


def test_where_smartctl_is_not_installed(named: Machine, tmp_path: Path) -> None:
    tools = tmp_path / "without"
    tools.mkdir()
    for directory in ("/usr/bin", "/bin", "/usr/sbin", "/sbin"):
        for program in Path(directory).iterdir():
            if program.name != "smartctl" and not (tools / program.name).exists():
                (tools / program.name).symlink_to(program)
    ended = fs_rollback(named.root, "check", "--json", env={"PATH": str(tools)})
    assert _disk(ended)["code"] == "disk.not-asked"
    assert "smartmontools" in _disk(ended)["text"]


def test_a_disk_that_hangs_is_not_waited_for(
    smartctl: Smartctl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All disks together get so long, and the others are not asked any more."""
    script = smartctl.directory / "smartctl"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", smartctl.env["PATH"])
    monkeypatch.setattr(smart, "_ALL_S", 0.5)
    began = time.monotonic()
    first, second = smart.ask(["/dev/sda", "/dev/sdb"])
    assert time.monotonic() - began < 30
    assert (first.is_failing, second.is_failing) == (None, None)
    assert "did not answer" in first.why
    assert "took too long" in second.why


def test_the_disk_below_a_partition(tmp_path: Path) -> None:
    image, place = tmp_path / "disk.img", tmp_path / "place"
    place.mkdir()
    with image.open("wb") as file:
        file.truncate(256 << 20)
    with attached(image, "--partscan") as device:
        run("addpart", device, "1", "2048", str(200 << 11))
        run("mkfs.btrfs", "--quiet", f"{device}p1")
        uuid = run("blkid", "-p", "-s", "UUID", "-o", "value", f"{device}p1").strip()
        run("mount", f"{device}p1", str(place))
        try:
            assert devices.disks_of_btrfs(uuid) == (device,)
        finally:
            run("umount", str(place))
        assert devices.disks_of_btrfs(uuid) == ()
        run("delpart", device, "1")
