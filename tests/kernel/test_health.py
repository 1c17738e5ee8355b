# SPDX-License-Identifier: GPL-2.0-or-later
"""Disks that are damaged, missing or about to fail: what is said, and a rollback onto them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run

_MIB = 1 << 20
_SUPERBLOCKS = (64 << 10, 64 << 20)  # where each device has them, with the 4 KiB that they are
Finding = dict[str, Any]


class Mirror:
    """The second device of a machine whose data and metadata are RAID1."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.image = machine.image.parent / "second.img"
        self.device = ""

    def add(self) -> None:
        with self.image.open("wb") as file:
            file.truncate(512 * _MIB)
        self.attach()
        run("btrfs", "device", "add", self.device, str(self.machine.top))
        convert = ("-dconvert=raid1", "-mconvert=raid1")
        run("btrfs", "balance", "start", *convert, str(self.machine.top))

    def attach(self) -> None:
        self.device = run("losetup", "--find", "--show", str(self.image)).strip()

    def detach(self) -> None:
        """Take it out of a machine that is off; the kernel forgets what it was called.

        The name of a missing device that is remembered cannot be mounted as another's disk.
        """
        run("btrfs", "device", "scan", "--forget", self.device)
        run("losetup", "--detach", self.device)
        self.device = ""

    def blank(self) -> None:
        """Overwrite the superblocks: the kernel knows the name, and no disk of ours is there."""
        with self.image.open("r+b") as file:
            for place in _SUPERBLOCKS:
                os.pwrite(file.fileno(), bytes(4096), place)

    @contextmanager
    def off(self) -> Iterator[None]:
        """Turn the machine off, and on again."""
        self.machine.destroy()
        yield
        if self.device:
            run("btrfs", "device", "scan", self.device)
        run("mount", "-o", "loop,subvolid=5", str(self.machine.image), str(self.machine.top))
        self.machine.boot()

    def corrupt(self) -> None:
        """Overwrite all that is on it, the superblocks excepted: the disk lies."""
        with self.image.open("r+b") as file:
            for start, end in _extents(file.fileno()):
                for place in range(start, end, 4096):
                    if place >= _MIB and place not in _SUPERBLOCKS:
                        os.pwrite(file.fileno(), b"\xa5" * 4096, place)


def _extents(descriptor: int) -> Iterator[tuple[int, int]]:
    end = 0
    with suppress(OSError):  # ENXIO: there is no more
        while True:
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            yield start, end


@pytest.fixture
def mirror(named: Machine) -> Iterator[Mirror]:
    found = Mirror(named)
    found.add()
    yield found
    named.destroy()
    if found.device:
        found.detach()


@pytest.fixture(autouse=True)
def _no_records(named: Machine) -> Iterator[None]:
    """Take away what btrfs-scrub(8) has written of the machine's filesystem."""
    yield
    for path in Path("/var/lib/btrfs").glob(f"scrub.*.{named.uuid}*"):
        path.unlink()


def checked(machine: Machine, *areas: str, env: dict[str, str] | None = None) -> list[Finding]:
    ended = fs_rollback(machine.root, "check", "--json", env=env)
    assert ended.out, ended
    return [link for link in ended.json["links"] if link["code"].partition(".")[0] in areas]


def attention(machine: Machine) -> str:
    return "\n".join(fs_rollback(machine.root, "status", "--json").json["attention"])


def health(machine: Machine) -> dict[str, Any]:
    found = fs_rollback(machine.root, "status", "--json").json["health"]
    assert isinstance(found, dict)
    return found


def counted(machine: Machine) -> dict[str, dict[str, int]]:
    """Return what btrfs-device(8) has counted, by device."""
    found: dict[str, dict[str, int]] = {}
    for line in run("btrfs", "device", "stats", str(machine.top)).splitlines():
        name, _, count = line.partition(".")
        kind, number = count.split()
        key = kind.replace("_io_errs", "").replace("_errs", "")
        found.setdefault(name.strip("[]"), {})[key] = int(number)
    return found


def read_until_counted(mirror: Mirror, path: Path) -> None:
    """Read a file until the second copy was read: the kernel chooses by the process's number."""
    with path.open("rb") as file:
        for _ in range(50):
            for _ in range(2):  # an odd number of processes each time, with btrfs-device(8)
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                run("cksum", str(path))
            if counted(mirror.machine)[mirror.device]["corruption"]:
                return
    pytest.fail("the second copy was never read, or is good")


def test_disks_that_are_well(mirror: Mirror) -> None:
    """A mount option is no missing device."""
    machine = mirror.machine
    machine.destroy()
    run("mount", "-o", "loop,degraded,subvolid=5", str(machine.image), str(machine.top))
    run("mount", "-o", "loop,subvol=root", str(machine.image), str(machine.root))
    found = checked(machine, "devices", "scrub", "filesystem")
    assert [(f["code"], f["grade"]) for f in found] == [("devices.ok", "ok"), ("scrub.none", "ok")]
    assert "all 2 devices are present" in found[0]["text"]
    data = health(machine)
    assert (data["read_only"], data["scrub"]["state"]) == (None, "none")
    assert {d["path"]: d["errors"] for d in data["devices"]} == counted(machine)
    assert all(set(d["errors"].values()) == {0} for d in data["devices"])


