# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert run` and the way back on real disks: every file; every phase failing or killed."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from fs_rollback.convert.disk import btrfs_convert
from fs_rollback.convert.torn import saved
from fs_rollback.core.boot.conversion_state import STATE_FILE
from tests import manifest
from tests.kernel.attached import attached, nothing_stays  # noqa: F401 - a fixture
from tests.kernel.conversions import (
    FSTAB,
    OWN,
    command,
    converted_on,
    expect,
    kind_of,
    observed,
    prepared_image,
    started,
)
from tests.kernel.ext4_images import LEAST_BYTES, on
from tests.kernel.machine import run

pytestmark = pytest.mark.usefixtures("btrfs_progs")

_PHASES = ("check", "save", "convert", "edit", "verify", "note")
# After one is before the next: nothing is written in between.
_MOMENTS = [("before", _PHASES[0]), *(("after", phase) for phase in _PHASES)]
# Each time it fails at every other one, and is killed at those between: a conversion each.
_EVEN, _ODD = (
    [
        pytest.param(*moment, marks=[pytest.mark.rare] if number % 2 != rest else [])
        for number, moment in enumerate(_MOMENTS)
    ]
    for rest in (0, 1)
)


@pytest.fixture(scope="session", name="template")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_image(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(name="image")
def _image(template: Path, tmp_path: Path) -> Path:
    run("cp", "--sparse=always", str(template), str(tmp_path / "disk.img"))
    return tmp_path / "disk.img"


@pytest.fixture(name="before", scope="session")
def _before(template: Path) -> manifest.Manifest:
    with on(template) as root:
        return manifest.manifest(root, exclude=OWN)


def test_there_and_back(image: Path, before: manifest.Manifest) -> None:
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 0, done
        assert f"Converted: {device} is btrfs" in done.out
        assert "Copy inodes: " in done.err
    expect(image, "btrfs", before)
    with attached(image) as device:
        again = converted_on(device)
        assert (again.code, again.out) == (
            0,
            f"{device} was converted before: there is nothing to do.\n",
        )
    with on(image) as root:
        (root / "srv/new").write_text("since\n")
    with attached(image) as device:
        back = command("run", "--back", "--device", device, "--yes")
        assert back.code == 0, back
        assert "  /srv/new\n" in back.out
    expect(image, "ext4", before)
    with attached(image) as device:
        assert converted_on(device).code == 0
    expect(image, "btrfs", before)


@pytest.mark.parametrize(("moment", "phase"), _EVEN)
def test_a_phase_fails(moment: str, phase: str, image: Path, before: manifest.Manifest) -> None:
    with attached(image) as device:
        done = observed(device, "fail", moment, phase)
        assert done.returncode == 1, done
        assert f"{moment} {phase}" in done.stdout
    expect(image, "ext4", before)
    if (moment, phase) == _MOMENTS[-1]:  # what was made and taken back is all there, made again
        with attached(image) as device:
            assert converted_on(device).code == 0
        expect(image, "btrfs", before)


@pytest.mark.parametrize(("moment", "phase"), _ODD)
def test_killed_at_a_phase(moment: str, phase: str, image: Path, before: manifest.Manifest) -> None:
    with attached(image) as device:
        done = observed(device, "kill", moment, phase)
        assert done.returncode == -signal.SIGKILL, done
        assert converted_on(device).code == 0
    expect(image, "btrfs", before)


@pytest.fixture(name="attached_image")
def _attached_image(image: Path) -> Iterator[str]:
    with attached(image) as device:
        yield device


def _refused(device: str, part: str, code: int = 3, kind: Optional[str] = "ext4") -> None:
    done = converted_on(device)
    assert done.code == code, done
    assert part in done.err
    assert "Traceback" not in done.err
    assert kind_of(device) == kind


def test_what_is_not_prepared_is_refused_and_not_even_repaired(image: Path) -> None:
    with on(image) as root:
        (root / "fs-snapshots/conversion/state.json").unlink()
    before = image.with_suffix(".before")
    run("cp", "--sparse=always", str(image), str(before))
    with attached(image) as device:
        _refused(device, "is not prepared")
    run("cmp", str(image), str(before))


def test_what_was_prepared_may_be_in_the_journal_only(image: Path, tmp_path: Path) -> None:
    """Switched off behind `prepare`, which makes all of it durable, the directory is not there."""
    cut = tmp_path / "cut.img"
    with on(image) as root:
        state = root / "fs-snapshots/conversion/state.json"
        text = state.read_text()
        state.unlink()
        os.sync()
    with on(image) as root:
        state = root / "fs-snapshots/conversion/state.json"
        state.write_text(text)
        with state.open("a") as file:
            os.fsync(file.fileno())
        run("cp", "--sparse=always", str(image), str(cut))
    with attached(cut) as device:
        assert not saved.is_there(device, STATE_FILE)
        assert converted_on(device).code == 0


def test_what_was_changed_since_is_refused(image: Path) -> None:
    with on(image) as root, (root / "etc/fstab").open("a") as file:
        file.write("# since\n")
    with attached(image) as device:
        _refused(device, "was changed after the preparation")


def test_what_lies_ready_was_changed(image: Path) -> None:
    with on(image) as root:
        (root / "fs-snapshots/conversion/fstab").write_text("")
    with attached(image) as device:
        _refused(device, "/fs-snapshots/conversion/fstab on ")


def test_the_name_of_the_old_ext4_is_taken(image: Path) -> None:
    with on(image) as root:
        (root / "ext2_saved").mkdir()
    with attached(image) as device:
        _refused(device, "/ext2_saved exists on ")


def test_fstab_keeps_what_is_not_its_text(image: Path) -> None:
    """What is in it may be for root alone."""
    with on(image) as root:
        fstab = root / "etc/fstab"
        os.chown(fstab, 0, 7)
        fstab.chmod(0o640)
        os.setxattr(fstab, "security.selinux", b"system_u:object_r:etc_t:s0\0")
    with attached(image) as device:
        assert converted_on(device).code == 0
    with on(image) as root:
        fstab, status = root / "etc/fstab", (root / "etc/fstab").stat()
        assert fstab.read_text() == FSTAB
        assert (stat.S_IMODE(status.st_mode), status.st_gid) == (0o640, 7)
        assert os.getxattr(fstab, "security.selinux") == b"system_u:object_r:etc_t:s0\0"
        assert not (root / "fs-snapshots/conversion/fstab").exists()


def test_fstab_lost_its_root_after_the_conversion(image: Path) -> None:
    with attached(image) as device:
        assert observed(device, "kill", "after", "convert").returncode == -signal.SIGKILL
    with on(image) as root:
        (root / "etc/fstab").write_text("# nothing\n")
    with attached(image) as device:
        _refused(device, "/etc/fstab cannot be changed: it has no line for /", 1, "btrfs")


def test_nothing_says_what_it_was(image: Path) -> None:
    with attached(image) as device:
        assert converted_on(device).code == 0
    with on(image) as root:
        (root / "fs-snapshots/conversion/state.json").unlink()
    with attached(image) as device:
        back = command("run", "--back", "--device", device, "--yes")
        assert (back.code, f"btrfs-convert -r {device}" in back.err) == (3, True), back


def _new_fstab(image: Path, options: str) -> None:
    """Have another fstab prepared."""
    with on(image) as root:
        ready, state = (root / f"fs-snapshots/conversion/{n}" for n in ("fstab", "state.json"))
        data = json.loads(state.read_text())
        data["steps"][0]["after"] = ready.read_text().replace(" defaults ", f" {options} ")
        ready.write_text(data["steps"][0]["after"])
        state.write_text(json.dumps(data))


def test_a_root_that_does_not_mount_as_fstab_says_is_taken_back(
    image: Path, before: manifest.Manifest
) -> None:
    _new_fstab(image, "noatime,nobh")
    with attached(image) as device:
        _refused(device, "cannot be mounted with 'noatime,nobh'", code=1)
    expect(image, "ext4", before)


def test_what_fstab_says_to_others_is_mounted(image: Path) -> None:
    options = "noauto,nofail,user,comment=a,x-systemd.device-timeout=0,X-mount.mkdir,rw"
    options += ',subvol=/root,context="system_u:object_r:tmp_t:s0:c127,c456",commit=60,discard'
    _new_fstab(image, options)
    with attached(image) as device:
        assert converted_on(device).code == 0
        assert kind_of(device) == "btrfs"


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, pytest.param(signal.SIGHUP, marks=pytest.mark.rare)],
)
def test_a_signal_in_between_changes_nothing(
    number: signal.Signals, image: Path, before: manifest.Manifest
) -> None:
    """The code is that of what was done."""
    with attached(image) as device:
        process = started(device)
        assert process.stderr is not None
        assert "checking the ext4" in process.stderr.readline()
        for _ in range(5):
            process.send_signal(number)
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        assert "Converted: " in out
    expect(image, "btrfs", before)


