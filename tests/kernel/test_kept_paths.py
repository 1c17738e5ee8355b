# SPDX-License-Identifier: GPL-2.0-or-later
"""Kept paths by difference, held against full walks over generated histories."""

from __future__ import annotations

import os
import stat
import struct
from collections import defaultdict, deque
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Optional, cast

import btrfsutil
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fs_rollback.core.rollback.steps import KeepPaths
from fs_rollback.core.snapshots.snapshot import Subvolume
from fs_rollback.system.comparison.trees import changed_files
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.linux import btrfs, files
from fs_rollback.system.machine.host import Host
from tests.kernel.histories import OPERATIONS, Grower, examples, is_a_subvolume, play
from tests.kernel.histories import Operations as History
from tests.kernel.machine import run
from tests.kernel.test_comparison import delete, look, made_top
from tests.kernel.test_restore_attributes import compressed, flags

Touched = dict[object, object]


class Filesystem:
    """As much of a machine as the step asks for."""

    def __init__(self, top: Path, top_fd: int, touched: Optional[Touched] = None) -> None:
        self.top, self.top_fd, self.touched = top, top_fd, touched or {}

    @property
    def subvolumes(self) -> tuple[Subvolume, ...]:
        return btrfs.subvolumes(str(self.top))

    def path(self, path: str) -> str:
        return str(self.top / path)

    def forget(self) -> None:
        pass

    def by_path(self, path: str) -> Optional[Subvolume]:
        return next((s for s in self.subvolumes if s.path == path), None)

    def by_uuid(self, uuid: str) -> Optional[Subvolume]:
        return next((s for s in self.subvolumes if s.uuid == uuid), None)


class Seen(NamedTuple):
    """All that is to be the same of a file; `group` are the names of its hard links."""

    looks: object
    device: int
    modified_ns: int
    group: tuple[str, ...]


class Walk:
    """A tree at a moment, by paths from its root, "" for itself; `numbers` are of inodes."""

    def __init__(self, tree: Path) -> None:
        self.seen: dict[str, Seen] = {}
        self.numbers: dict[str, int] = {}
        self.stand_ins: set[str] = set()
        self._read(tree)
        groups = defaultdict(list)
        for path, number in self.numbers.items():
            if path not in self.stand_ins:
                groups[number].append(path)
        for path, seen in self.seen.items():
            group = groups.get(self.numbers[path], [path])
            self.seen[path] = seen._replace(group=tuple(sorted(group)))

    def _read(self, tree: Path) -> None:
        self._look(tree, ".")
        for place, directories, others in os.walk(tree):
            for path in (Path(place) / name for name in directories + others):
                self._look(path, str(path.relative_to(tree)))
            nested = {d for d in directories if is_a_subvolume((Path(place) / d).lstat())}
            directories[:] = sorted(set(directories) - nested)

    def _look(self, path: Path, name: str) -> None:
        status = path.lstat()
        if name != "." and is_a_subvolume(status):
            self.stand_ins.add(name)
        device = 0 if stat.S_ISDIR(status.st_mode) else status.st_rdev
        looks = look(path, is_root=name == ".")
        self.seen[name] = Seen(looks, device, status.st_mtime_ns, ())
        self.numbers[name] = status.st_ino

    def part(self, parts: Sequence[str], *, inside: bool) -> dict[str, Seen]:
        """Return what is in the parts, or outside; of hard links those names that are there too."""

        def counts(path: str) -> bool:
            return any(path == p or path.startswith(p + "/") for p in parts) == inside

        return {
            path: seen._replace(group=tuple(filter(counts, seen.group)))
            for path, seen in self.seen.items()
            if counts(path) and path not in self.stand_ins
        }


def can_be_kept(root: Path, path: str) -> bool:
    """Whether a path would be: none is that a link leads to, or that is in a nested subvolume."""
    above = [root.joinpath(*Path(path).parts[:n]) for n in range(1, len(Path(path).parts))]
    if not all(p.is_dir() and not p.is_symlink() for p in above):
        return False
    chain = [*above, root / path]
    return (root / path).exists() and not any(is_a_subvolume(p.lstat()) for p in chain)


