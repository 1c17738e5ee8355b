# SPDX-License-Identifier: GPL-2.0-or-later
"""`--device`: a machine that does not run, found on its disk. Nothing of it stays mounted."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.attached import (
    add_line,
    attached,
    command,
    done,
    ext4,
    nothing_stays,  # noqa: F401 - a fixture: being here is enough
    off,
    refused,
    start,
    uuid_of,
)
from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import Fault, faulty, in_child
from tests.kernel.machine import KERNEL, LAYOUTS, Machine, run


def _leftovers(process: int) -> list[Path]:
    return list(Path("/run").glob(f"fs-rollback.{process}.*"))


def test_rollback_and_undo_in_each_layout(machine: Machine) -> None:
    name = machine.upgrade()
    machine.use(1)
    with off(machine) as device:
        rows = done(device, "list", "--json").json["snapshots"]
        assert [row["name"] for row in rows] == [name]
        assert name in done(device, "show", "latest").out
        status = command(device, "status", "--json").json
        assert (status["device"], status["snapshots"]) == (device, 1)
        assert status["next"] == status["running"]
        assert done(device, "rollback", "--dry-run", "--json").json["target"] == name
    assert machine.read("usr/bin/app") == "version 2\n"
    with off(machine) as device:
        done(device, "rollback", "--yes")
        assert command(device, "status", "--json").json["waiting"] == "reboot"
        assert not Path("/sys/fs/btrfs", machine.uuid).exists(), "it can be unplugged"
    assert machine.read("usr/bin/app") == "version 1\n"
    assert machine.read("root/.profile") == "user's 1\n"
    with off(machine) as device:
        done(device, "undo", "--yes")
    assert machine.read("usr/bin/app") == "version 2\n"


def test_a_tag_instead_of_a_device(named: Machine) -> None:
    name = named.upgrade()
    run("btrfs", "filesystem", "label", str(named.top), "a disk")
    with off(named):
        link = f"/dev/disk/by-uuid/{named.uuid}"
        for tag in (f"UUID={named.uuid}", f'UUID="{named.uuid}"', "LABEL=a disk", link):
            assert name in done(tag, "list", "--json").out
        assert "there is no device with LABEL=none" in refused("LABEL=none", code=2)


def test_a_filesystem_on_two_disks(named: Machine, tmp_path: Path) -> None:
    named.upgrade()
    run("btrfs", "filesystem", "label", str(named.top), "two disks")
    with (tmp_path / "second.img").open("wb") as file:
        file.truncate(256 << 20)
    with attached(tmp_path / "second.img") as second:
        run("btrfs", "device", "add", second, str(named.top))
        first = run("findmnt", "-nvo", "SOURCE", str(named.top)).strip()
        named.destroy()
        run("btrfs", "device", "scan", "--forget", first, second)
        with attached(named.image) as first:
            assert "btrfs filesystem show" in refused(second, code=1), "one is not yet known"
            run("btrfs", "device", "scan", first, second)
            for device in (first, second, "LABEL=two disks"):
                assert len(done(device, "list", "--json").json["snapshots"]) == 1
            done(second, "rollback", "--yes")
            run("btrfs", "device", "scan", "--forget", first, second)


def _move_boot(machine: Machine, boot: Path, prefix: str) -> None:
    """Leave an empty /boot in the root; what was in it lies elsewhere, with a second kernel.

    `prefix` is where the boot loader finds the files: GRUB reads btrfs from the top level.
    """
    options = machine.read("etc/kernel/cmdline").strip()
    for kernel in (KERNEL, "6.9.0-1"):
        machine.write(boot, f"vmlinuz-{kernel}", "kernel\n")
        text = f"version {kernel}\nlinux {prefix}/vmlinuz-{kernel}\noptions {options}\n"
        machine.write(boot, f"loader/entries/abc-{kernel}.conf", text)
    run("find", str(machine.root / "boot"), "-mindepth", "1", "-delete")


def _sees_boot(device: str) -> bool:
    """Whether a rollback sees the second kernel, which the snapshot has no modules for."""
    warnings = done(device, "rollback", "--dry-run", "--json").json["warnings"]
    return any("6.9.0-1" in warning for warning in warnings)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_boot_on_ext4_is_found_through_fstab(
    make_machine: MakeMachine, layout: str, tmp_path: Path
) -> None:
    machine = make_machine(layout)
    with ext4(tmp_path / "boot.img") as partition:
        place = tmp_path / "boot"
        place.mkdir()
        run("mount", partition, str(place))
        _move_boot(machine, place, "")
        run("umount", str(place))
        add_line(machine, f"UUID={uuid_of(partition)} /boot ext4 defaults,x-systemd.automount 1 2")
        machine.upgrade()
        with off(machine) as device:
            assert _sees_boot(device)
            done(device, "rollback", "--yes")
        assert machine.read("usr/bin/app") == "version 1\n"
        run("e2fsck", "-fn", partition)


@pytest.mark.parametrize("spec", ["UUID", "the root's"])
def test_boot_on_a_subvolume_is_found_through_fstab(named: Machine, spec: str) -> None:
    boot = named.top / "boot"
    btrfsutil.create_subvolume(str(boot))
    _move_boot(named, boot, "/boot")
    table = named.root / "etc/fstab"
    add_line(named, f"UUID={named.uuid} /boot btrfs subvol=/boot,compress=no 0 0")
    if spec != "UUID":
        table.write_text(table.read_text().replace(f"UUID={named.uuid}", "/dev/sda3"))
    named.upgrade()
    with off(named) as device:
        assert _sees_boot(device)
        done(device, "rollback", "--yes")


def test_a_bind_mount_and_a_mount_below_a_mount(named: Machine, tmp_path: Path) -> None:
    boot = named.top / "boot"
    btrfsutil.create_subvolume(str(boot))
    (boot / "efi").mkdir()
    add_line(named, "/boot/efi/EFI/here /efi none bind 0 0")
    with ext4(tmp_path / "esp.img") as partition:
        place = tmp_path / "esp"
        place.mkdir()
        run("mount", partition, str(place))
        (place / "EFI/here/loader/entries").mkdir(parents=True)
        (place / "EFI/here/loader/entries/x.conf").write_text(
            f"title X\noptions root=UUID={named.uuid} rootflags=subvol=other\n"
        )
        run("umount", str(place))
        add_line(named, f"UUID={uuid_of(partition)} /boot/efi ext4 defaults 0 0")
        add_line(named, f"UUID={named.uuid} /boot btrfs subvol=boot 0 0")
        (named.root / "efi").mkdir()
        with off(named) as device:
            links = command(device, "check", "--json").json["links"]
            assert any("/efi/loader/entries/x.conf" in link["text"] for link in links), links


def test_no_link_leads_a_mount_out_of_the_tree(named: Machine, tmp_path: Path) -> None:
    boot = named.top / "boot"
    btrfsutil.create_subvolume(str(boot))
    _move_boot(named, boot, "/boot")
    add_line(named, f"UUID={named.uuid} /boot btrfs subvol=boot 0 0")
    outside = tmp_path / "outside"
    outside.mkdir()
    (named.root / "boot").rmdir()
    (named.root / "boot").symlink_to(outside)
    named.upgrade()
    with off(named) as device:
        said = refused(device, "list")
        assert "/etc/fstab line 4" in said
        assert "cannot open /boot of that system: No such file or directory" in said
    (named.root / "boot").unlink()
    (named.root / "boot").symlink_to("../../../../../../../../../srv/boot")
    (named.root / "srv/boot").mkdir(parents=True)
    with off(named) as device:
        assert _sees_boot(device)


def test_a_broken_fstab_where_the_command_line_knows(named: Machine) -> None:
    named.upgrade()
    for text in ("", "subvol=rot\n", f"UUID={named.uuid} / btrfs subvol=rot 0 0\n"):
        (named.root / "etc/fstab").write_text(text)
        with off(named) as device:
            assert len(done(device, "list", "--json").json["snapshots"]) == 1
    (named.root / "etc/kernel/cmdline").unlink()
    with off(named) as device:
        assert "names itself" in refused(device)


def test_a_filesystem_that_is_in_use_elsewhere(named: Machine) -> None:
    named.upgrade()
    device = run("findmnt", "-no", "SOURCE", str(named.top)).strip()
    done(device, "rollback", "--yes")
    assert (named.top / "root/usr/bin/app").read_text() == "version 1\n"


@pytest.mark.parametrize("point", range(0, 14, 3))
def test_an_interrupted_rollback_is_settled(named: Machine, point: int) -> None:
    name = named.upgrade()
    work = lambda: named.roll_back(name, faulty(point, Fault.KILL_AFTER))  # noqa: E731
    assert in_child(work) == signal.SIGKILL
    with off(named) as device:
        assert command(device, "status", "--json").code == 1
        done(device, "create")
        # Taken back, or finished: then it waits for the machine itself.
        committed = bool(done(device, "list", "--json").out.count('"replaced"'))
        waiting = command(device, "status", "--json").json["waiting"]
        assert waiting == ("reboot" if committed else "nothing")
    assert named.read("usr/bin/app") in ("version 1\n", "version 2\n")
    assert not [path for path in named.subvolume_paths() if "new_root" in path]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_in_the_middle(named: Machine, number: signal.Signals) -> None:
    named.upgrade()
    for index in range(300):
        named.write(named.root, f"home/user/{index}", "x" * 5000)
    with off(named) as device:
        for pause in (0.15, 0.3, 0.45, 0.6):
            command(device, "undo", "--yes")  # what the last one may have come to
            process = start(device, "rollback", "latest", "--yes")
            time.sleep(pause)
            assert "/run/fs-rollback" not in Path("/proc/self/mountinfo").read_text()
            process.send_signal(number)
            err = process.communicate(timeout=60)[1]
            assert process.returncode in (0, 130, -number)
            # Killed by it, the signal came before the command's own first line.
            assert process.returncode == -number or "KeyboardInterrupt" not in err
            for path in _leftovers(process.pid):
                assert number == signal.SIGKILL or process.returncode < 0
                assert path.stat().st_mode & 0o777 == 0o700
                path.rmdir()  # it is empty, and nothing is mounted on it
            _wait_until_unused(named.uuid)
            assert KERNEL in done(device, "show", "latest", "--json").out
        done(device, "create")
    assert named.read("usr/bin/app") in ("version 1\n", "version 2\n")


def _wait_until_unused(uuid: str) -> None:
    """The namespace ends with the last process in it, and a cp may outlive the command a little."""
    deadline = time.monotonic() + 30
    while Path("/sys/fs/btrfs", uuid).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
