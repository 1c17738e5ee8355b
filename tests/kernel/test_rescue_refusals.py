# SPDX-License-Identifier: GPL-2.0-or-later
"""`--device` refused: no such device, no machine on it, more than one, or what it needs is gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel import commands
from tests.kernel.attached import (
    add_line,
    arguments,
    attached,
    command,
    done,
    ext4,
    nothing_stays,  # noqa: F401 - a fixture: being here is enough
    off,
    refused,
)
from tests.kernel.faults import state
from tests.kernel.machine import Machine, run


def test_a_tag_that_two_disks_have(named: Machine, tmp_path: Path) -> None:
    run("btrfs", "filesystem", "label", str(named.top), "twice")
    with ext4(tmp_path / "other.img", "twice") as other, off(named) as device:
        said = refused("LABEL=twice")
        assert "several devices have LABEL=twice" in said
        assert other in said
        assert device in said


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ("UUID=00000000-0000-4000-8000-000000000000", "there is no device with UUID=0000"),
        ("/dev/sdz9", "may be another disk"),
        pytest.param(
            "/dev/mapper/gone", "there is no device /dev/mapper/gone", marks=pytest.mark.rare
        ),
        ("server:/boot", "there is no device server:/boot"),
    ],
)
def test_what_fstab_mounts_is_not_there(named: Machine, spec: str, reason: str) -> None:
    named.upgrade()
    table = named.root / "etc/fstab"
    text = table.read_text()
    add_line(named, f"{spec} /boot ext4 defaults 0 0")
    with off(named) as device:
        said = refused(device, "list")
        assert f"/etc/fstab line 4 mounts {spec} on /boot" in said
        assert reason in said
    for option in ("nofail", "noauto"):
        table.write_text(text)
        add_line(named, f"{spec} /boot/efi ext4 defaults,{option} 0 0")
        add_line(named, f"{spec} /home/user ext4 defaults 0 0")
        with off(named) as device:
            ended = done(device, "list")
            assert ended.err.count("\n") == 1
            assert f"/etc/fstab line 4 mounts {spec} on /boot/efi" in ended.err
            done(device, "rollback", "--yes")
        named.reboot()
        with off(named) as device:
            done(device, "undo", "--yes")
    table.write_text(text)
    add_line(named, f"{spec} /boot ext4 noauto 0 0")
    with off(named) as device:
        said = command(device, "rollback", "--yes").err
        assert "it is not mounted here" in said
        assert "--root DIR instead of --device" in said
        assert "/run/" not in said, "that directory is gone when anybody reads it"


def test_two_systems_on_one_filesystem(named: Machine) -> None:
    named.upgrade()
    other = named.top / "root00"
    btrfsutil.create_snapshot(str(named.top / "root"), str(other))
    with off(named) as device:
        done(device, "list")  # a copy names the original, not itself
    table = other / "etc/fstab"
    table.write_text(table.read_text().replace("subvol=root,", "subvol=root00,"))
    with off(named) as device:
        said = refused(device, "rollback", "--yes")
        assert f"{device} contains several systems: root, root00" in said
        assert f"mount -o subvol=root {device} /mnt" in said
    os.chown(other, 1000, 1000)  # as if a user had made it
    with off(named) as device:
        done(device, "rollback", "--yes")


def test_a_copy_of_another_disk_is_no_system_of_this_one(named: Machine) -> None:
    for path in ("etc/fstab", "etc/kernel/cmdline"):
        text = named.read(path).replace(named.uuid, "00000000-0000-4000-8000-000000000000")
        (named.root / path).write_text(text)
    with off(named) as device:
        said = refused(device, "status")
        assert f"no subvolume on {device} names itself as /" in said
        assert "found: root\n" in said


def test_what_is_no_machine(tmp_path: Path) -> None:
    assert "there is no device /dev/nothing" in refused("/dev/nothing", code=2)
    assert "is not a block device" in refused(str(tmp_path), code=2)
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(1 << 20))
    with attached(image) as device:
        assert "contains nothing that blkid(8) recognizes" in refused(device)
    image.write_bytes(b"LUKS\xba\xbe\0\1".ljust(1 << 20, b"\0"))
    with attached(image) as device:
        said = refused(device)
        assert f"{device} is crypto_LUKS, not btrfs" in said
        assert f"cryptsetup open {device} NAME" in said
    image.write_bytes(bytes(4 << 20))
    subprocess.run(["sfdisk", "-q", image], input="label: gpt\n,,\n", text=True, check=True)
    with attached(image) as device:
        assert "is a disk with partitions" in refused(device)
    with ext4(tmp_path / "ext4.img") as device:
        assert f"{device} is ext4, not btrfs" in refused(device)
    image.write_bytes(b"")
    os.truncate(image, 256 << 20)
    run("mkfs.btrfs", "--quiet", str(image))
    with attached(image) as device:
        assert f"{device} contains no system" in refused(device)


def test_a_disk_that_can_only_be_read(named: Machine) -> None:
    name = named.upgrade()
    with off(named, "--read-only") as device:
        assert [row["name"] for row in done(device, "list", "--json").json["snapshots"]] == [name]
        assert f"the filesystem on {device} is read-only" in refused(device, "rollback", "--yes")


def test_a_filesystem_that_is_mounted_read_only_stays_so(named: Machine) -> None:
    named.upgrade()
    with off(named) as device:
        run("mount", "-o", "ro,subvolid=5", device, str(named.top))
        try:
            assert len(done(device, "list", "--json").json["snapshots"]) == 1
            said = refused(device, "rollback", "--yes")
            assert f"the filesystem on {device} is read-only" in said
            options = run("findmnt", "-no", "FS-OPTIONS", str(named.top))
            assert options.startswith("ro,")
        finally:
            run("umount", str(named.top))


def test_the_running_system(named: Machine) -> None:
    """With everything of this system bound over it, the machine's root is the running one."""
    named.upgrade()
    device = run("findmnt", "-no", "SOURCE", str(named.top)).strip()
    script = """set -e
        cd "$1"; shift
        for name in $(ls /); do
            if [ -L "/$name" ]; then [ -e "$name" ] || ln -s "$(readlink "/$name")" "$name"
            elif [ -d "/$name" ]; then mkdir -p "$name"; mount --rbind "/$name" "$name"; fi
        done
        exec chroot . "$@" """
    rollback = arguments(device, ("rollback", "--yes"))
    before = state(named)
    ended = subprocess.run(
        ("unshare", "-m", "sh", "-c", script, "sh", str(named.root), *rollback),
        capture_output=True,
        text=True,
        check=False,
        env=commands.environment(),
    )
    assert ended.returncode == 3, ended
    assert f"{device} is the running system's own filesystem" in ended.stderr
    after = state(named)
    assert (after["subvolumes"], after["store"]) == (before["subvolumes"], before["store"])


def test_usage_and_rights() -> None:
    words = ("list", "--root", "/mnt")
    assert "not allowed with argument" in command("/dev/null", *words).err
    ended = subprocess.run(
        [sys.executable, "-c", f"import os, sys; {commands.LOAD_ALL}"
         " from fs_rollback.cli.main import main; os.setuid(65534);"
         " sys.exit(main(['list', '--device', '/dev/null']))"],
        capture_output=True, text=True, check=False, env=commands.environment(), cwd="/",
    )  # fmt: skip
    assert ended.returncode == 1
    assert ended.stderr == (
        "fs-rollback: must be run as root: sudo fs-rollback list --device /dev/null\n"
    )


def test_a_var_of_its_own_is_mounted_to_be_seen(named: Machine) -> None:
    named.upgrade()
    btrfsutil.create_subvolume(str(named.top / "var"))
    run("cp", "-a", f"{named.root}/var/.", str(named.top / "var"))
    run("rm", "-r", str(named.root / "var/lib/rpm"))
    add_line(named, f"UUID={named.uuid} /var btrfs subvol=var 0 0")
    with off(named) as device:
        said = refused(device, "rollback", "--yes")
        assert "/var/lib/rpm is a subvolume or filesystem of its own" in said