def above(path: str) -> list[str]:
    return [".", *(str(p) for p in Path(path).parents if str(p) != ".")]


def keep(top: Path, parts: Sequence[str], touched: Optional[Touched] = None) -> None:
    step = KeepPaths("root", "spare", "spare.keep", tuple("/" + part for part in parts))
    with files.opened(str(top)) as top_fd:
        filesystem = Filesystem(top, top_fd, touched)
        step.apply(Operations(cast(Host, filesystem)))


def asked(top: Path, old: Path, new: Path) -> Touched:
    """Compare two trees as the question does, and return what the machine remembers of that."""
    run("sync", "--file-system", str(top))
    with files.opened(str(top)) as top_fd:
        filesystem = Filesystem(top, top_fd)
        one, other = (filesystem.by_path(tree.name) for tree in (old, new))
        assert one is not None
        assert other is not None
        deque(changed_files(cast(Host, filesystem), one, other), maxlen=0)
        return filesystem.touched


def check(
    top: Path,
    parts: Sequence[str],
    touched: Optional[Touched] = None,
    theirs: Collection[int] = range(2**64),
) -> None:
    """Do the step; fail unless the parts are as in the root, and all else as before.

    `theirs` are the numbers of the time when root and target had one history: others may be the
    same by chance.
    """
    root, spare = Walk(top / "root"), Walk(top / "spare")
    keep(top, parts, touched)
    made = Walk(top / "spare")
    same = (p for p in parts if root.numbers[p] == spare.numbers.get(p) in theirs)
    told = [p for p in same if (top / "root" / p).is_dir()]
    # What is nested another step carries over, to where there is a directory now.
    nested = {path for path in root.stand_ins if any(path.startswith(p + "/") for p in parts)}
    assert not nested & made.stand_ins
    # One that is copied as a whole has no links with the others.
    for scope in [[part] for part in parts] + ([told] if told == list(parts) else []):
        expected, found = (walk.part(scope, inside=True) for walk in (root, made))
        assert {path: seen for path, seen in found.items() if path not in nested} == expected
    # The way to it may be new, too.
    ways = {way for part in parts if part not in told for way in above(part)}
    before, after = (walk.part(parts, inside=False) for walk in (spare, made))
    assert {p: s for p, s in before.items() if p not in ways} == {
        p: s for p, s in after.items() if p not in ways
    }
    for path in root.part(told, inside=True):
        chain = [path, *above(path)]
        is_same = all(root.numbers[p] == spare.numbers.get(p) in theirs for p in chain)
        if is_same and root.seen[path] == spare.seen[path]:
            assert made.numbers[path] == root.numbers[path], f"{path} was copied"


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from made_top(tmp_path_factory)


PARTS = st.sampled_from([("a",), ("b/b",), ("a/a", "b"), ("a", "b", "c/c", "d"), ("c/c/2", "e")])


@examples(15, 1000)
@given(OPERATIONS, OPERATIONS, OPERATIONS, OPERATIONS, PARTS)
@example(
    before=[],
    since=[],
    more=[(Grower.make_anew, 0, (6, "a"))],
    theirs=[(Grower.make_anew, 0, (6, "a"))],
    parts=("a",),
)
def test_kept_paths_are_as_in_the_running_root(
    top: Path,
    before: History,
    since: History,
    more: History,
    theirs: History,
    parts: tuple[str, ...],
) -> None:
    """`theirs` is the history of a replaced root, if that is the target."""
    names = ("root", "target", "spare", "spare.keep")
    root, target, spare, _ = trees = [top / name for name in names]
    btrfsutil.create_snapshot(str(top / "base"), str(root))
    try:
        play(root, before)
        btrfsutil.create_snapshot(str(root), str(target))
        numbers = frozenset(Walk(target).numbers.values())
        play(root, since)
        play(target, theirs)
        touched = asked(top, target, root)
        btrfsutil.create_snapshot(str(target), str(spare))
        play(root, more)
        wanted = [part for part in parts if can_be_kept(root, part)]
        if wanted:
            check(top, wanted, touched, numbers)
    finally:
        delete(top, trees)