@pytest.mark.parametrize("is_forgotten", [True, False], ids=["unknown", "known-path"])
def test_a_mirror_that_is_not_there(mirror: Mirror, *, is_forgotten: bool) -> None:
    """Whether or not the kernel remembers what it was called."""
    machine = mirror.machine
    name = machine.upgrade()
    machine.destroy()
    if is_forgotten:
        mirror.detach()
    else:
        run("btrfs", "device", "scan", mirror.device)
        mirror.blank()
    run("mount", "-o", "loop,degraded,subvolid=5", str(machine.image), str(machine.top))
    run("mount", "-o", "loop,subvol=root", str(machine.image), str(machine.root))
    (found,) = checked(machine, "devices")
    assert (found["code"], found["grade"]) == ("devices.missing", "warning")
    assert "a device missing (1 of 2)" in found["text"]
    assert "a device missing" in attention(machine)
    assert [(d["id"], d["missing"]) for d in health(machine)["devices"]] == [(1, False), (2, True)]
    ended = fs_rollback(machine.root, "rollback", name, "--yes")
    ended.expect_refusal("a device missing", "btrfs-replace(8)")


def test_a_damaged_copy_is_read_around(mirror: Mirror) -> None:
    """The kernel reads the good copy: the rollback works, and what is wrong is said."""
    machine = mirror.machine
    file, content = machine.root / "usr/bin/big", os.urandom(_MIB)
    file.write_bytes(content)
    name = machine.upgrade()
    with mirror.off():
        mirror.corrupt()
    read_until_counted(mirror, file)
    for option in ("--dry-run", "--yes"):
        warnings = done(machine.root, "rollback", name, option, "--json").json["warnings"]
        (said,) = (warning for warning in warnings if mirror.device in warning)
        assert "corrupt block" in said
        assert "'fs-rollback check'" in said
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 1\n"
    assert file.read_bytes() == content
    stats = counted(machine)
    assert stats[mirror.device]["corruption"] > 0
    del stats[mirror.device]
    assert not any(any(errors.values()) for errors in stats.values())
    (found,) = checked(machine, "devices")
    assert (found["code"], found["grade"]) == ("devices.errors", "warning")
    assert found["subject"] == mirror.device
    assert mirror.device in attention(machine)
    assert f"btrfs scrub start -B {machine.root}" in found["advice"]
    assert f"btrfs device stats -z {machine.root}" in found["advice"]
    # What it advises mends the copy and ends the warning.
    run("btrfs", "scrub", "start", "-B", str(machine.root))
    assert "repaired" in checked(machine, "scrub")[0]["text"]
    run("btrfs", "device", "stats", "-z", str(machine.root))
    assert [f["code"] for f in checked(machine, "devices", "scrub")] == ["devices.ok", "scrub.ok"]
    assert mirror.device not in attention(machine)


def test_a_disk_that_cannot_be_read(mirror: Mirror) -> None:
    """Its end is gone while it is mounted: the kernel reads the other copy."""
    machine = mirror.machine
    file, content = machine.root / "usr/bin/big", os.urandom(_MIB)
    file.write_bytes(content)
    run("sync", "--file-system", str(machine.root))
    os.truncate(mirror.image, _MIB)
    run("losetup", "--set-capacity", mirror.device)
    scrub = ("btrfs", "scrub", "start", "-B", "-r", str(machine.root))  # reads all copies
    subprocess.run(scrub, check=False, capture_output=True)
    assert file.read_bytes() == content
    (found,) = checked(machine, "devices")
    assert (found["code"], "failed reads" in found["text"]) == ("devices.errors", True)
    devices = {d["path"]: d["errors"] for d in health(machine)["devices"]}
    assert devices == counted(machine)
    assert devices[mirror.device]["read"] > 0


def test_a_scrub_that_finds_damage(named: Machine) -> None:
    """Of one copy nothing can be repaired: `check` says so until a scrub finds it well again."""
    (named.root / "srv").mkdir()
    content = os.urandom(64 << 10)
    (named.root / "srv/data").write_bytes(content)
    named.destroy()
    place = named.image.read_bytes().index(content)
    with named.image.open("r+b") as file:
        os.pwrite(file.fileno(), b"\xa5" * 4096, place)
    named.adopt(named.image)
    subprocess.run(("btrfs", "scrub", "start", "-B", str(named.root)), check=False)
    found = {f["code"]: f for f in checked(named, "devices", "scrub")}
    assert list(found) == ["devices.errors", "scrub.errors"]
    assert "began today" in found["scrub.errors"]["text"]
    assert "1 error" in found["scrub.errors"]["text"]
    told = attention(named).splitlines()
    assert len([line for line in told if "could not repair" in line]) == 1
    scrub = health(named)["scrub"]
    assert (scrub["state"], scrub["corrected"], scrub["uncorrectable"]) == ("finished", 0, 1)
    (named.root / "srv/data").unlink()
    run("sync", "--file-system", str(named.root))
    run("btrfs", "scrub", "start", "-B", str(named.root))
    run("btrfs", "device", "stats", "-z", str(named.root))
    assert [f["code"] for f in checked(named, "devices", "scrub")] == ["devices.ok", "scrub.ok"]


