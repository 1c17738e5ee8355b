# SPDX-License-Identifier: GPL-2.0-or-later
"""Full and read-only filesystems: what is said is true, and its command works."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from fs_rollback.config import Config
from fs_rollback.errors import KernelError
from fs_rollback.system.linux import durable, files
from fs_rollback.system.machine import host
from fs_rollback.system.snapshots import make_room
from fs_rollback.system.store import store
from tests.kernel.boots import MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.test_hard_cases import _fill
from tests.kernel.test_kernels import fill, upgraded

__all__ = ["make_boot"]


def _command(said: str) -> list[str]:
    """Return the words of the last command of ours in what was said."""
    return str(re.findall(r"'fs-rollback ([^']+)'", said)[-1]).split()


def _attention(machine: Machine) -> list[str]:
    ended = fs_rollback(machine.root, "status", "--json")
    assert ended.code == 1
    return [str(line) for line in ended.json["attention"]]


def test_a_full_root(named: Machine) -> None:
    named.write(named.root, "etc/fs-rollback.conf", "keep_last = 2\nkeep_days = 0\n")
    names = [named.upgrade(number) for number in (2, 3, 4)]
    old = named.roll_back(names[0]).situation.replaced
    named.reboot()
    last = named.upgrade(5)
    _fill(named)

    ended = fs_rollback(named.root, "create")
    assert (ended.code, "No space left on device" in ended.sentence) == (1, True), ended
    hint = ended.err.splitlines()[-1].strip()
    assert f"'fs-rollback prune --root {named.root}' makes room: it deletes 2 snapshots and" in hint
    assert any(line.endswith(hint) for line in _attention(named)), "status says the same"
    done(named.root, *_command(hint))
    assert [s.name for s in named.snapshots()] == [names[2], old, last]
    # One after the other is named, as long as any may go.
    (named.top / "ballast").unlink()
    for expected in (f"the oldest snapshot, {named.label(names[2])}", old, last):
        hint = _advice(named)
        assert "'fs-rollback prune' would delete nothing now. 'fs-rollback delete " in hint
        assert expected in hint
        done(named.root, *_command(hint))
    assert "no snapshot can be deleted: delete files" in _advice(named)


def _advice(machine: Machine) -> str:
    with host.opened(str(machine.root)) as opened, store.opened(opened) as found:
        return make_room.on_root(opened, found, Config(keep_last=2, keep_days=0).policy)


def test_a_full_boot_of_its_own(make_boot: MakeBoot) -> None:
    boot = make_boot("ext4", 4 << 20)
    name = upgraded(boot)
    fill(boot)
    ended = fs_rollback(boot.root, "rollback", name, "--yes")
    assert (ended.code, "No space left on device" in ended.sentence) == (1, True), ended
    assert "prune" not in ended.err
    assert f"The filesystem on {boot.place} is full, and deleting snapshots" in ended.err


@pytest.mark.parametrize("is_own", [False, True])
def test_which_filesystem_is_full(named: Machine, tmp_path: Path, *, is_own: bool) -> None:
    """A /boot on another filesystem, another btrfs too; a /boot subvolume of the root's own."""
    named.upgrade()
    place = named.root / "boot"
    if not is_own:
        image = tmp_path / "boot.img"
        with image.open("wb") as file:
            file.truncate(120 << 20)
        run("mkfs.btrfs", "--quiet", str(image))
        run("mount", "-o", "loop", str(image), str(place))
    try:
        with (
            pytest.raises(KernelError) as caught,
            named.writing() as (opened, found),
            files.opened(str(place)) as directory,
            make_room.advising(opened, found, lambda: Config().policy),
        ):
            durable.replace(directory, "vmlinuz", map(_fails, (b"",)))
    finally:
        if not is_own:
            run("umount", str(place))
    assert ("fs-rollback delete" in caught.value.hint) == is_own
    assert (f"The filesystem on {place} is full" in caught.value.hint) != is_own