@pytest.fixture
def trees(top: Path) -> Iterator[Path]:
    """Give the running root, which a target is taken of by `take`."""
    root = top / "root"
    btrfsutil.create_snapshot(str(top / "base"), str(root))
    yield root
    for path in (root, top / "target", top / "spare"):
        if path.exists():
            btrfsutil.delete_subvolume(str(path), recursive=True)


def take(root: Path) -> None:
    for one, other in (("root", "target"), ("target", "spare")):
        btrfsutil.create_snapshot(str(root.with_name(one)), str(root.with_name(other)))


def test_what_is_protected_from_changes(top: Path, trees: Path) -> None:
    place = trees / "a/a"
    for name in ("sealed", "moved", "other"):
        (place / name).mkdir()
        (place / name / "file").write_text("1")
    (place / "append").write_text("1")
    for flag, path in (("+i", "sealed"), ("+i", "sealed/file"), ("+a", "append"), ("+i", "moved")):
        run("chattr", flag, str(place / path))
    take(trees)
    run("chattr", "-i", str(place / "sealed"), str(place / "sealed/file"), str(place / "moved"))
    (place / "sealed/file").write_text("2")
    (place / "sealed/new").write_text("2")
    run("chattr", "+i", str(place / "sealed"), str(place / "sealed/file"))
    (place / "moved").rename(place / "other/moved")
    with (place / "append").open("a") as file:
        file.write("2")
    check(top, ["a"])
    made = top / "spare/a/a"
    for path in ("sealed", "sealed/file", "sealed/new", "append", "other/moved"):
        assert flags(made / path) == flags(place / path), path
    assert (flags(made / "sealed"), flags(made / "append")) == ("i", "a")
    for tree in (place, made):
        run("chattr", "-R", "-f", "-i", "-a", str(tree))


def test_only_what_was_read(top: Path, trees: Path) -> None:
    """A time of access counts as a change in the filesystem: a backup reads everything."""
    take(trees)
    for path in (trees / "a").rglob("*"):
        os.utime(path, ns=(1, path.stat().st_mtime_ns))
    check(top, ["a"])
    assert Walk(top / "spare").numbers == Walk(top / "target").numbers


def test_only_the_time_of_a_file(top: Path, trees: Path) -> None:
    take(trees)
    os.utime(trees / "a/a/5", ns=(1, 1))
    os.utime(trees / "a", ns=(1, 1))
    check(top, ["a"])
    assert (top / "spare/a/a/5").stat().st_mtime_ns == 1


def test_directories_that_were_put_into_each_other(top: Path, trees: Path) -> None:
    for path in ("a/one/two/three", "a/doomed/saved", "d/in"):
        (trees / path).mkdir(parents=True)
        (trees / path / "file").write_text(path)
    take(trees)
    numbers = Walk(trees).numbers
    place = trees / "a"
    (place / "one/two/three").rename(place / "three")
    (place / "one/two").rename(place / "three/two")
    (place / "one").rename(place / "three/two/one")
    (place / "doomed/saved").rename(place / "saved")
    (place / "doomed").rmdir()
    (place / ".fs-rollback-moved").write_text("a user's own")
    (trees / "d/in").rename(place / "in")
    (place / "a").rename(trees / "d/out")
    check(top, ["a"])
    made = Walk(top / "spare").numbers
    for before, after in {
        "a/one/two/three/file": "a/three/file",
        "a/one/two": "a/three/two",
        "a/one": "a/three/two/one",
        "a/doomed/saved/file": "a/saved/file",
    }.items():
        assert made[after] == numbers[before], "it was moved, not copied"
    assert made["d/in/file"] == numbers["d/in/file"], "what is not kept stays where it was"


