# SPDX-License-Identifier: GPL-2.0-or-later
"""The first boot of a new root: what the old one wrote since the rollback comes along, once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import manifest
from tests.kernel.machine import LAYOUTS, Machine, run
from tests.kernel.reboots import (
    KEPT,
    arrive,
    journal_of,
    left_behind,
    reboot,
    replaced,
    rolled_back,
)
from tests.kernel.test_hard_cases import _everything, _odd_files
from tests.kernel.test_store import listed, store_of


def _old_root(machine: Machine) -> Path:
    if machine.layout == "top-level":
        return machine.top
    return store_of(machine) / replaced(machine)


def test_what_was_written_before_the_reboot_comes_along(machine: Machine) -> None:
    (machine.root / "root/goes").write_text("deleted in between")
    (machine.root / "root/old name").write_text("renamed in between")
    name = rolled_back(machine)
    (machine.root / "root/goes").unlink()
    (machine.root / "root/old name").rename(machine.root / "root/new name")
    (machine.root / "root/added").write_text("new")
    (machine.root / "var/log/messages").write_text("the last line\n")
    (machine.root / "var/lib/machines/guest").write_text("guest's last\n")
    (machine.root / "usr/bin/app").write_text("not kept\n")
    reboot(machine)
    ended = arrive(machine)
    assert (ended.code, ended.err) == (0, "")
    assert f"came up in the new root, a copy of {machine.label(name)}" in ended.out
    assert f"kept as {machine.label(replaced(machine))}" in ended.out
    for path in ("/root", "/var/log", "/var/lib/machines"):
        assert path in ended.out
    assert not (machine.root / "root/goes").exists()
    assert not (machine.root / "root/old name").exists()
    assert machine.read("root/new name") == "renamed in between"
    assert machine.read("root/added") == "new"
    assert machine.read("root/.profile") == "user's 1\n"
    assert machine.read("var/log/messages") == "the last line\n"
    assert machine.read("var/lib/machines/guest") == "guest's last\n"
    assert machine.read("var/lib/machines/inner/file") == "inner 1\n"
    assert btrfsutil.get_subvolume_read_only(str(machine.root / "var/lib/machines/inner"))
    assert machine.read("usr/bin/app") == "version 1\n"
    assert (_old_root(machine) / "root/added").read_text() == "new", "the old root stays whole"
    assert not journal_of(machine).exists()
    assert left_behind(machine) == set()


def test_where_nothing_was_written_nothing_is_copied(machine: Machine) -> None:
    rolled_back(machine)
    (machine.root / "var/data").write_text("not kept")
    reboot(machine)
    inodes = {p: (machine.root / p).stat().st_ino for p in KEPT}
    number = btrfsutil.subvolume_id(str(machine.root / "var/lib/machines"))
    ended = arrive(machine)
    assert (ended.code, "came up" in ended.out, "brought" in ended.out) == (0, True, False)
    assert {p: (machine.root / p).stat().st_ino for p in KEPT} == inodes
    assert btrfsutil.subvolume_id(str(machine.root / "var/lib/machines")) == number


def test_only_what_has_changed_is_copied(machine: Machine) -> None:
    rolled_back(machine)
    (machine.root / "var/log/messages").write_text("changed")
    reboot(machine)
    inode = (machine.root / "root").stat().st_ino
    assert arrive(machine, "--at-boot", "--json").json["brought"] == ["/var/log"]
    assert (machine.root / "root").stat().st_ino == inode


def _overwrite(path: Path) -> None:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def _relink(path: Path) -> None:
    path.unlink()
    path.symlink_to("elsewhere")


def _to_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _to_file(path: Path) -> None:
    shutil.rmtree(path)
    path.write_text("a file")


def _to_link(path: Path) -> None:
    shutil.rmtree(path)
    path.symlink_to("root")


def _exchange_for_another(path: Path) -> None:
    path.rename(path.parent / "before")
    shutil.copytree(path.parent / "other", path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "mode": lambda p: (p / "file").chmod(0o640),
    "owner": lambda p: os.chown(p / "file", 12, 34),
    "attribute": lambda p: os.setxattr(p / "file", "user.colour", b"green"),
    "attribute gone": lambda p: os.removexattr(p / "file", "user.shape"),
    "hard link": lambda p: os.link(p / "file", p / "again"),
    "one name gone": lambda p: (p / "hard link").unlink(),
    "same size and time": lambda p: _overwrite(p / "file"),
    "shorter": lambda p: os.truncate(p / "file", 1),
    "empty directory": lambda p: (p / "deep/empty").rmdir(),
    "symbolic link": lambda p: _relink(p / "link"),
    "another type": lambda p: _to_directory(p / "file"),
    "the directory's mode": lambda p: p.chmod(0o711),
    "all gone": shutil.rmtree,
    "a file": _to_file,
    "a link": _to_link,
    "another directory": _exchange_for_another,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_every_kind_of_change_is_seen(named: Machine, change: Callable[[Path], object]) -> None:
    place = named.root / "srv/data"
    (place / "deep/empty").mkdir(parents=True)
    (place / "file").write_text("one\n")
    os.setxattr(place / "file", "user.shape", b"round")
    os.link(place / "file", place / "hard link")
    named.write(named.root, "srv/other/file", "other")
    (place / "link").symlink_to("file")
    name = named.upgrade()
    named.roll_back(name, keep=("/srv/data",))
    change(place)
    expected = _everything(place) if place.exists() else None
    link = os.readlink(place) if place.is_symlink() else None
    reboot(named)
    assert arrive(named, "--at-boot", "--json").json["brought"] == ["/srv/data"]
    assert (_everything(place) if place.exists() else None) == expected
    assert (os.readlink(place) if place.is_symlink() else None) == link
    assert left_behind(named) == set()


def test_a_file_with_a_name_outside_is_seen(named: Machine) -> None:
    """The kernel tells one name of a file where it is asked for one: any may be in a kept path."""
    for number in range(40):
        named.write(named.root, f"srv/data/file {number}", "one\n")
        for other in range(number):
            os.link(named.root / f"srv/data/file {number}", named.root / f"srv/{number}.{other}")
    name = named.upgrade()
    named.roll_back(name, keep=("/srv/data",))
    _overwrite(named.root / "srv/39.38")
    reboot(named)
    assert arrive(named, "--at-boot", "--json").json["brought"] == ["/srv/data"]
    assert named.read("srv/data/file 39") == "Xne\n"


def test_what_comes_along_is_what_it_was(machine: Machine) -> None:
    rolled_back(machine)
    place = machine.root / "root/odd"
    _odd_files(place)
    run("chattr", "+i", str(place / "immutable"))
    before = _everything(place)
    reboot(machine)
    assert arrive(machine).code == 0
    assert _everything(place) == before
    assert (place / "file").stat().st_ino == (place / "hard link").stat().st_ino
    assert left_behind(machine) == set()


def _nested_in_a_kept_path(machine: Machine) -> None:
    for path in ("root/nested", "root/nested/below", "root/sealed"):
        btrfsutil.create_subvolume(str(machine.root / path))
        (machine.root / path / "file").write_text("1")
    btrfsutil.set_subvolume_read_only(str(machine.root / "root/sealed"), True)


def _is_read_only(path: Path) -> bool:
    return bool(btrfsutil.get_subvolume_read_only(str(path)))


def test_subvolumes_in_a_kept_path(machine: Machine) -> None:
    _nested_in_a_kept_path(machine)
    rolled_back(machine)
    (machine.root / "root/nested/below/file").write_text("2")
    (machine.root / "root/file").write_text("2")
    btrfsutil.create_subvolume(str(machine.root / "root/fresh"))
    (machine.root / "root/fresh/file").write_text("2")
    before = manifest(machine.root / "root")
    reboot(machine)
    assert arrive(machine, "--at-boot", "--json").json["brought"] == ["/root"]
    assert manifest(machine.root / "root") == before
    assert btrfsutil.is_subvolume(str(machine.root / "root/fresh"))
    assert left_behind(machine) == set()


def test_only_a_subvolume_in_a_kept_path_has_changed(machine: Machine) -> None:
    _nested_in_a_kept_path(machine)
    rolled_back(machine)
    (machine.root / "root/nested/below/file").write_text("2")
    before = manifest(machine.root / "root")
    reboot(machine)
    inode = (machine.root / "root").stat().st_ino
    brought = arrive(machine, "--at-boot", "--json").json["brought"]
    assert brought == ["/root/nested/below"]
    assert manifest(machine.root / "root") == before
    assert (machine.root / "root").stat().st_ino == inode


def test_subvolumes_that_were_deleted_or_replaced(machine: Machine) -> None:
    (machine.root / "opt").mkdir()
    for name in ("goes", "again", "sealed"):
        btrfsutil.create_subvolume(str(machine.root / f"opt/{name}"))
        (machine.root / f"opt/{name}/file").write_text("1")
    btrfsutil.set_subvolume_read_only(str(machine.root / "opt/sealed"), True)
    rolled_back(machine)
    for name in ("goes", "again"):
        btrfsutil.delete_subvolume(str(machine.root / f"opt/{name}"))
    btrfsutil.create_subvolume(str(machine.root / "opt/again"))
    (machine.root / "opt/again/file").write_text("2")
    sealed = str(machine.root / "opt/sealed")
    btrfsutil.set_subvolume_read_only(sealed, False)
    (machine.root / "opt/sealed/file").write_text("2")
    btrfsutil.set_subvolume_read_only(sealed, True)
    reboot(machine)
    answer = arrive(machine, "--at-boot", "--json").json
    assert (answer["brought"], answer["problems"]) == (
        ["/opt/again", "/opt/goes", "/opt/sealed"],
        [],
    )
    assert not (machine.root / "opt/goes").exists()
    assert machine.read("opt/again/file") == "2"
    assert machine.read("opt/sealed/file") == "2"
    assert _is_read_only(machine.root / "opt/sealed")
    assert left_behind(machine) == set()


def test_a_later_boot_copies_nothing(machine: Machine) -> None:
    rolled_back(machine)
    (machine.root / "var/log/messages").write_text("old root's\n")
    reboot(machine)
    assert arrive(machine).code == 0
    (machine.root / "var/log/messages").write_text("new root's\n")
    reboot(machine)
    ended = arrive(machine)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert machine.read("var/log/messages") == "new root's\n"


_USES: tuple[Callable[[Path], object], ...] = (
    lambda root: (root / "var/log/messages").write_text("new root's\n"),
    lambda root: (root / "var/log/messages").unlink(),
    lambda root: (root / "var/log/boot").mkdir(),
    lambda root: (root / "var/log").chmod(0o700),
)


@pytest.mark.parametrize(
    ("layout", "use"),
    [*((layout, _USES[0]) for layout in LAYOUTS), *(("named", u) for u in _USES[1:])],
)
def test_what_the_new_root_has_written_is_never_touched(
    make_machine: MakeMachine, layout: str, use: Callable[[Path], object]
) -> None:
    """Its first boot went to an emergency shell, or the unit was not there."""
    machine = make_machine(layout)
    rolled_back(machine)
    for path in ("var/log/messages", "root/file", "var/lib/machines/guest"):
        (machine.root / path).write_text("old root's\n")
    reboot(machine)
    use(machine.root)
    (machine.root / "var/lib/machines/new").write_text("new root's\n")
    before = {p: manifest(machine.root / p) for p in ("var/log", "var/lib/machines")}
    reboot(machine)
    ended = arrive(machine)
    assert ended.code == 1
    for path in ("var/log", "var/lib/machines"):
        assert f"<4>fs-rollback: the new root has already changed /{path}" in ended.err
        assert manifest(machine.root / path) == before[path]
    assert machine.read("root/file") == "old root's\n", "nobody has written there"
    place = "the top level" if machine.layout == "top-level" else replaced(machine)
    assert place in ended.err
    assert "pinned" in listed(machine)[replaced(machine)]["marks"], "it has the only copy"
    assert not journal_of(machine).exists()


def test_a_journal_of_an_older_program_brings_nothing_and_says_so(named: Machine) -> None:
    rolled_back(named)
    (named.root / "var/log/messages").write_text("old root's\n")
    data = json.loads(journal_of(named).read_text())
    assert data.pop("generation") > 0
    journal_of(named).write_text(json.dumps(data))
    reboot(named)
    ended = arrive(named)
    assert (ended.code, "came up in the new root" in ended.out) == (1, True)
    assert "cannot determine what changed in" in ended.err
    assert "is pinned" in ended.out
    assert named.read("var/log/messages") == "user's 1\n"
