# SPDX-License-Identifier: GPL-2.0-or-later
"""The comparison of files, held against a full walk of both trees over generated histories."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, Optional, cast

import btrfsutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fs_rollback.core.comparison.files import FileChange
from fs_rollback.core.snapshots.snapshot import Subvolume
from fs_rollback.system.comparison.trees import SubvolumeTree, changed_files
from fs_rollback.system.linux import btrfs, files, tree_search
from fs_rollback.system.machine.host import Host
from tests.kernel.histories import (
    NAMED,
    OPERATIONS,
    Grower,
    Operations,
    examples,
    is_a_subvolume,
    play,
)
from tests.kernel.machine import run


class Looks(NamedTuple):
    kind: int
    content: object
    mode: int
    owner: tuple[int, int]
    xattrs: dict[str, bytes]


class Filesystem:
    """As much of a machine as the comparison asks for."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.touched: dict[object, object] = {}

    @property
    def subvolumes(self) -> tuple[Subvolume, ...]:
        return btrfs.subvolumes(str(self.top))

    def by_uuid(self, uuid: str) -> Optional[Subvolume]:
        return next((s for s in self.subvolumes if s.uuid == uuid), None)

    def path(self, path: str) -> str:
        return str(self.top / path)


SUBVOLUME = Looks(0, None, 0, (0, 0), {})


def walk(tree: Path) -> dict[str, Looks]:
    found = {"/": look(tree, is_root=True)}
    for place, directories, plain in os.walk(tree):
        for name in directories + plain:
            path = Path(place) / name
            found["/" + str(path.relative_to(tree))] = look(path)
        # A nested subvolume is not a part of what is compared.
        directories[:] = [
            d for d in directories if (Path(place) / d).lstat().st_ino not in (2, 256)
        ]
    return found


def look(path: Path, *, is_root: bool = False) -> Looks:
    status = path.lstat()
    content: object = None
    kind = stat.S_IFMT(status.st_mode)
    if stat.S_ISREG(status.st_mode):
        content = path.read_bytes()
    elif stat.S_ISLNK(status.st_mode):
        content = os.readlink(path)
    elif stat.S_ISCHR(status.st_mode):
        content = status.st_rdev
    elif is_a_subvolume(status) and not is_root:
        return SUBVOLUME
    xattrs = {
        n: os.getxattr(path, n, follow_symlinks=False)
        for n in os.listxattr(path, follow_symlinks=False)
    }
    return Looks(
        kind, content, stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid), xattrs
    )


def what_differs(old: Looks, new: Looks) -> tuple[str, ...]:
    if old.kind != new.kind:
        return ("type",)
    found = ["content"] if old.content != new.content else []
    found += ["mode"] if old.mode != new.mode else []
    found += ["owner"] if old.owner != new.owner else []
    names = old.xattrs.keys() | new.xattrs.keys()
    return (*found, *sorted(n for n in names if old.xattrs.get(n) != new.xattrs.get(n)))


def expect_told(
    old: dict[str, Looks], new: dict[str, Looks], told: list[FileChange], *, is_known: bool = True
) -> None:
    """Fail unless the changes make the new tree of the old one, and say nothing else."""
    assert [t.path for t in told] == sorted((t.path for t in told), key=os.fsencode)
    renamed = {t.source: t for t in told if t.action == "renamed"}
    removed = {t.path for t in told if t.action == "removed"}
    added = {t.path for t in told if t.action == "added"}
    changed = {t.path: t for t in told if t.action == "changed"}

    # A directory that was moved away for a new one is compared with that, by path. Not so where one
    # takes the place of the next, or numbers agree by chance.
    arrived_at = {change.path for change in renamed.values()}
    for path in renamed.keys() & added if is_known else ():
        to = renamed[path].path
        is_fine = to in renamed or any(
            str(above) in moved
            for place, moved in ((path, renamed.keys()), (to, arrived_at))
            for above in Path(place).parents
        )
        assert is_fine or {old[path].kind, new[path].kind} != {stat.S_IFDIR}, (path, told)

    def goes_to(path: str) -> str:
        if path in renamed:
            return renamed[path].path
        above, _, name = path.rpartition("/")
        return f"{goes_to(above) if above else ''}/{name}"

    arrived: dict[str, str] = {}
    for path in old:
        if path in removed:
            continue
        there = goes_to(path)
        assert there not in arrived, (there, path, arrived[there], told)
        arrived[there] = path
    assert arrived.keys() | added == new.keys(), told
    assert not arrived.keys() & added, told
    for path, source in arrived.items():
        said = renamed[source].what if source in renamed else ()
        if path in changed:
            said = changed[path].what
        if old[source] == new[path] == SUBVOLUME:  # a stand-in does not tell of which
            continue
        assert said == what_differs(old[source], new[path]), (path, source, told)
    assert all(change.what for change in changed.values())


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from made_top(tmp_path_factory)


