# SPDX-License-Identifier: GPL-2.0-or-later
"""Full disks, hostile links, odd files, odd nested subvolumes, quotas."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.snapshots.names import trial_name
from fs_rollback.system.store.trace import LOG
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import manifest, state
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import edit_record, listed, read_record, store_of


def _fill(machine: Machine) -> None:
    """Write until neither data nor another name fits."""
    size = 1 << 20
    with (machine.top / "ballast").open("wb", buffering=0) as file:
        while size >= 4096:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2
    run("sync", "--file-system", str(machine.top))
    with pytest.raises(OSError, match="No space left"):
        (machine.top / "more").mkdir()


def test_a_full_filesystem(named: Machine) -> None:
    names = [named.upgrade(), named.upgrade(3)]
    interrupted = read_record(named, names[1])["transaction"]
    edit_record(named, names[1], transaction={**interrupted, "outcome": "pending"})
    _fill(named)
    for words in (("create",), ("rollback", "--yes"), ("pin", names[0])):
        before = state(named)
        ended = fs_rollback(named.root, *words)
        assert (ended.code, "No space left on device" in ended.sentence) == (1, True), ended
        assert "'fs-rollback delete " in ended.err
        assert state(named) == before
    assert "are free" in fs_rollback(named.root, "status").out
    done(named.root, "delete", names[0])  # what the hint says has to work
    kept = {names[1], f"{names[1]}.json", trial_name(names[1])}
    assert set(os.listdir(store_of(named))) - {LOG} == kept


def test_a_filesystem_that_fills_up_in_the_middle(named: Machine) -> None:
    """What allows no reflink needs its size once more; there is less than that."""
    named.upgrade()
    log = named.root / "var/log/journal"
    # No flag shows that a file has no checksums, and only such a one could share its data.
    for option in ("nodatasum", "datasum"):
        run("mount", "-o", f"remount,{option}", str(named.root))
        if option == "nodatasum":
            log.write_bytes(bytes(260 << 20))
    before = state(named)
    ended = fs_rollback(named.root, "rollback", "--yes")
    assert (ended.code, "No space left on device" in ended.sentence) == (1, True), ended
    assert state(named) == before


SECRET = "hunter2"
OUTSIDE = (
    "etc/fstab", "etc/fs-rollback.conf", "etc/kernel/cmdline", "usr/lib/modules/x/y", "root/file",
    "boot/loader/entries/a.conf", "var/lib/rpm/rpmdb.sqlite", "var/log/messages", "home/user/file",
)  # fmt: skip


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """Give a tree outside of all machines where every read shows in a time stamp."""
    place = tmp_path / "outside"
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "strictatime", "none", str(place))
    for path in OUTSIDE:
        Machine.write(place, path, f"root={SECRET} rootflags=subvolid={SECRET}\n")
    yield place
    run("umount", str(place))


def _times(outside: Path) -> dict[str, object]:
    """Return when each file and directory was last read, written or changed; reads none of them."""
    paths = {p for name in OUTSIDE for p in (Path(name), *Path(name).parents)}
    stats = {str(path): (outside / path).lstat() for path in paths}
    return {path: (s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for path, s in stats.items()}


def _links(outside: Path, path: str) -> tuple[str, str]:
    return str(outside / path), "../" * 30 + str(outside / path).lstrip("/")


@pytest.mark.parametrize(
    "path", ["etc", "etc/fstab", "etc/kernel/cmdline", "boot", "boot/loader/entries",
             "usr/lib/modules", "var", "var/log", "var/lib", "var/lib/rpm", "root", "home"]
)  # fmt: skip
def test_no_link_in_a_snapshot_leads_out_of_it(named: Machine, outside: Path, path: str) -> None:
    name = named.upgrade()
    tree = store_of(named) / name
    for target in _links(outside, path):
        btrfsutil.set_subvolume_read_only(str(tree), False)
        if (tree / path).is_symlink() or (tree / path).is_file():
            (tree / path).unlink()
        else:
            shutil.rmtree(tree / path)
        (tree / path).symlink_to(target)
        btrfsutil.set_subvolume_read_only(str(tree), True)
        contents = manifest(outside)
        times = _times(outside)
        before = state(named)
        for words in (("show", name), ("rollback", "--yes", "--json")):
            ended = fs_rollback(named.root, *words)
            assert SECRET not in ended.out + ended.err
            assert ended.code in (0, 1, 3)
        assert _times(outside) == times, "something was read"
        if ended.code:
            assert state(named) == before
        else:
            assert (named.next_root() / "usr/bin/app").read_text() == "version 1\n"
            done(named.root, "undo", "--yes")
        assert _times(outside) == times, "something was read"
        assert manifest(outside) == contents


def test_no_stub_is_looked_for_behind_a_link(named: Machine, tmp_path: Path) -> None:
    """The root of an ext4 filesystem has the inode number of a stub."""
    (named.top / "data").mkdir()
    btrfsutil.create_subvolume(str(named.top / "data/nested"))
    image, place = tmp_path / "ext4.img", tmp_path / "elsewhere/nested"
    place.mkdir(parents=True)
    run("mkfs.ext4", "-q", str(image), "8M")
    run("mount", "-o", "loop,ro", str(image), str(place))
    try:
        (named.root / "data").symlink_to(place.parent)
        named.upgrade()
        plan = done(named.root, "rollback", "--yes", "--json").json
    finally:
        run("umount", str(place))
    assert "RemoveStubs" not in {step["step"] for step in plan["steps"]}


@pytest.mark.parametrize("path", ["etc/fs-rollback.conf", "etc/kernel/cmdline", "root", "var/log"])
def test_no_link_in_an_offered_root_leads_out_of_it(
    named: Machine, outside: Path, path: str
) -> None:
    named.upgrade()
    place = named.root / path
    for target in _links(outside, path):
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        place.unlink(missing_ok=True)
        place.symlink_to(target)
        times = _times(outside)
        for words in (("status",), ("create",), ("rollback", "--yes", "--json")):
            ended = fs_rollback(named.root, *words)
            assert SECRET not in ended.out + ended.err
        assert ended.code == 0, ended
        assert SECRET not in str(manifest(named.next_root() / "root"))
        done(named.root, "undo", "--yes")
        assert _times(outside) == times


def test_kept_paths_that_are_links_inside(named: Machine) -> None:
    (named.root / "data/srv").mkdir(parents=True)
    (named.root / "srv").symlink_to("/data/srv")
    (named.root / ".hidden").mkdir()
    name = named.upgrade()
    for path in ("data/srv/file", ".hidden/file"):
        named.write(named.root, path, "mine")
    words = ("rollback", name, "--yes", "--json", "--keep", "/.hidden")
    assert {"/data/srv", "/.hidden"} <= set(done(named.root, *words).json["reverts"]["kept"])
    named.reboot()
    assert (named.read("data/srv/file"), named.read(".hidden/file")) == ("mine", "mine")


def _odd_files(place: Path) -> None:
    """Make one of everything that a directory can hold."""
    place.mkdir(parents=True)
    (place / "file").write_text("text")
    os.link(place / "file", place / "hard link")
    (place / "link").symlink_to("/nowhere/../else\n")
    with (place / "sparse").open("wb") as file:
        file.truncate(1 << 40)
    (place / "nocow").touch()
    run("chattr", "+C", str(place / "nocow"))
    (place / "nocow").write_bytes(os.urandom(300_000))
    (place / "reflinked").write_bytes(os.urandom(300_000))
    os.mkfifo(place / "fifo", 0o620)
    os.mknod(place / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(place)
        server.bind("socket")
        os.chdir("/")
    for name in ("x" * 250, "\n\t \x1b[31m", os.fsdecode(b"\xff\xfe"), "-rf", "*", "\u6f22" * 80):
        (place / name).write_text("odd name")
    for mode in (0o4755, 0o2755, 0o1777, 0o000):
        (place / f"mode {mode:o}").touch()
        os.chown(place / f"mode {mode:o}", 1234, 5678)
        os.chmod(place / f"mode {mode:o}", mode)
    os.setxattr(place / "file", "user.colour", b"blue\0")
    os.setxattr(place / "mode 4755", "security.capability", bytes.fromhex("01000002" + "00" * 16))
    # linux/posix_acl_xattr.h: version, then tag, permissions and ID of each entry.
    entries = ((1, 6, -1), (2, 4, 4321), (4, 4, -1), (16, 4, -1), (32, 0, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(place / "file", "system.posix_acl_access", acl)
    (place / "empty/deep").mkdir(parents=True)
    (place / "immutable").write_text("do not touch")
    for path in (place / "file", place / "empty", place):
        os.utime(path, ns=(1_000_000_001, 1_234_567_890_123_456_789))


def _everything(place: Path) -> dict[str, object]:
    """Return what cp --archive promises to keep of a tree."""
    found: dict[str, object] = {}
    for path in (place, *sorted(place.rglob("*"))):
        status = path.lstat()
        attributes = {
            name: os.getxattr(path, name, follow_symlinks=False)
            for name in os.listxattr(path, follow_symlinks=False)
        }
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = path.read_bytes() if status.st_size < 1 << 30 else status.st_blocks
        elif path.is_symlink():
            content = os.readlink(path)
        found[str(path.relative_to(place))] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_mtime_ns, status.st_rdev,
            status.st_nlink, attributes, content,
        )  # fmt: skip
    return found


def test_kept_files_are_what_they_were(named: Machine) -> None:
    (named.root / "root/old").mkdir()
    (named.root / "root/old/file").write_text("goes")
    for flag, path in (("+i", "root/old/file"), ("+a", "var/log/messages")):
        run("chattr", flag, str(named.root / path))
    named.upgrade()
    run("chattr", "-i", str(named.root / "root/old/file"))
    shutil.rmtree(named.root / "root/old")
    place = named.root / "root/odd"
    _odd_files(place)
    run("chattr", "+i", str(place / "immutable"))
    before = _everything(place)
    done(named.root, "rollback", "--yes")
    named.reboot()
    assert _everything(place) == before
    assert (place / "file").stat().st_ino == (place / "hard link").stat().st_ino
    assert not (named.root / "root/old").exists()


def _nest(machine: Machine, path: str) -> Path:
    place = machine.root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    btrfsutil.create_subvolume(str(place))
    (place / "file").write_text(path.encode("ascii", "backslashreplace").decode())
    return place


def test_nested_subvolumes_whatever_the_target_has_there(machine: Machine) -> None:
    for path in ("srv/was-directory/with/files", "srv/was-file"):
        machine.write(machine.root, path, "old")
    (machine.root / "srv/was-link").symlink_to("/etc")
    machine.upgrade()
    shutil.rmtree(machine.root / "srv/was-directory")
    for path in ("srv/was-file", "srv/was-link"):
        (machine.root / path).unlink()
    names = ("was-directory", "was-file", "was-link", "new/parent/of it", "two\nlines \u6f22 \\040",
             os.fsdecode(b"caf\xe9"), "-rf")  # fmt: skip
    places = [_nest(machine, f"srv/{name}") for name in names]
    os.chown(machine.root / "srv/new", 12, 34)
    (machine.root / "srv/new").chmod(0o2750)
    places += [_nest(machine, "root/in-a-kept-path"), _nest(machine, "srv/sealed")]
    places += [_nest(machine, "srv/sealed/inner")]
    btrfsutil.set_subvolume_read_only(str(machine.root / "srv/sealed"), True)
    before = [path.joinpath("file").read_text() for path in places]
    done(machine.root, "rollback", "--yes", "--no-keep", "--keep", "/root")
    machine.reboot()
    assert [path.joinpath("file").read_text() for path in places] == before
    for place in places:
        assert btrfsutil.is_subvolume(str(place))
        assert btrfsutil.get_subvolume_read_only(str(place)) == (place.name == "sealed")
    status = (machine.root / "srv/new").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o2750, 12, 34)
    done(machine.root, "undo", "--yes", "--to-replaced", "--no-keep")
    machine.reboot()
    assert [path.joinpath("file").read_text() for path in places] == before


def test_a_link_on_the_way_to_a_nested_subvolume(named: Machine) -> None:
    (named.root / "elsewhere").mkdir()
    (named.root / "opt").symlink_to("/elsewhere")
    named.upgrade()
    (named.root / "opt").unlink()
    _nest(named, "opt/nested")
    # Any user can make one below /var/tmp: it must keep nobody from a rollback, nor lead it astray.
    done(named.root, "rollback", "--yes")
    named.reboot()
    assert (named.root / "opt/nested/file").exists()
    assert not (named.root / "opt").is_symlink()
    assert list((named.root / "elsewhere").iterdir()) == []


def test_a_nested_subvolume_in_a_protected_directory(named: Machine) -> None:
    directory = named.root / "srv/nest/made"
    directory.parent.parent.mkdir()
    btrfsutil.create_subvolume(str(directory.parent))
    directory.mkdir()
    btrfsutil.create_subvolume(str(directory / "inner"))
    (directory / "inner/file").write_text("1")
    run("chattr", "+i", str(directory))
    done(named.root, "rollback", named.upgrade(), "--yes")
    assert (named.next_root() / "srv/nest/made/inner/file").read_text() == "1"
    done(named.root, "undo", "--yes")


def test_two_hundred_nested_subvolumes(named: Machine) -> None:
    named.upgrade()
    for number in range(200):
        _nest(named, f"srv/{number % 10}/{number}")
    before = state(named)
    done(named.root, "rollback", "--yes")
    assert json.loads((store_of(named) / "pending.json").read_text())["state"] == "committed"
    named.reboot()
    assert len(list((named.root / "srv").rglob("file"))) == 200
    replaced = next(row["name"] for row in listed(named).values() if row["kind"] == "replaced")
    done(named.root, "delete", replaced)
    assert len(named.subvolume_paths()) == len(before["subvolumes"])  # type: ignore[arg-type]


def test_a_machine_with_quotas(machine: Machine) -> None:
    run("btrfs", "quota", "enable", str(machine.top))
    name = machine.upgrade()
    machine.use(1)
    done(machine.root, "rollback", "--yes")
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 1\n"
    done(machine.root, "undo", "--yes", "--to-replaced")
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 2\n"
    done(machine.root, "delete", name)