def test_nobody_listens_any_more(image: Path, before: manifest.Manifest) -> None:
    with attached(image) as device:
        process = started(device)
        for stream in (process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        assert process.wait(120) == 0
    expect(image, "btrfs", before)


def test_mounted_meanwhile_it_is_stopped(image: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with attached(image) as device:
        process = started(device)
        assert process.stderr is not None
        while "converting" not in process.stderr.readline():
            pass
        mounted = subprocess.run(("mount", device, str(tmp_path / "mnt")), check=False)
        out, err = process.communicate(timeout=120)
        if mounted.returncode == 0:
            run("umount", str(tmp_path / "mnt"))
            # Seen by btrfs-convert itself, if it was quick: as before, too.
            assert process.returncode == 1, (out, err)
            assert "Unmount it, keep others from mounting it" in err
            assert kind_of(device) == "ext4"
            run("e2fsck", "-f", "-p", device)


def test_what_was_prepared_of_another_filesystem_is_refused(image: Path) -> None:
    run("e2fsck", "-f", "-p", str(image))
    run("tune2fs", "-U", "11111111-2222-3333-4444-555555555555", str(image))
    with attached(image) as device:
        _refused(device, "for another filesystem")


def test_a_link_in_the_place_of_the_store_is_refused(image: Path) -> None:
    with on(image) as root:
        (root / "fs-snapshots").rename(root / "srv/elsewhere")
        (root / "fs-snapshots").symlink_to("/srv/elsewhere")
    with attached(image) as device:
        _refused(device, "is not a directory")


def test_a_device_that_cannot_be_written_to(image: Path) -> None:
    with attached(image, "--read-only") as device:
        _refused(device, "is read-only")


def test_what_is_lost_in_other_subvolumes_is_said(image: Path) -> None:
    with attached(image) as device:
        assert converted_on(device).code == 0
    with on(image) as root:
        run("/usr/bin/btrfs", "subvolume", "create", str(root / "thesis"))
        (root / "srv/new").write_text("since\n")
    with attached(image) as device:
        back = command("run", "--back", "--device", device, "--yes")
        assert back.code == 0, back
        assert "  /thesis (a subvolume, all of it)\n" in back.out
        assert "/..\n" not in back.out


def test_what_is_mounted_is_refused(image: Path, tmp_path: Path) -> None:
    (tmp_path / "mnt").mkdir()
    with attached(image) as device:
        run("mount", device, str(tmp_path / "mnt"))
        try:
            _refused(device, "is mounted on")
        finally:
            run("umount", str(tmp_path / "mnt"))


def test_too_little_space_is_refused(image: Path) -> None:
    with on(image) as root:
        run("fallocate", "-l", str(LEAST_BYTES - (2 << 30)), str(root / "big"))
    with attached(image) as device:
        _refused(device, "free space")


def test_old_programs_are_refused(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    version = run("btrfs", "--version")
    if "v6.2" not in version:
        pytest.skip(f"the host's are newer than the gate: {version}")
    with attached(image) as device:
        _refused(device, "6.2 is too old")


# Without the root directory nothing has a name, and all of the disk is looked through before.
@pytest.mark.parametrize("inode", ["/srv", pytest.param("<2>", marks=pytest.mark.rare)])
def test_damage_that_needs_a_person_stops_it(inode: str, image: Path) -> None:
    run("debugfs", "-w", "-R", f"clri {inode}", str(image))
    with attached(image) as device:
        _refused(device, "e2fsck could not repair", code=1)


def test_nothing_prepared_on_a_btrfs(tmp_path: Path) -> None:
    image = tmp_path / "btrfs.img"
    with image.open("wb") as file:
        file.truncate(256 << 20)
    run("/usr/sbin/mkfs.btrfs", "-q", str(image))
    with attached(image) as device:
        _refused(device, "no conversion was prepared", kind="btrfs")
        back = command("run", "--back", "--device", device, "--yes")
        assert back.code == 3


def test_the_backup_has_to_be_answered_for(attached_image: str) -> None:
    done = command("run", "--device", attached_image, "--yes")
    assert done.code == 2
    assert "--have-backup" in done.err
    assert kind_of(attached_image) == "ext4"


def test_the_counters_of_a_program_are_said_in_tenths_and_never_beyond_all() -> None:
    said: list[str] = []
    heard = btrfs_convert.progress(said.append)
    for line in (
        "Create btrfs metadata",
        "Copy inodes [.] [         1/     20052]",
        "Copy inodes [o] [      7888/     20052]",
        "Copy inodes [O] [      7900/     20052]",
        "Copy inodes [o] [     30000/     20052]",
        "Copy inodes [o] [         0/         0]",
    ):
        heard(line)
    assert said == ["Copy inodes: 0 %", "Copy inodes: 30 %", "Copy inodes: 100 %"]