def made_top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("comparison")
    with (directory / "disk").open("wb") as file:
        file.truncate(2 << 30)
    run("mkfs.btrfs", "--quiet", str(directory / "disk"))
    place = directory / "top"
    place.mkdir()
    # What is deleted is freed after a commit.
    run("mount", "-o", "loop,commit=1", str(directory / "disk"), str(place))
    btrfsutil.create_subvolume(str(place / "base"))
    for number in range(400):  # some nodes of the tree
        folder = NAMED[number % 5]
        path = place / "base" / folder / folder / str(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"base" * number)
    yield place
    run("umount", str(place))


def delete(top: Path, trees: Iterable[Path]) -> None:
    """Delete trees; with little room left wait until they are freed, which a busy disk puts off."""
    for tree in trees:
        if tree.exists():
            btrfsutil.delete_subvolume(str(tree), recursive=True)
    found = os.statvfs(top)
    if found.f_bavail * 2 < found.f_blocks:
        run("btrfs", "subvolume", "sync", str(top))


def compared(top: Path, old: Path, new: Path) -> list[FileChange]:
    filesystem = Filesystem(top)
    by_path = {s.path: s for s in filesystem.subvolumes}
    return list(changed_files(cast(Host, filesystem), by_path[old.name], by_path[new.name]))


@examples(15, 1000)
@given(OPERATIONS, OPERATIONS, OPERATIONS, OPERATIONS, st.booleans())
@example(
    before=[],
    at_root=[],
    in_copy=[(Grower.nest, (6, "a"))],
    late=[(Grower.make_anew, 0, (6, "a"))],
    rollback=False,
)
def test_the_comparison_tells_what_a_walk_of_both_tells(
    top: Path,
    before: Operations,
    at_root: Operations,
    in_copy: Operations,
    late: Operations,
    rollback: bool,
) -> None:
    root, copy, again = trees = [top / name for name in ("root", "copy", "again")]
    btrfsutil.create_snapshot(str(top / "base"), str(root))
    try:
        play(root, before)
        btrfsutil.create_snapshot(str(root), str(copy))
        play(root, at_root)
        play(copy, in_copy)
        btrfsutil.create_snapshot(str(copy if rollback else root), str(again))
        play(again, late)
        walks = {tree: walk(tree) for tree in trees}
        run("sync", "--file-system", str(top))
        for old, new in itertools.product(trees, trees):
            expect_told(walks[old], walks[new], compared(top, old, new))
        # Without what tells what the third one was made of.
        btrfsutil.delete_subvolume(str(copy), recursive=True)
        for old, new in itertools.permutations((root, again)):
            expect_told(walks[old], walks[new], compared(top, old, new), is_known=False)
    finally:
        delete(top, trees)


def test_a_directory_made_anew_is_compared_by_path(top: Path) -> None:
    """As `restore` does, or a person with mv and cp before an edit."""
    root, now = trees = [top / name for name in ("root", "again")]
    btrfsutil.create_subvolume(str(root))
    try:
        for path in ("conf/sub/same", "conf/edited", "conf/left"):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(path)
        btrfsutil.create_snapshot(str(root), str(now))
        (now / "conf").rename(now / "conf.bak")
        shutil.copytree(now / "conf.bak", now / "conf")
        (now / "conf/edited").write_text("edited")
        (now / "conf/left").unlink()
        run("sync", "--file-system", str(top))
        told = [(change.action, change.path, *change.what) for change in compared(top, *trees)]
    finally:
        for tree in trees:
            btrfsutil.delete_subvolume(str(tree))
    assert told == [
        ("added", "/conf.bak"),
        ("added", "/conf.bak/edited"),
        ("renamed", "/conf.bak/left"),
        ("added", "/conf.bak/sub"),
        ("added", "/conf.bak/sub/same"),
        ("changed", "/conf/edited", "content"),
    ]