def test_links_to_what_is_not_kept(top: Path, trees: Path) -> None:
    """What is outside goes back, what is inside comes along, though they were one file."""
    for name in ("same", "changed", "linked"):
        (trees / f"a/{name}").write_text("1")
        os.link(trees / f"a/{name}", trees / f"d/{name}")
    take(trees)
    (trees / "a/changed").write_text("2")
    os.link(trees / "a/linked", trees / "a/again")
    check(top, ["a"])
    texts = [(top / "spare" / path).read_text() for path in ("a/changed", "d/changed")]
    assert texts == ["2", "1"]
    assert os.path.samefile(top / "spare/a/linked", top / "spare/a/again")


def test_what_shares_no_data(top: Path, trees: Path) -> None:
    for name in ("same", "changed"):
        (trees / f"a/{name}").touch()
        run("chattr", "+C", str(trees / f"a/{name}"))
        (trees / f"a/{name}").write_bytes(b"x" * 1_000_000)
    take(trees)
    with (trees / "a/changed").open("r+b") as file:
        file.write(b"y")
    check(top, ["a"])
    assert [flags(top / f"spare/a/{name}") for name in ("same", "changed")] == ["C", "C"]


def test_attributes_that_a_directory_hands_down(top: Path, trees: Path) -> None:
    (trees / "a/old").write_text("1")
    take(trees)
    (trees / "a/old").write_text("2")
    run("btrfs", "property", "set", str(trees / "a"), "compression", "zlib")
    # linux/posix_acl_xattr.h: what belongs to u::rwx,u:4321:rwx,g::r-x,m::rwx,o::r-x.
    entries = ((1, 7, -1), (2, 7, 4321), (4, 5, -1), (16, 7, -1), (32, 5, -1))
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(trees / "a", "system.posix_acl_default", acl)
    (trees / "a/new").write_text("2")
    check(top, ["a"])
    assert "system.posix_acl_access" in os.listxattr(top / "spare/a/new")
    assert "system.posix_acl_access" not in os.listxattr(top / "spare/a/old")


def test_compression_stays_what_it_was(top: Path, trees: Path) -> None:
    """FS_IOC_SETFLAGS, with which other flags are set, makes zlib of it, or takes it away."""
    wanted = {"sealed": "i", "quiet": "A", "in-step": "D"}
    for name in wanted:
        (trees / "a" / name).mkdir()
        (trees / "a" / name / "file").write_text("1")
    take(trees)
    for name, letters in wanted.items():
        place = trees / "a" / name
        for path in (place / "file", place / "new"):
            path.write_text("2" * 100_000)
            compressed(path, "zstd", letters.replace("D", "S"))
        compressed(place, "zstd", letters)
    (trees / "new").write_text("2")
    compressed(trees / "new", "zstd", "i")
    check(top, ["a", "new"])
    made = top / "spare"
    for path in [made / "new", *(p for name in wanted for p in (made / "a" / name).rglob("*"))]:
        assert os.getxattr(path, "btrfs.compression") == b"zstd", path
        assert flags(path) == flags(trees / path.relative_to(made)), path
    found = {path: flags(made / path) for path in ("a/sealed/file", "a/in-step", "new")}
    assert found == {"a/sealed/file": "ic", "a/in-step": "Dc", "new": "ic"}
    for tree in (trees, made):
        run("chattr", "-R", "-f", "-i", "-a", str(tree))


def test_kept_files(top: Path, trees: Path) -> None:
    (trees / "new").write_text("2")
    take(trees)
    (top / "spare/new").unlink()
    (trees / "a/a/10").write_text("2")
    check(top, ["a/a/10", "a/a/15", "new"])
    assert Walk(top / "spare").numbers["a/a/15"] == Walk(trees).numbers["a/a/15"]


def test_without_a_common_history_all_is_copied(top: Path, trees: Path) -> None:
    """Nothing tells any more that the target was made of a snapshot of the root."""
    take(trees)
    btrfsutil.delete_subvolume(str(top / "target"))
    (trees / "a/a/5").write_text("2")
    (top / "spare/a/a/10").write_text("2")
    keep(top, ["a"])
    assert Walk(top / "spare").part(["a"], inside=True) == Walk(trees).part(["a"], inside=True)
    assert Walk(top / "spare").numbers["a/a/20"] != Walk(trees).numbers["a/a/20"]
