# SPDX-License-Identifier: GPL-2.0-or-later
"""The filesystem of the root under every name that a device can have, and with several devices."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Optional

import btrfsutil
import pytest

from fs_rollback.core.boot.findings import Grade
from fs_rollback.core.boot.layout import Kind
from fs_rollback.system.check import next_boot
from fs_rollback.system.linux import process
from fs_rollback.system.machine import host
from fs_rollback.system.root import root_lines
from tests.kernel.attached import attached, command, done, off
from tests.kernel.boots import A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done as done_on_tree
from tests.kernel.commands import fs_rollback
from tests.kernel.machine import Machine, run

__all__ = ["make_boot"]  # a fixture
_NAMES = ("/dev/mapper", "/dev/disk")
_PARTUUID = "0a1b2c3d-0102-0304-0506-0708090a0b0c"


@contextmanager
def _second_device(machine: Machine, *, size_bytes: int = 300 << 20) -> Iterator[str]:
    """Give the filesystem of a machine one more device."""
    image = machine.image.parent / "second.img"
    with image.open("wb") as file:
        file.truncate(size_bytes)
    with attached(image) as device:
        run("btrfs", "device", "add", "-f", device, str(machine.top))
        try:
            yield device
        finally:
            machine.destroy()
            run("btrfs", "device", "scan", "--forget", device)


@contextmanager
def _names() -> Iterator[None]:
    """Have the folders of udev's names empty and for these tests alone."""
    with ExitStack() as stack:
        for place in _NAMES:
            os.makedirs(place, exist_ok=True)
            run("mount", "-t", "tmpfs", "none", place)
            stack.callback(run, "umount", place)
        yield


def _link(path: str, device: str) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    os.symlink(device, path)


def _answers(root: Path, *specs: str) -> list[Optional[bool]]:
    with host.opened(str(root)) as machine:
        return [machine.identity.is_meant(spec) for spec in specs]


def _source(machine: Machine) -> str:
    return run("findmnt", "-nvo", "SOURCE", str(machine.root)).strip()


def test_any_name_of_any_device(named: Machine) -> None:
    run("btrfs", "filesystem", "label", str(named.top), "my root")
    with _second_device(named) as second, _names():
        first = _source(named)
        other = next(
            d for d in sorted(Path("/dev").glob("loop[0-9]*")) if str(d) not in (first, second)
        )
        _link("/dev/mapper/vg-root", second)
        _link(f"/dev/disk/by-partuuid/{_PARTUUID}", second)
        _link("/dev/disk/by-partlabel/the\\x20root", first)
        _link("/dev/disk/by-id/ata-DISK_1-part3", first)
        ours = (
            f"UUID={named.uuid}", f"UUID={named.uuid.upper()}", f'UUID="{named.uuid}"',
            f"/dev/disk/by-uuid/{named.uuid}", first, second, "/dev/root", "/dev/mapper/vg-root",
            "LABEL=my root", 'LABEL="my root"', "/dev/disk/by-label/my\\x20root",
            f"PARTUUID={_PARTUUID}", f"PARTUUID={_PARTUUID.upper()}",
            f"/dev/disk/by-partuuid/{_PARTUUID}", "PARTLABEL=the root",
            "/dev/disk/by-id/ata-DISK_1-part3", "/dev/disk/../" + first[5:],
            "{}:{}".format(*(f(os.stat(second).st_rdev) for f in (os.major, os.minor))),
        )  # fmt: skip
        assert dict(zip(ours, _answers(named.root, *ours))) == dict.fromkeys(ours, True)
        others = (
            f"UUID={named.uuid[:-1]}x", "LABEL=my", "LABEL=arch", "PARTUUID=1-1", "PARTLABEL=x",
            "/dev/null", "live:CDLABEL=x", "nfs:server:/x", "/srv/image", "server:/share",
            "//server/share", "7:255",
        )  # fmt: skip
        assert dict(zip(others, _answers(named.root, *others))) == dict.fromkeys(others, False)
        # Not here, or, as this is not the machine that runs, perhaps another disk than there.
        unknown = (
            "/dev/mapper/luks-other", "/dev/sda2", "/dev/disk/by-path/pci-1", "gpt-auto",
            str(other), "fstab",
        )  # fmt: skip
        assert dict(zip(unknown, _answers(named.root, *unknown))) == dict.fromkeys(unknown)
        # Another filesystem has the label, too: which one is meant cannot be told.
        _link("/dev/disk/by-label/my\\x20root", "/dev/null")
        assert _answers(named.root, "LABEL=my root") == [None]


def test_a_uuid_starts_no_process(named: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "run", None)
    with host.opened(str(named.root)) as machine:
        assert root_lines.read_layout(machine).kind is Kind.NAMED
        assert all(link.grade is not Grade.FATAL for link in next_boot.links(machine)[5:])