def test_metadata_is_full_and_data_has_half_of_the_disk(tmp_path: Path) -> None:
    """What df(1) calls free is data's: the advice leads to where files can be made again."""
    machine = Machine(tmp_path, "named")
    try:
        machine.create(400 << 20)
        machine.take()
        place = machine.root / "var/small"
        place.mkdir()
        first = _fill_metadata(place, 1200)
        assert len(first) == 1200
        for number in range(64):
            with (machine.root / f"var/{number}").open("wb") as file, suppress(OSError):
                os.posix_fallocate(file.fileno(), 0, 8 << 20)
        for number in range(0, 64, 2):
            (machine.root / f"var/{number}").unlink()
        run("btrfs", "filesystem", "sync", str(machine.top))
        _fill_metadata(machine.root / "var", 1 << 20)
        run("btrfs", "filesystem", "sync", str(machine.top))
        ended = fs_rollback(machine.root, "create")
        assert "No space left on device" in ended.sentence
        (line,) = (line for line in _attention(machine) if "are free" in line)
        for said in (line, ended.err):
            assert "A balance itself needs some metadata space" in said
        assert "there is no space for metadata (what btrfs stores about files)" in line
        assert "filesystem.metadata-full" in _warnings(machine)
        balance = re.findall(r"'(btrfs balance [^']+)'", line)[0].split()
        with pytest.raises(subprocess.CalledProcessError):
            run(*balance)
        done(machine.root, *_command(line))
        assert machine.snapshots() == []
        for path in first:
            path.unlink()
        run("btrfs", "filesystem", "sync", str(machine.top))
        run(*balance)
        assert not [line for line in _attention(machine) if "are free" in line]
        assert not _warnings(machine) & {"filesystem.metadata-full", "filesystem.nearly-full"}
        done(machine.root, "create")
        assert len(_fill_metadata(place, 2400)) == 2400
    finally:
        machine.destroy()


def _warnings(machine: Machine) -> set[str]:
    rows = fs_rollback(machine.root, "check", "--json").json["links"]
    return {row["code"] for row in rows if row["grade"] == "warning"}


def _fill_metadata(place: Path, most: int) -> list[Path]:
    """Make files that have no room but that of metadata, until there is none; return them."""
    made = []
    with suppress(OSError):
        for number in range(most):
            path = place / f"small{number}"
            path.touch()
            os.setxattr(path, "user.fill", bytes(15000))
            made.append(path)
    return made


def _fails(_: bytes) -> bytes:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _refused(machine: Machine) -> str:
    """Return what `create` says: that the filesystem is read-only."""
    ended = fs_rollback(machine.root, "create")
    assert (ended.code, "is read-only" in ended.sentence) == (3, True)
    return ended.err


def _write(directory: Path) -> None:
    for number in range(50):
        (directory / f"file{number}").write_bytes(os.urandom(1 << 20))
        os.sync()


def test_a_filesystem_that_was_remounted_read_only(named: Machine) -> None:
    named.upgrade()
    run("mount", "-o", "remount,ro", str(named.root))
    (line,) = (line for line in _attention(named) if "is read-only" in line)
    check = fs_rollback(named.root, "check")
    (link,) = (ln for ln in check.out.splitlines() if ln.split()[1:2] == ["filesystem"])
    assert (link.startswith("warning"), "is read-only" in link) == (True, True)
    for said in (line, check.out, _refused(named)):
        commands = re.findall(r"'(mount [^']+)'", said)
        assert commands == [f"mount -o remount,rw {named.root}"]
    run(*commands[0].split())
    assert not any("read-only" in line for line in _attention(named))


def test_a_filesystem_that_the_kernel_made_read_only(tmp_path: Path) -> None:
    """Its disk takes no more writes: btrfs aborts the transaction."""
    disk = tmp_path / "disk"
    disk.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=80M", "tmpfs", str(disk))
    machine = Machine(disk, "named")
    try:
        machine.create()
        machine.upgrade()
        subprocess.run(
            ("cp", "/dev/zero", str(disk / "filler")), check=False, stderr=subprocess.DEVNULL
        )
        with pytest.raises(OSError, match=r"Input/output|Read-only"):
            _write(machine.root)
        _refused(machine)
        for words in (("status",), ("status", "--json"), ("check",), ("list",)):
            ended = fs_rollback(machine.root, *words)  # perhaps it cannot even be read
            assert (ended.code, "is read-only" in ended.out + ended.err) == (1, True), ended
    finally:
        machine.destroy()
        run("umount", str(disk))