def test_a_scrub_that_runs_and_is_canceled(named: Machine) -> None:
    (named.root / "srv").mkdir()
    (named.root / "srv/data").write_bytes(os.urandom(32 * _MIB))
    run("sync", "--file-system", str(named.root))
    limit = Path(f"/sys/fs/btrfs/{named.uuid}/devinfo/1/scrub_speed_max")
    limit.write_text(f"{_MIB}\n")
    # Without a pipe: it goes on in the background, and would hold that.
    subprocess.run(
        ("btrfs", "scrub", "start", str(named.root)), check=True, stdout=subprocess.DEVNULL
    )
    try:
        (found,) = checked(named, "scrub")
        assert (found["code"], found["grade"]) == ("scrub.running", "ok")
        assert health(named)["scrub"]["state"] == "running"
    finally:
        run("btrfs", "scrub", "cancel", str(named.root))
    (found,) = checked(named, "scrub")
    assert (found["code"], "was canceled" in found["text"]) == ("scrub.unfinished", True)
    assert health(named)["scrub"]["state"] == "canceled"


def test_a_record_of_a_scrub_that_cannot_be_read(named: Machine) -> None:
    named.write(named.root, f"var/lib/btrfs/scrub.status.{named.uuid}", "scrub status:2\n")
    (found,) = checked(named, "scrub")
    assert (found["code"], found["grade"]) == ("scrub.unknown", "warning")
    assert health(named)["scrub"]["state"] == "unknown"


def test_who_made_it_read_only(named: Machine) -> None:
    """Somebody did: `check` does not blame a disk, and says how it is undone."""
    run("mount", "-o", "remount,ro", str(named.root))
    (found,) = checked(named, "filesystem")
    assert found["code"] == "filesystem.read-only"
    assert "remount,rw" in found["advice"]
    assert health(named)["read_only"] == "mounted"


def test_a_device_that_takes_no_writes_is_no_error(named: Machine) -> None:
    """A seed device: nobody asked for a read-only mount, and btrfs had no error."""
    named.destroy()
    run("btrfstune", "-f", "-S", "1", str(named.image))
    run("mount", "-o", "loop,subvol=root", str(named.image), str(named.root))
    (found,) = checked(named, "filesystem")
    assert found["code"] == "filesystem.read-only"


@contextmanager
def _no_superblock(machine: Machine) -> Iterator[None]:
    """Have the disk below refuse what ends a commit, the superblock, and nothing else.

    So everything can be read afterwards. Its place is a hole that a full tmpfs cannot fill; the
    superblock of before is put back.
    """
    run("mount", "-o", "remount,nodiscard", str(machine.top))
    run("fallocate", "--length", "64M", str(machine.image))
    filler = machine.image.parent / "filler"
    with machine.image.open("r+b") as file:
        before = os.pread(file.fileno(), 4096, _SUPERBLOCKS[0])
        hole = ("--punch-hole", "--offset", str(_SUPERBLOCKS[0]), "--length", "4096")
        run("fallocate", *hole, str(machine.image))
        subprocess.run(("cp", "/dev/zero", str(filler)), check=False, stderr=subprocess.DEVNULL)
        yield
        filler.unlink()
        os.pwrite(file.fileno(), before, _SUPERBLOCKS[0])


def test_an_error_made_it_read_only(tmp_path: Path) -> None:
    """The disk below it takes no more writes: btrfs gives the transaction up."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=120M", "tmpfs", str(disk))
    machine = Machine(disk, "named")
    try:
        machine.create()
        machine.upgrade()
        run("sync", "--file-system", str(machine.top))
        with _no_superblock(machine):
            (machine.root / "srv").mkdir()
            sync = ("sync", "--file-system", str(machine.top))
            assert subprocess.run(sync, check=False, capture_output=True).returncode != 0
        with pytest.raises(OSError, match="Read-only file system"):
            (machine.root / "other").mkdir()
        (found,) = checked(machine, "filesystem")
        assert (found["code"], found["grade"]) == ("filesystem.forced-read-only", "warning")
        assert "after an error" in found["text"]
        assert "remount,rw" not in found["advice"]
        # What it does not advise does not work.
        again = ("mount", "-o", "remount,rw", str(machine.root))
        assert subprocess.run(again, check=False, capture_output=True).returncode != 0
        assert "btrfs stopped all writes after an error" in attention(machine)
        data = health(machine)
        assert data["read_only"] == "forced"
        assert sum(data["devices"][0]["errors"].values()) > 0
        fs_rollback(machine.root, "rollback", "--yes").expect_refusal("after an error", "'dmesg'")
    finally:
        machine.destroy()
        run("umount", str(disk))