@pytest.mark.parametrize("spec", ["second", "LABEL=fedora", "/dev/mapper/root"])
def test_a_root_that_is_named_otherwise_than_its_mount(make_boot: MakeBoot, spec: str) -> None:
    boot = make_boot("ext4")
    machine = boot.machine
    run("btrfs", "filesystem", "label", str(machine.top), "fedora")
    with _second_device(machine) as second, _names():
        _link("/dev/mapper/root", second)
        given = second if spec == "second" else spec
        for file in (machine.root / "etc/fstab", machine.root / "etc/kernel/cmdline"):
            file.write_text(file.read_text().replace(f"UUID={machine.uuid}", given))
        _name(boot, A, given)
        name, problems = boot.transact(lambda: _install_b(boot, given))
        assert not problems
        boot.remove_modules(A)  # the snapshot has them
        assert boot.ours(), "the snapshot has an entry in the boot menu"
        links = fs_rollback(machine.root, "check", "--json").json["links"]
        said = {link["name"]: link for link in links}
        assert said["command line"]["grade"] == said["kernel updates"]["grade"] == "ok"
        assert all(link["grade"] == "ok" for link in links if link["name"] == "fstab")
        done_on_tree(machine.root, "rollback", name, "--yes")
        assert boot.default_name() == f"abc-{A}"
        boot.unmount()


def _name(boot: BootMachine, kernel: str, spec: str) -> None:
    entry = boot.entry_of(kernel)
    entry.write_text(entry.read_text().replace(f"UUID={boot.machine.uuid}", spec))


def _install_b(boot: BootMachine, spec: str) -> None:
    boot.install_b()
    _name(boot, B, spec)


@pytest.mark.parametrize(
    "spec", ["/dev/mapper/luks-4f1b1a1e-0c52-4c39-9d0c-3d1f5e6a7b8c", "/dev/nvme0n1p3"]
)
def test_the_device_that_a_rescue_system_calls_otherwise(named: Machine, spec: str) -> None:
    """LUKS that was opened under another name, or another order of the disks."""
    named.upgrade()
    for path in ("etc/fstab", "etc/kernel/cmdline", f"boot/loader/entries/abc-{A}.conf"):
        file = named.root / path
        file.write_text(file.read_text().replace(f"UUID={named.uuid}", spec))
    with off(named) as device:
        assert command(device, "status", "--json").json["layout"] == "named: subvol=root"
        links = command(device, "check", "--json").json["links"]
        assert {x["name"] for x in links if x["grade"] == "broken"} <= {"kernel", "init"}, links
        done(device, "rollback", "--yes")
    assert named.read("usr/bin/app") == "version 1\n"


def test_degraded_as_an_option_is_not_a_missing_device(named: Machine) -> None:
    """A RAID1 that may start degraded: whole, with a device missing, and repaired."""

    def mount(device: str) -> None:
        run("mount", "-o", "degraded,subvolid=5", device, str(named.top))
        run("mount", "-o", "degraded,subvol=root", device, str(named.root))
        assert "degraded" in run("findmnt", "-no", "FS-OPTIONS", str(named.root))

    named.upgrade()
    table = named.root / "etc/fstab"
    table.write_text(table.read_text().replace("subvol=root", "subvol=root,degraded"))
    with _second_device(named):
        run("btrfs", "balance", "start", "-mconvert=raid1", "-dconvert=raid1", str(named.top))
        run("umount", str(named.root), str(named.top))
        with attached(named.image) as device:
            mount(device)
            assert done_on_tree(named.root, "rollback", "--dry-run")
            named.destroy()
    with attached(named.image) as device:
        mount(device)
        ended = fs_rollback(named.root, "rollback", "--dry-run")
        ended.expect_refusal("a device missing (1 of 2)", "btrfs-replace(8)")
        links = fs_rollback(named.root, "check", "--json").json["links"]
        assert [link["grade"] for link in links if link["name"] == "devices"] == ["warning"]
        status = fs_rollback(named.root, "status", "--json")
        assert any("a device missing (1 of 2)" in line for line in status.json["attention"])
        third = named.image.parent / "third.img"
        with third.open("wb") as file:
            file.truncate(512 << 20)
        with attached(third) as new:
            run("btrfs", "device", "add", "-f", new, str(named.top))
            run("btrfs", "device", "remove", "missing", str(named.top))
            assert "degraded" in run("findmnt", "-no", "FS-OPTIONS", str(named.root))
            assert done_on_tree(named.root, "rollback", "--dry-run")
            named.destroy()
            run("btrfs", "device", "scan", "--forget", new, device)


@pytest.mark.parametrize("number", ["0", "0x0", "5", "0x5", "005", "id", "0xid", "0oct"])
def test_an_id_is_a_number_however_it_is_written(named: Machine, number: str) -> None:
    home = btrfsutil.subvolume_id(str(named.top / "home"))
    spelled = {"id": str(home), "0xid": hex(home), "0oct": f"0{home:o}"}.get(number, number)
    with (named.root / "etc/fstab").open("a") as file:
        file.write(f"UUID={named.uuid} /mnt btrfs subvolid={spelled} 0 0\n")
    (named.root / "mnt").mkdir(exist_ok=True)
    with host.opened(str(named.root)) as machine:
        wanted = home if number in ("id", "0xid", "0oct") else 5
        assert root_lines.mounted_by_id(machine) == {wanted}
        fstab = [link for link in next_boot.links(machine) if link.name == "fstab"]
        assert {link.grade for link in fstab} == {Grade.OK}, fstab
    # The kernel agrees.
    run("mount", "-o", f"subvolid={spelled}", _source(named), str(named.root / "mnt"))
    mounted = btrfsutil.subvolume_id(str(named.root / "mnt"))
    run("umount", str(named.root / "mnt"))
    assert mounted == wanted
