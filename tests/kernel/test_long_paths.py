# SPDX-License-Identifier: GPL-2.0-or-later
"""Paths that no single call of the kernel takes: longer than PATH_MAX, which anybody can make."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import btrfsutil
import pytest

from fs_rollback.system.access import privileges
from fs_rollback.system.comparison.trees import SubvolumeTree
from fs_rollback.system.execute import copying
from fs_rollback.system.linux import files, syscalls
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import Fault, Faulty, in_child
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive, left_behind, reboot
from tests.kernel.test_arrival_cut_off import bring_with
from tests.kernel.test_restore_attributes import flags
from tests.kernel.test_store import store_of

_NAMES = tuple(f"{number:0200}" for number in range(50))  # 10 kB


@contextmanager
def bottom(place: Path, *, make: bool = False) -> Iterator[int]:
    """Open the directory at the end of a path of 10 kB below `place`."""
    directory = os.open(place, os.O_RDONLY)
    try:
        for name in _NAMES:
            if make:
                os.mkdir(name, dir_fd=directory)
            below = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        yield directory
    finally:
        os.close(directory)


def _write(directory: int, name: str, text: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(name, flags, 0o644, dir_fd=directory), "w") as file:
        file.write(text)


@contextmanager
def opened(directory: int, name: str) -> Iterator[int]:
    descriptor = os.open(name, os.O_RDONLY, dir_fd=directory)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _texts(place: Path) -> dict[str, str]:
    """Return what lies at the bottom: of files their text, of directories what lies in them."""
    found = {}
    with bottom(place) as directory:
        for name in os.listdir(directory):
            with opened(directory, name) as below:
                is_file = stat.S_ISREG(os.fstat(below).st_mode)
                found[name] = os.read(below, 99).decode() if is_file else str(os.listdir(below))
    return found


def _change(place: Path, text: str) -> None:
    with bottom(place) as directory:
        _write(directory, "changed", text)
        _write(directory, "same", "1" * 5000)  # its content has to be read to know that
        _write(directory, f"added {text}", text)
        os.unlink("removed " + text, dir_fd=directory)
        os.rename("moves " + text, "moved " + text, src_dir_fd=directory, dst_dir_fd=directory)
        os.link("changed", "linked " + text, src_dir_fd=directory, dst_dir_fd=directory)
        os.mkdir("made " + text, dir_fd=directory)


@pytest.fixture(name="place")
def _place(named: Machine) -> Path:
    place = named.root / "root/deep"
    place.mkdir()
    with bottom(place, make=True) as directory:
        for name in ("changed", "removed 2", "removed 3"):
            _write(directory, name, "1")
        _write(directory, "same", "1" * 5000)
        for name in ("moves 2", "moves 3"):
            os.mkdir(name, dir_fd=directory)
            with opened(directory, name) as below:
                _write(below, "file " + name, "1")
    return place


def test_they_are_kept_and_brought_over(named: Machine, place: Path) -> None:
    name = named.upgrade()
    _change(place, "2")
    wanted = _texts(place)
    assert (
        fs_rollback(named.root, "rollback", name, "--yes", "--no-keep", "--keep", "/root").code == 0
    )
    assert _texts(named.next_root() / "root/deep") == wanted
    _change(place, "3")
    wanted = _texts(place)
    reboot(named)
    ended = arrive(named)
    assert (ended.code, ended.err) == (0, "")
    assert _texts(named.root / "root/deep") == wanted
    assert left_behind(named) == set()


def test_they_are_compared_restored_and_deleted(named: Machine, place: Path) -> None:
    name = named.upgrade()
    before = _texts(place)
    _change(place, "2")
    after = _texts(place)
    compared = fs_rollback(named.root, "diff", name, "--path", "/root", "--json")
    assert (compared.code, compared.err) == (0, "")
    for end in ("changed", "added 2", "removed 2", "moved 2", "linked 2", "made 2"):
        assert f'/{end}"' in compared.out
    assert '/same"' not in compared.out
    restored = fs_rollback(named.root, "restore", name, "/root/deep", "--yes", "--json")
    assert restored.code == 0, restored
    assert _texts(place) == before
    assert _texts(named.root / restored.json["paths"][0]["kept"].lstrip("/")) == after
    assert fs_rollback(named.root, "delete", name).code == 0


@pytest.mark.parametrize("how", ["new", "anew"])
def test_what_is_copied_whole(named: Machine, place: Path, how: str) -> None:
    """A kept path that the snapshot does not have, and one that was made anew since."""
    other = named.root / "root/other"
    if how == "anew":
        other.mkdir()
    name = named.upgrade()
    if how == "anew":
        other.rmdir()
    place.rename(other)
    run("chattr", "+C", str(other))
    wanted = _texts(other)
    done(named.root, "rollback", name, "--yes", "--no-keep", "--keep", "/root/other")
    copy = named.next_root() / "root/other"
    assert _texts(copy) == wanted
    assert "C" in flags(copy)


def test_beside_a_nested_subvolume(named: Machine, place: Path) -> None:
    name = named.upgrade()
    done(named.root, "rollback", name, "--yes", "--no-keep", "--keep", "/root")
    _change(place, "2")
    wanted = _texts(place)
    btrfsutil.create_subvolume(str(named.root / "root/nested"))
    (named.root / "root/nested/file").write_text("in it")
    reboot(named)
    ended = arrive(named)
    assert (ended.code, ended.err) == (0, "")
    assert _texts(named.root / "root/deep") == wanted
    assert named.read("root/nested/file") == "in it"
    assert left_behind(named) == set()


def _path_of(length: int) -> str:
    """Return a path in /root with so many bytes."""
    path = "/root/" + "d" * 199
    while len(path) < length - 255:
        path += "/" + "d" * 199
    return path + "/" + "n" * (length - len(path) - 1)


@pytest.mark.parametrize("length", [3901, 4085, 4095, 4096, 9000])
@pytest.mark.parametrize("how", ["option", "configuration", "pattern"])
def test_too_long_to_be_kept(named: Machine, length: int, how: str) -> None:
    path, name = _path_of(length), named.upgrade()
    directory = os.open(named.root, os.O_RDONLY)
    for part in path[1:].split("/"):
        with suppress(FileExistsError):
            os.mkdir(part, dir_fd=directory)
        below = os.open(part, os.O_RDONLY, dir_fd=directory)
        os.close(directory)
        directory = below
    os.close(directory)
    if how == "pattern":
        path = path.replace("n", "?").replace("d", "*", 1)
    options = ["--keep", path] if how == "option" else []
    if how != "option":
        named.write(named.root, "etc/fs-rollback.conf", f"keep = {path}\n")
    before = named.subvolume_paths(), os.listdir(store_of(named))
    for last in ("--yes", "--dry-run"):
        ended = fs_rollback(named.root, "rollback", name, *options, last)
        ended.expect_refusal(
            "cannot be kept: its path has more than 3900 bytes", "Keep a directory"
        )
        assert len(ended.err) < 700
    assert (named.subvolume_paths(), os.listdir(store_of(named))) == before


def test_the_longest_path_that_is_kept(named: Machine) -> None:
    path, name = _path_of(3900), named.upgrade()
    place = named.root / path.lstrip("/")
    os.makedirs(place)
    (place / "file").write_text("1")
    done(named.root, "rollback", name, "--yes", "--no-keep", "--keep", path)
    (place / "file").write_text("2")
    reboot(named)
    for point in range(100):
        cut = partial(Faulty, point=point, fault=Fault.KILL_AFTER)
        if in_child(partial(bring_with, named, cut)) == 0:
            break
    assert (place / "file").read_text() == "2"
    assert left_behind(named) == set()


@pytest.mark.parametrize("nested", [False, True])
def test_a_first_boot_that_is_cut_off_is_finished(
    named: Machine, place: Path, *, nested: bool
) -> None:
    if nested:  # then all is copied
        btrfsutil.create_subvolume(str(named.root / "root/nested"))
    named.roll_back(named.upgrade())
    _change(place, "2")
    (named.root / "var/log/messages").write_text("last line")
    wanted = _texts(place)
    reboot(named)
    for point in range(100):
        cut = partial(Faulty, point=point, fault=Fault.KILL_AFTER)
        if in_child(partial(bring_with, named, cut)) == 0:
            assert point > 6
            break
    assert _texts(named.root / "root/deep") == wanted
    assert named.read("var/log/messages") == "last line"
    assert left_behind(named) == set()


Task = Callable[[], object]


def _chain(place: Path, depth: int) -> None:
    """Make a directory with `depth` directories in it, each in the one before."""
    for number in range(depth + 1):
        place.joinpath(*"d" * number).mkdir()


def _kept(machine: Machine, place: Path, depth: int) -> Task:
    name = machine.upgrade()
    _chain(place, depth)
    return lambda: machine.roll_back(name)


def _gone(machine: Machine, place: Path, depth: int) -> Task:
    _chain(place, depth)
    name = machine.upgrade()
    run("rm", "-r", str(place))
    return lambda: machine.roll_back(name)


def _copied(machine: Machine, place: Path, depth: int) -> Task:
    _chain(place, depth)

    def copy() -> None:
        (machine.root / "copy").mkdir(exist_ok=True)
        with (
            files.opened(str(place.parent)) as tree,
            files.opened(str(machine.root / "copy")) as to,
        ):
            copying.copy_paths(tree, to, [place.name])
            privileges.take_off(to, place.name)

    return copy


@pytest.mark.parametrize("prepare", [_kept, _gone, _copied])
def test_each_directory_is_gone_through_a_few_times_however_deep(
    named: Machine,
    monkeypatch: pytest.MonkeyPatch,
    prepare: Callable[[Machine, Path, int], Task],
) -> None:
    steps = 0

    def count(owner: object, name: str, how_many: Callable[..., int]) -> None:
        original = getattr(owner, name)

        def counted(*args: Any, **options: Any) -> object:
            nonlocal steps
            steps += how_many(*args)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, counted)

    count(os, "open", lambda *_: 1)
    count(syscalls, "open_in_root", lambda _, path, *__: path.count("/") + 1)
    count(SubvolumeTree, "inode", lambda *_: 1)
    needed = []
    for depth in (200, 400):
        task = prepare(named, named.root / f"root/{depth}", depth)
        steps = 0
        task()
        needed.append(steps)
        if prepare is not _copied:
            named.take_back()
    assert needed[1] < 2.2 * needed[0]


@pytest.mark.parametrize("moved", [("a", "b"), ("a",)])
def test_nothing_is_entered_that_came_above_a_directory_meanwhile(
    tmp_path: Path, moved: tuple[str, ...]
) -> None:
    tree, wanted = tmp_path / "tree", ("e", "f")
    for path in (tree / "a/b", tree / "e/f", tmp_path / "away/e/f"):
        path.mkdir(parents=True)
    with files.opened(str(tree)) as top, files.Way(top) as way:
        way.opened(("a", "b"))
        tree.joinpath(*moved).rename(tmp_path / "away" / moved[-1])
        found = os.fstat(way.opened(wanted))
    assert os.path.samestat(found, tree.joinpath(*wanted).stat())


def test_more_levels_than_python_recurses_are_restored(named: Machine) -> None:
    place = named.root / "root/deep"
    _chain(place, 1100)
    bottom = place.joinpath(*["d"] * 1100, "file")
    bottom.write_text("1")
    name = named.upgrade()
    bottom.write_text("2")
    ended = fs_rollback(named.root, "restore", name, "/root/deep", "--yes")
    assert ended.code == 0, ended
    assert bottom.read_text() == "1"
