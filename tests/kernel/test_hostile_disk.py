# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk that somebody else has filled, in a rescue system: nothing outside of it is changed.

Whoever made it knows this program, and where the rescue system has what.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fs_rollback.errors import KernelError
from fs_rollback.system.loader import efi
from tests.kernel.attached import (
    add_line,
    attached,
    command,
    ext4,
    nothing_stays,  # noqa: F401 - a fixture: being here is enough
    off,
    start,
    uuid_of,
)
from tests.kernel.machine import GRUB_CFG, KERNEL, Machine, run

_ENVIRONMENT = "# GRUB Environment Block\nsaved_entry=mine\n".ljust(1024, "#")
_SAVED = "0" * 64  # such a name has a saved kernel


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A directory of the rescue system, with what is there in such a directory."""
    directory = tmp_path / "outside"
    for name, text in {
        "mine": "mine\n",
        "etc/fstab": "UUID=mine / ext4 defaults 0 1\n",
        "grubenv": _ENVIRONMENT,
        _SAVED: "mine\n",
    }.items():
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text)
    (directory / "usr/lib/modules").mkdir(parents=True)
    return directory


def _state(directory: Path) -> dict[str, str]:
    """Return the content of all files, and where the directories are."""
    paths = directory.rglob("*")
    return {str(p): "" if p.is_dir() else p.read_bytes().decode("latin-1") for p in paths}


def _copy_below(directory: Path, outside: Path) -> Path:
    """Make the place that a link to `outside` leads to where `directory` is taken for /."""
    inside = directory / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    return inside


def test_boot_entries_behind_a_link(named: Machine, outside: Path) -> None:
    before = _state(outside)
    entries = named.root / "boot/loader/entries"
    text = (entries / f"abc-{KERNEL}.conf").read_text()
    for tree in (named.root, named.root / "boot"):
        entry = _copy_below(tree, outside) / f"abc-{KERNEL}.conf"
        entry.write_text(f"{text}install evil /bin/sh\n")
    run("rm", "-r", str(entries))
    entries.symlink_to(outside)
    named.write(named.root, "boot/grub2/grub.cfg", GRUB_CFG)
    with off(named) as device:
        for words in (("create",), ("try", "latest"), ("prune",), ("rollback", "--yes")):
            command(device, *words)
            assert _state(outside) == before, words


def test_a_boot_loader_s_settings_behind_a_link(
    named: Machine, outside: Path, tmp_path: Path
) -> None:
    """The kernel that is the default does not fit: a rollback has to tell GRUB so."""
    before = _state(outside)
    with ext4(tmp_path / "boot.img") as partition:
        place = tmp_path / "boot"
        place.mkdir()
        run("mount", partition, str(place))
        for kernel in (KERNEL, "6.9.0-1"):
            named.write(place, f"vmlinuz-{kernel}", "kernel\n")
            text = f"version {kernel}\nlinux /vmlinuz-{kernel}\noptions root=UUID={named.uuid}"
            named.write(place, f"loader/entries/abc-{kernel}.conf", f"{text} rootflags=subvol=root")
        inside = _copy_below(place, outside)
        (inside / "grub.cfg").write_text(GRUB_CFG)
        (inside / "grubenv").write_text(_ENVIRONMENT)
        (place / "grub2").symlink_to(outside)
        run("umount", str(place))
        run("find", str(named.root / "boot"), "-mindepth", "1", "-delete")
        add_line(named, f"UUID={uuid_of(partition)} /boot ext4 defaults 0 0")
        named.upgrade()
        with off(named) as device:
            command(device, "rollback", "latest", "--yes")
            command(device, "try", "latest")
    assert _state(outside) == before


def test_saved_kernels_behind_a_link(named: Machine, outside: Path) -> None:
    before = _state(outside)
    named.upgrade()
    store = named.top / "fs-snapshots"
    (_copy_below(store, outside) / _SAVED).write_text("theirs\n")
    (store / "boot").symlink_to(outside)
    with off(named) as device:
        for words in (("create",), ("prune",), ("delete", "latest")):
            command(device, *words)
            assert _state(outside) == before, words


def _steps(outside: Path) -> list[dict[str, Any]]:
    """Return steps that change what is outside if a link is followed, or the name of a parent."""
    up = "tree:" + "../" * 20 + str(outside).lstrip("/")
    roots = {"root": "root", "spare": "link"}
    put = {"step": "PutBackKernel", "kernel": "x", "sources": ["top:root/etc/fstab"]}
    told = {"step": "SetDefaultEntry", "entry": "x", "kernel": "x", "key": "saved_entry"}
    told.update(value="theirs", old="")
    return [
        {"step": "RemoveStubs", **roots, "remove": ["mine"], "directories": []},
        {"step": "RemoveStubs", **roots, "remove": [], "directories": ["theirs"]},
        {"step": "AddMounts", "spare": "link", "lines": ["/dev/sdz1 /mnt ext4 defaults 0 0"]},
        {"step": "MendFstab", "spare": "link", "subvolume": "theirs"},
        {"step": "LendModules", **roots, "kernel": KERNEL},
        {"step": "KeepPaths", "root": "root", "spare": "link", "frozen": "x", "paths": ["/etc"]},
        {"step": "CarrySubvolume", **roots, "path": "theirs"},
        {"step": "ReturnModules", "old": "x", "new": "link", "kernel": "..", "old_uuid": ""},
        {**put, "files": ["top:link/theirs"]},
        {**put, "files": [f"{up}/theirs"]},
        {**put, "files": [f"{up}/new/theirs"]},
        {**put, "files": [f"tree:boot/new/../{'../' * 20}{outside}/theirs"]},
        {**put, "files": ["tree:boot/nowhere/theirs"]},
        {**put, "files": ["tree:" + str(outside) + "/theirs"]},
        {**told, "file": "top:link/grubenv"},
        {**told, "file": f"{up}/grubenv"},
    ]


@pytest.mark.parametrize("number", range(16))
def test_the_steps_of_a_journal(named: Machine, outside: Path, number: int) -> None:
    before = _state(outside)
    (named.top / "link").symlink_to(outside)
    (named.root / "boot/nowhere").symlink_to(outside)  # from there: in the tree it leads nowhere
    named.roll_back(named.upgrade())
    journal = named.top / "fs-snapshots/pending.json"
    data = json.loads(journal.read_text())
    step = _steps(outside)[number]
    data["plan"]["steps"].append(step)
    data["state"] = "prepared"  # what comes after the commit is still to be done
    journal.write_text(json.dumps(data))
    with off(named) as device:
        command(device, "settle")
        assert _state(outside) == before, step
        command(device, "undo", "--yes")
        assert _state(outside) == before, step


@pytest.mark.parametrize("way", ["top:link", "tree:link", "tree:../../.."])
def test_the_state_of_a_guard(named: Machine, outside: Path, way: str) -> None:
    before = _state(outside)
    for tree in (named.top, named.root):
        (tree / "link").symlink_to(outside)
    named.write(named.root, "boot/grub2/grub.cfg", GRUB_CFG)
    named.write(named.root, "boot/grub2/grubenv", _ENVIRONMENT)
    name = named.upgrade()
    place = f"{way}{outside}" if ".." in way else way
    told = dict.fromkeys(("uuid", "title", "boot_id"), "x")
    told.update(snapshot=name, file=f"{place}/grubenv", key="saved_entry", value="mine")
    told.update(once_file=f"{place}/grubenv", once_key="saved_entry", once_value="mine")
    armed = {**told, "entry": f"{place}/mine", "old": "theirs", "time": "2026-11-30T00:00:00Z"}
    state = {"version": 1, "armed": {**armed, "is_unproven": False}, "failure": None}
    (named.top / "fs-snapshots/guard.state").write_text(json.dumps(state))
    with off(named) as device:
        for words in ("guard status", "guard off", "create", "rollback --yes", "delete latest"):
            command(device, *words.split())
            assert _state(outside) == before, words


def test_no_variable_of_the_firmware_but_ours_is_written() -> None:
    for name in ("Boot0000", "../../../../tmp/x"):
        with pytest.raises(KernelError) as caught:
            efi.write(name, "theirs")
        assert caught.value.errno == errno.EPERM, "it is not asked whether that is there"


@contextmanager
def _helpers(directory: Path, proof: Path, *names: str) -> Iterator[None]:
    """Put programs that mount(8) would run for a type of filesystem beside its own."""
    upper, work = directory / "upper", directory / "work"
    work.mkdir()
    upper.mkdir()
    for name in names:
        (upper / name).write_text(f"#!/bin/sh\necho $0 >>{proof}\nexit 1\n")
        (upper / name).chmod(0o755)
    options = f"lowerdir=/usr/sbin,upperdir={upper},workdir={work}"
    run("mount", "-t", "overlay", "-o", options, "overlay", "/usr/sbin")
    try:
        yield
    finally:
        run("umount", "/usr/sbin")


def test_what_fstab_calls_the_type_of_a_filesystem(named: Machine, tmp_path: Path) -> None:
    """With `fuse.bash` mount.fuse3(8) has bash run what is on the device."""
    proof = tmp_path / "proof"
    helpers = ("mount.ext4", "mount.fuse", "mount.fuse.bash")
    named.upgrade()
    with ext4(tmp_path / "boot.img") as partition, _helpers(tmp_path, proof, *helpers):
        place = tmp_path / "boot"
        place.mkdir()
        run("mount", "--internal-only", partition, str(place))
        text = f"options root=UUID={named.uuid} rootflags=subvol=other\n"
        named.write(place, "loader/entries/on-it.conf", text)
        run("umount", str(place))
        line = f"UUID={uuid_of(partition)} /boot"
        table = (named.root / "etc/fstab").read_text()
        for kind in ("ext4", "fuse.bash", "devtmpfs", "overlay", "auto"):
            (named.root / "etc/fstab").write_text(f"{table}{line} {kind} defaults 0 0\n")
            with off(named) as device:
                links = command(device, "check", "--json").json["links"]
                assert any("on-it.conf" in link["text"] for link in links), (kind, links)
            assert not proof.exists(), (kind, proof.read_text())


_READ = (
    "boot/grub2/grub.cfg",
    "boot/grub2/grubenv",
    "boot/loader/entries/x.conf",
    "boot/loader/loader.conf",
    f"boot/vmlinuz-{KERNEL}",
    "etc/PackageKit/PackageKit.conf",
    "etc/default/grub",
    "etc/dnf/dnf.conf",
    "etc/dnf/libdnf5-plugins/actions.conf",
    "etc/dnf/libdnf5-plugins/actions.d/fs-snapshot.actions",
    "etc/dnf/plugins/fs-snapshot.conf",
    "etc/machine-id",
    "etc/os-release",
    "usr/lib/sysimage/libdnf5/transaction_history.sqlite",
    "var/lib/dnf/history.sqlite",
    "var/lib/rpm/.rpm.lock",
    "var/lib/rpm/rpmdb.sqlite",
    "var/lib/rpm/rpmdb.sqlite-wal",
    "swapfile",
)
_IN_STORE = ("log.jsonl", "boot/x.json", "yum_20200101000000.json", "trial_20200101000000.json")
_PATIENCE_S = 60


def _put(kind: str, place: Path) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "endless device":
        os.mknod(place, 0o20666, os.makedev(1, 5))
    elif kind == "link in a circle":
        place.symlink_to(place.name)
    elif kind == "sparse file":
        with place.open("wb") as file:
            file.truncate(1 << 40)


@pytest.mark.parametrize("kind", ["pipe", "endless device", "link in a circle", "sparse file"])
def test_odd_things_in_the_place_of_files(named: Machine, kind: str) -> None:
    """Nobody waits for them, and none fills the memory."""
    add_line(named, "/swapfile none swap defaults 0 0")
    named.upgrade()
    record = next((named.top / "fs-snapshots").glob("yum_*.json"))
    data = json.loads(record.read_text())
    for tool in ("dnf4", "dnf5"):
        # How it ended is looked for in the histories.
        data["transaction"].update(tool=tool, outcome="pending")
        record.write_text(json.dumps(data))
        for path in _READ:
            _put(kind, named.root / path)
        for path in _IN_STORE if tool == "dnf4" else ("guard.state", "pending.json"):
            _put(kind, named.top / "fs-snapshots" / path)
        with off(named) as device:
            for words in ("list", "status", "check", "log", "show latest", "create", "prune"):
                begin = time.monotonic()
                process = start(device, *words.split())
                try:
                    _, err = process.communicate(timeout=_PATIENCE_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()
                    raise
                assert "Traceback" not in err, (words, err)
                assert time.monotonic() < begin + _PATIENCE_S


def test_what_is_in_it_is_never_run(named: Machine, tmp_path: Path) -> None:
    """Its files are data: no program, library, macro or setting of it counts here."""
    proof = tmp_path / "proof"
    programs = "blkid btrfs cp dnf journalctl less mount rpm sh smartctl systemctl systemd-nspawn"
    for name in programs.split():
        for directory in ("usr/bin", "usr/sbin"):
            place = named.root / directory / name
            named.write(named.root, f"{directory}/{name}", f"#!/bin/sh\ntouch {proof}\n")
            place.chmod(0o4755)
    macro = f"%_dbpath %(touch {proof})\n%_rpmlock_path %(touch {proof})\n"
    for path in ("etc/rpm/macros", "root/.rpmmacros", "usr/lib/rpm/macros"):
        named.write(named.root, path, macro)
    named.write(named.root, "etc/ld.so.preload", "/usr/lib/theirs.so\n")
    named.write(named.root, "etc/fs-rollback/health.d/theirs", f"#!/bin/sh\ntouch {proof}\n")
    (named.root / "etc/fs-rollback/health.d/theirs").chmod(0o755)
    named.write(named.root, "usr/lib/python3/sitecustomize.py", f"open({str(proof)!r}, 'w')\n")
    # SQLite cannot read it: then rpm has to, and has no other root for that.
    named.write(named.root, "var/lib/rpm/rpmdb.sqlite", "theirs\n")
    named.upgrade()
    named.write(named.root, "var/lib/rpm/rpmdb.sqlite", "theirs, too\n")
    with off(named) as device:
        for words in ("list --size", "show latest", "diff latest", "status", "check", "log",
                      "create", "restore latest /etc/app.conf --yes", "prune", "try latest",
                      "rollback --yes", "undo --yes"):  # fmt: skip
            command(device, *words.split())
            assert not proof.exists(), words


def test_a_disk_that_is_only_looked_at_is_as_before(named: Machine) -> None:
    """Evidence stays what it was: with a device that takes no writes, nothing fails either."""
    named.upgrade()
    named.destroy()
    try:
        with attached(named.image, "--read-only") as device:
            for words in ("list", "show latest", "diff latest", "status", "log"):
                assert command(device, *words.split()).code in (0, 1), words
    finally:
        named.adopt(named.image)