def test_directories_that_move_on_in_turn_are_renamed(top: Path) -> None:
    """As backups do that are kept in turn; each is told once, however many there are."""
    root, now = trees = [top / name for name in ("root", "again")]
    btrfsutil.create_subvolume(str(root))
    try:
        for number in range(30):
            (root / f"d{number}").mkdir()
            (root / f"d{number}/file").write_text(str(number))
        btrfsutil.create_snapshot(str(root), str(now))
        shutil.rmtree(now / "d29")
        for number in reversed(range(29)):
            (now / f"d{number}").rename(now / f"d{number + 1}")
        shutil.copytree(now / "d1", now / "d0")
        run("sync", "--file-system", str(top))
        told = {(change.action, change.source, change.path) for change in compared(top, *trees)}
    finally:
        for tree in trees:
            btrfsutil.delete_subvolume(str(tree))
    moved = {("renamed", f"/d{number}", f"/d{number + 1}") for number in range(29)}
    assert told - moved == {
        *(("removed", "", path) for path in ("/d29", "/d29/file")),
        *(("added", "", path) for path in ("/d0", "/d0/file")),
    }
    assert moved < told


def test_many_directories_that_were_made_one_after_another_are_read_together(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = top / "root"
    btrfsutil.create_subvolume(str(root))
    try:
        for number in range(500):
            (root / str(number)).mkdir()
            (root / str(number) / "file").touch()
        run("sync", "--file-system", str(top))
        searches: list[int] = []
        search = tree_search._search_into

        def counted(answer: bytearray, descriptor: int, *key: int) -> int:
            searches.append(descriptor)
            return search(answer, descriptor, *key)

        monkeypatch.setattr(tree_search, "_search_into", counted)
        with files.opened(str(root)) as tree:
            found = dict(tree_search.InodeReader(tree).of_all(257, 1256))
        assert found.keys() == set(range(257, 1257))
        assert len(searches) < 20
    finally:
        btrfsutil.delete_subvolume(str(root))


@examples(10, 200)
@given(OPERATIONS, OPERATIONS, OPERATIONS)
def test_trees_without_a_common_history(
    top: Path, before: Operations, here: Operations, there: Operations
) -> None:
    """As after a root was received, or restored from a backup, beside older snapshots."""
    root, received = trees = [top / name for name in ("root", "received")]
    btrfsutil.create_snapshot(str(top / "base"), str(root))
    try:
        play(root, before)
        btrfsutil.create_subvolume(str(received))
        run("cp", "--archive", "--reflink=auto", f"{root}/.", str(received))
        play(root, here)
        play(received, there)
        walks = {tree: walk(tree) for tree in trees}
        run("sync", "--file-system", str(top))
        for old, new in itertools.permutations(trees):
            expect_told(walks[old], walks[new], compared(top, old, new), is_known=False)
    finally:
        delete(top, trees)


def test_a_directory_that_was_only_read_is_not_listed(
    top: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As find, backups and updatedb leave all of a machine once a day (relatime)."""
    root, copy = trees = [top / name for name in ("root", "copy")]
    btrfsutil.create_snapshot(str(top / "base"), str(root))
    listed: set[int] = set()
    listing = SubvolumeTree.listing

    def noted(self: SubvolumeTree, number: int) -> Iterable[bytes]:
        listed.add(number)
        return listing(self, number)

    monkeypatch.setattr(SubvolumeTree, "listing", noted)
    try:
        for name in ("read", "changed"):
            (root / name).mkdir()
            (root / name / "file").touch()
        btrfsutil.create_snapshot(str(root), str(copy))
        since = btrfsutil.subvolume_info(str(copy)).otransid
        os.listdir(root / "read")
        (root / "changed/file").rename(root / "changed/name")
        run("sync", "--file-system", str(top))
        read, changed = ((root / name).stat().st_ino for name in ("read", "changed"))
        with files.opened(str(root)) as tree:
            assert {read, changed} <= dict(tree_search.touched_inodes(tree, since)).keys()
        told = [(change.action, change.path) for change in compared(top, copy, root)]
    finally:
        for tree_path in trees:
            btrfsutil.delete_subvolume(str(tree_path))
    assert told == [("renamed", "/changed/name")]
    assert listed == {changed}
