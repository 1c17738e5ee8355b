# SPDX-License-Identifier: GPL-2.0-or-later
"""What two rpm databases differ in, and whose a file is, held against what rpm says."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fs_rollback.core.comparison.files import FileChange
from fs_rollback.core.packages.changes import between, differences
from fs_rollback.system.comparison import database, owned
from fs_rollback.system.comparison.database import Database, DatabaseError
from fs_rollback.system.comparison.owned import Side
from tests.kernel.machine import run
from tests.need import need
from tests.sandbox.rpms import Package, build

PLACE = "usr/lib/sysimage/rpm"
CONF = ("/etc/foo.conf", "/usr/bin/foo")


def foo(version: str) -> Package:
    return Package("foo", version, files=dict.fromkeys(CONF, f"packaged {version}"))


FIRST = (
    foo("1.0"),
    Package("same", "1", files={"/etc/same.conf": "same", "/usr/bin/same": "same"}),
    Package("bar", "2.0", epoch="1", files={"/usr/share/bar/LICENSE": "bar"}),
    Package("baz", "1", files={"/usr/share/baz/LICENSE": "baz", "/bin/baz": "#!/bin/sh\n"}),
    Package("kernel", "6.1", files={"/usr/lib/modules/6.1/vmlinuz": "6.1"}),
    Package("many", "1", more=30),
    Package("gone", "1", arch="x86_64", files={"/usr/bin/gone": "gone"}),
    Package("moved", "1"),
)
SECOND = (
    foo("1.1"),
    Package("bar", "1.9", epoch="1", files={"/usr/share/bar/LICENSE": "bar"}),
    Package("kernel", "6.2", files={"/usr/lib/modules/6.2/vmlinuz": "6.2"}),
    Package("new", "1~rc1", release="1.fc44"),
    Package("moved", "2", arch="x86_64"),
)


class Trees:
    """Two trees with the packages of today, and with those before an upgrade."""

    def __init__(self, directory: Path) -> None:
        self.old, self.new = directory / "old", directory / "new"
        packages = directory / "packages"
        first, second = build(FIRST, packages), build(SECOND, packages)
        more = sorted(packages.glob("many-0*.rpm"))
        self._rpm(self.old, "--install", "--ignorearch", *first, *more)
        shutil.copytree(self.old, self.new)
        app, bar, kernel, new, moved = second
        self._rpm(self.new, "--install", kernel, new)
        self._rpm(self.new, "--upgrade", "--oldpackage", "--ignorearch", app, bar, moved)
        self._rpm(self.new, "--erase", "gone")

    def _rpm(self, tree: Path, *arguments: object) -> None:
        (tree / PLACE).mkdir(parents=True, exist_ok=True)
        options = "--justdb", "--nodeps", "--noscripts", "--notriggers"
        run("rpm", "--dbpath", str(tree / PLACE), *options, *map(str, arguments))

    def says(self, tree: Path) -> set[str]:
        query = "%{NAME} %{ARCH} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n"
        place = str(tree / PLACE)
        return set(run("rpm", "--dbpath", place, "-qa", "--queryformat", query).splitlines())


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> Trees:
    need("rpmbuild", "rpm")
    return Trees(tmp_path_factory.mktemp("trees"))


@contextmanager
def opened(tree: Path) -> Iterator[Database]:
    descriptor = os.open(tree, os.O_RDONLY)
    try:
        with database.opened(descriptor) as found:
            yield found
    finally:
        os.close(descriptor)


@pytest.fixture
def both(trees: Trees) -> Iterator[tuple[Database, Database]]:
    with opened(trees.old) as old, opened(trees.new) as new:
        yield old, new


def test_the_packages_that_differ_are_those_of_rpm(
    trees: Trees, both: tuple[Database, Database]
) -> None:
    found = database.differing_packages(*both)
    told = [{f"{i.name} {i.arch} {i.evr}" for i in side} for side in found]
    said = trees.says(trees.old), trees.says(trees.new)
    assert len(said[0]) > 30
    assert told[0] - told[1] == said[0] - said[1]
    assert told[1] - told[0] == said[1] - said[0]
    changes = {(c.action, c.name, c.old, c.new) for c in between(found[1], found[0])}
    assert changes == {
        ("revert", "foo", "1.1-1", "1.0-1"),
        ("revert", "bar", "1:1.9-1", "1:2.0-1"),
        ("revert", "moved", "2-1", "1-1"),
        ("remove", "kernel", "6.2-1", None),
        ("remove", "new", "1~rc1-1.fc44", None),
        ("restore", "gone", None, "1-1"),
    }, "the version of the kernel that is in both is not one that differs"
    forward = {(c.action, c.name) for c in differences(*found)}
    (moved,) = (c for c in differences(*found) if c.name == "moved")
    assert (moved.action, *moved.versions) == ("upgrade", "1-1.noarch", "2-1.x86_64")
    assert {("upgrade", "foo"), ("downgrade", "bar"), ("install", "kernel")} <= forward
    assert database.differing_packages(both[0], both[0]) == (set(), set())


def test_a_database_that_is_damaged_is_read_by_rpm(trees: Trees, tmp_path: Path) -> None:
    odd, empty = tmp_path / "odd", tmp_path / "empty"
    shutil.copytree(trees.new, odd)
    with closing(sqlite3.connect(odd / PLACE / "rpmdb.sqlite")) as connection, connection:
        connection.execute("INSERT INTO Packages VALUES (9999, x'00')")
        connection.execute("INSERT INTO Name VALUES ('damaged', 9999, 0)")
    empty.mkdir()
    with opened(trees.old) as old, opened(odd) as new, opened(empty) as none:
        first, second = database.differing_packages(old, new)
        assert {f"{i.name} {i.arch} {i.evr}" for i in second} == trees.says(trees.new)
        first, second = database.differing_packages(old, none)
        assert {f"{i.name} {i.arch} {i.evr}" for i in first} == trees.says(trees.old)
        assert second == set()
    (odd / PLACE / "rpmdb.sqlite").write_bytes(b"another kind")
    with opened(odd) as broken, pytest.raises(DatabaseError):
        broken.owners(["/etc/foo.conf"])


def test_nothing_is_written_beside_a_database_and_its_log_is_read(
    trees: Trees, tmp_path: Path
) -> None:
    tree = tmp_path / "tree"
    shutil.copytree(trees.old, tree)
    for path in (tree / PLACE).glob("*-*"):
        path.unlink()
    with opened(tree) as quiet:
        assert sorted(os.listdir(tree / PLACE)) == [".rpm.lock", "rpmdb.sqlite"]
        with closing(sqlite3.connect(tree / PLACE / "rpmdb.sqlite")) as writer:
            writer.execute("PRAGMA wal_autocheckpoint = 0")
            writer.execute("DELETE FROM Packages")
            writer.execute("DELETE FROM Sha1header")
            writer.commit()
            assert (tree / PLACE / "rpmdb.sqlite-wal").stat().st_size > 0
            with opened(tree) as late:
                assert late.headers() == {}, "what rpm has written, and SQLite not yet moved"
            assert len(quiet.headers()) > 30


def test_the_owner_of_a_file_is_that_of_rpm(trees: Trees, both: tuple[Database, Database]) -> None:
    paths = [*CONF, "/usr/share/bar/LICENSE", "/usr/share/baz/LICENSE", "/usr/share/LICENSE"]
    for side, tree in zip(both, (trees.old, trees.new)):
        found = side.owners([*paths, "/nowhere", os.fsdecode(b"/etc/\xff"), "/etc/\u00fc"])
        query = "[%{FILENAMES}\\t%{=NAME}\\t%{FILEDIGESTS}\\n]"
        listed = run("rpm", "--dbpath", str(tree / PLACE), "-qa", "--queryformat", query)
        rows = (line.split("\t") for line in listed.splitlines())
        owned = {path: (name, digest) for path, name, digest in rows if path in paths}
        assert len(owned) == 4
        assert {p: (f.package.name, f.digest) for p, f in found.items()} == owned
        assert {f.algorithm for f in found.values()} <= {"md5", "sha256"}
        assert [p for p, f in found.items() if f.is_config] == ["/etc/foo.conf"]


def test_a_file_is_found_by_the_name_that_the_package_has_for_its_directory(
    both: tuple[Database, Database],
) -> None:
    assert both[0].owners(["/usr/bin/baz"])["/usr/bin/baz"].package.name == "baz"
    assert both[0].owners(["/opt/bin/baz"]) == {}


@pytest.mark.parametrize(
    ("change", "text", "told"),
    [
        (
            FileChange("/etc/foo.conf", "changed", "file", ("content",)),
            "packaged 1.1",
            ("foo", False),
        ),
        (
            FileChange("/etc/foo.conf", "changed", "file", ("content",)),
            "another 1.1",
            ("foo", True),
        ),
        (FileChange("/etc/foo.conf", "removed", "file"), "", ("foo", True)),
        (FileChange("/etc/same.conf", "changed", "file", ("mode",)), "same", ("same", True)),
        (FileChange("/usr/bin/foo", "changed", "file", ("content",)), "", ("foo", False)),
        (FileChange("/usr/bin/same", "changed", "file", ("content",)), "", ("same", True)),
        (FileChange("/usr/bin/gone", "removed", "file"), "", ("gone", False)),
        (FileChange("/etc/gone", "renamed", "file", (), "/usr/bin/gone"), "", ("gone", True)),
        (FileChange("/etc/foo.conf.rpmnew", "added", "file"), "", ("", False)),
        (FileChange("/srv/mine", "added", "file"), "", ("", True)),
    ],
    ids=lambda value: value.path if isinstance(value, FileChange) else "",
)
def test_an_edited_file_is_told_from_one_that_a_package_brought(
    tmp_path: Path,
    both: tuple[Database, Database],
    change: FileChange,
    text: str,
    told: tuple[str, bool],
) -> None:
    path = tmp_path / change.path.lstrip("/")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    tree = os.open(tmp_path, os.O_RDONLY)
    try:
        (found,) = owned.owned([change], Side(-1, both[0]), Side(tree, both[1]))
        assert found == (change, *told)
    finally:
        os.close(tree)
