# SPDX-License-Identifier: GPL-2.0-or-later
"""The whole way on one disk, with btrfs-convert(8) itself: ext4, btrfs, and the named layout."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import filling, manifest
from tests.kernel import ext4_prepared
from tests.kernel.attached import attached
from tests.kernel.boots import BootMachine
from tests.kernel.commands import fs_rollback
from tests.kernel.converted import Converted
from tests.kernel.ext4_images import NEW, OLD, UUID, Tools
from tests.kernel.ext4_prepared import ENTRY, mounted
from tests.kernel.machine import Machine, _empty_rpmdb
from tests.kernel.test_check import IMAGE

pytestmark = pytest.mark.usefixtures("btrfs_progs")

# What the way changes on purpose, and times that lie outside of what btrfs-convert(8) keeps.
_OWN = (
    ".", "etc", "etc/fstab", "etc/kernel", "etc/kernel/cmdline", "etc/default", "etc/default/grub",
    "etc/dracut.conf.d", "boot", "fs-snapshots", "ext2_saved", "lost+found", "home/filling/times",
    "var/lib/rpm",
)  # fmt: skip


@pytest.fixture(name="image")
def _image(ext4_image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the disk of a machine with users' files of every kind, and the stand-in for dracut."""
    tools = tmp_path / "tools"
    ext4_prepared.write_tools(tools, Tools(progs=""))
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}:/usr/sbin:/sbin")
    with mounted(ext4_image, tmp_path) as root:
        ext4_prepared.fill(root)
        for version in (OLD, NEW):
            (root / f"boot/vmlinuz-{version}").write_bytes(IMAGE)
        (root / "usr/lib/systemd").mkdir()
        (root / "usr/lib/systemd/systemd").write_text("#!\n")
        (root / "usr/lib/systemd/systemd").chmod(0o755)
        (root / "var/lib").mkdir(parents=True)
        shutil.copytree(_empty_rpmdb(tmp_path), root / "var/lib/rpm")
        (root / "home").mkdir()
        filling.fill(root / "home/filling")
    (tmp_path / "root").rmdir()
    return ext4_image


@pytest.fixture(name="machine")
def _machine(image: Path, tmp_path: Path) -> Iterator[Converted]:
    """Give the machine on that disk, to be booted once it is btrfs."""
    machine = Machine(tmp_path, "top-level")
    machine.image, machine.uuid = image, UUID
    machine.top.mkdir()
    found = Converted(BootMachine(machine, "top level"))
    yield found
    found.unmount()
    machine.destroy()


def _files(root: Path) -> manifest.Manifest:
    found = manifest.manifest(root, exclude=_OWN)
    if (root / "home").is_mount():
        inside = manifest.manifest(root / "home", exclude=["filling/times"])
        for path, entry in inside.items():
            if "same as" in entry:
                entry["same as"] = f"home/{entry['same as']}"
            found["home" if path == "." else f"home/{path}"] = entry
    return found


def test_the_whole_way(machine: Converted, image: Path, tmp_path: Path) -> None:
    with mounted(image, tmp_path) as root:
        before = _files(root)
        yes = ("--yes", "--have-backup")
        prepared = fs_rollback(root, "convert", "prepare", "--at-next-boot", *yes)
        assert prepared.code == 0, prepared
        assert "Now reboot: that boot converts the root" in prepared.out
        again = fs_rollback(root, "convert", "check", "--have-backup", "--json").json
        assert again["verdict"] == "ok", again
    with attached(image) as device:
        done = fs_rollback(Path("/"), "convert", "run", "--device", device, *yes)
        assert done.code == 0, done
    machine.start()
    assert manifest.compare(before, _files(machine.root)) == []
    for words, part in (
        (("abort", "--yes"), "the root is already btrfs: this command undoes only the preparation"),
        (("prepare", "--yes", "--have-backup"), "filesystem: "),
    ):
        refused = machine.command("convert", *words)
        assert refused.code == 3, refused
        assert part in refused.err
    assert f"convert run --back --device UUID={UUID}" in machine.command("convert", "abort").err
    assert machine.command("create", "-m", "a snapshot before anything is finished").code == 0
    done = machine.finish("--remove-ext4", "--defragment", "--balance", "--json")
    assert done.code == 0, done
    assert done.json["finished"] == ["balance", "remove-ext4", "defragment"]
    assert not list((machine.root / "boot").glob("*before-btrfs"))
    assert not list((machine.root / "boot").glob("*convert*"))
    machine.leave_top_level()
    # Copied with cp(1), as in any rollback: it has no eye for what chattr(1) sets.
    assert manifest.compare(before, _files(machine.root), ignore=["attributes"]) == []
    done = machine.finish("--layout", "--json")
    assert done.code == 0, done
    machine.start()
    assert manifest.compare(before, _files(machine.root), ignore=["attributes"]) == []
    assert machine.subvolumes() == ["boot", "home", "root"]
    options = machine.machine.read(ENTRY).rpartition("options ")[2]
    assert options == f'root=UUID={UUID}  ro quiet rootflags=noatime,subvol=root a="b c"\n'
    check = machine.command("check", "--json").json
    assert "broken" not in {link["grade"] for link in check["links"]}, check
