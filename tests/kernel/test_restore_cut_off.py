# SPDX-License-Identifier: GPL-2.0-or-later
"""A restore that is killed, or fails, at each change: the old or the new is there, whole."""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Callable

import pytest

from fs_rollback.cli.main import main
from fs_rollback.errors import RefusedError
from fs_rollback.system.access import workplace
from fs_rollback.system.linux import durable, files
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import in_child
from tests.kernel.machine import Machine, run
from tests.manifest import Manifest, compare, manifest

WORKPLACE = ".fs-rollback-restore"
# What Python and the kernel edge tell of each change before it is made.
_CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.utime",
            "subprocess.Popen", "fs-rollback.changed")  # fmt: skip
_PATHS = ("srv/tree", "srv/gone", "etc/app.conf")


class Story:
    """A machine with three paths that differ from the snapshot: a tree, what is gone, a file."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        root = machine.root
        (root / "srv/tree/d").mkdir(parents=True)
        for number in range(5):
            (root / f"srv/tree/d/{number}").write_text(f"old {number}")
        (root / "srv/gone").write_text("old")
        (root / "srv/tree/fixed").write_text("old")
        run("chattr", "+i", str(root / "srv/tree/fixed"))
        self.name = machine.take()
        self.old = self.look()
        run("chattr", "-i", str(root / "srv/tree/fixed"))
        (root / "srv/gone").unlink()
        (root / "srv/tree/d/3").write_text("newer")
        (root / "etc/app.conf").write_text("newer")
        self.new = self.look()

    def look(self) -> dict[str, Manifest]:
        root = self.machine.root
        return {path: manifest(root / path) if os.path.isdir(root / path) else
                _of_file(root / path) for path in _PATHS}  # fmt: skip

    def words(self) -> list[str]:
        return ["restore", self.name, *(f"/{path}" for path in _PATHS), "--yes"]

    def expect_old_or_new(self) -> list[str]:
        """Check that each path is whole; returns those that have come back."""
        found = self.look()
        for path in _PATHS:
            ways = [compare(side[path], found[path]) for side in (self.new, self.old)]
            assert [] in ways, (path, ways)
        return [path for path in _PATHS if compare(self.old[path], found[path]) == []]

    def kept(self, path: str) -> list[Path]:
        place = self.machine.root / path
        return list(place.parent.glob(f"{place.name}.before-restore-*"))


def _of_file(path: Path) -> Manifest:
    return {"content": {"type": path.read_text()}} if path.exists() else {}


def _restore(story: Story, hook: Callable[[str, int], None]) -> int:
    """Restore in a child that has `hook` called before each change; returns its signal."""

    def work() -> None:
        nothing = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(nothing, descriptor)
        count = 0

        def heard(event: str, arguments: tuple[object, ...]) -> None:
            nonlocal count
            if event in _CHANGES:
                count += 1
                hook(f"{event} {arguments[0] if arguments else ''}", count)

        sys.addaudithook(heard)
        words = story.words()
        main([words[0], "--root", str(story.machine.root), *words[1:]])

    return in_child(work)


def _kill_at(point: int) -> Callable[[str, int], None]:
    def hook(_event: str, count: int) -> None:
        if count == point:
            os.kill(os.getpid(), 9)

    return hook


def test_a_kill_at_each_change(named: Machine) -> None:
    story = Story(named)
    point, seen = 0, set()
    while True:
        point += 1
        killed = _restore(story, _kill_at(point))
        came = story.expect_old_or_new()
        seen.add(tuple(came))
        is_listed = (named.root / WORKPLACE / "restore.json").exists()
        ended = done(named.root, "pin", story.name)
        assert not (named.root / WORKPLACE).exists()
        assert story.expect_old_or_new() == came, "a later run changes nothing of that"
        if is_listed:
            assert all(f"/{path} was restored" in ended.err for path in came), (came, ended.err)
        for path in ("srv/tree", "etc/app.conf"):
            assert len(story.kept(path)) == (path in came)
            for kept in story.kept(path):
                found = manifest(kept) if kept.is_dir() else _of_file(kept)
                assert compare(story.new[path], found) == []
        if not killed:
            break
        for path in came:
            _undo(story, path)
    assert came == list(_PATHS)
    assert {(), ("srv/tree",), ("srv/tree", "srv/gone"), _PATHS} <= seen
    assert point > 15


def _undo(story: Story, path: str) -> None:
    place = story.machine.root / path
    if place.is_dir():
        run("chattr", "-i", str(place / "fixed"))
    run("rm", "-rf", str(place))
    for kept in story.kept(path):
        kept.rename(place)


def test_an_error_at_each_change_leaves_all_as_it_was(named: Machine, tmp_path: Path) -> None:
    """Or it is mended: what goes wrong with a file is tried once more by cp(1)."""
    story = Story(named)
    point, mended, failed = 0, 0, tmp_path / "failed"
    while True:
        point += 1
        failed.unlink(missing_ok=True)

        def hook(event: str, count: int, point: int = point) -> None:
            if count == point:
                failed.touch()
                raise OSError(errno.EIO, "injected", event)

        _restore(story, hook)
        came = story.expect_old_or_new()
        done(named.root, "pin", story.name)
        assert story.expect_old_or_new() == came
        assert came in ([], list(_PATHS)), (point, came)
        assert not (named.root / WORKPLACE).exists()
        if not failed.exists():
            break
        mended += bool(came)
        for path in came:
            _undo(story, path)
    assert came == list(_PATHS)
    assert point - mended > 12


def test_what_came_to_a_place_in_the_last_moment_is_kept(named: Machine) -> None:
    """A program may replace a file after it was looked at, and the restore be killed after that."""
    story = Story(named)

    left = named.root / WORKPLACE
    (left / "new/etc").mkdir(parents=True)
    left.chmod(0o700)
    (left / "new/etc/app.conf").write_text("a third")
    row = {"path": "etc/app.conf", "place": "etc/app.conf", "kept": "etc/kept", "copy": 1}
    (left / "restore.json").write_text(json.dumps({"version": 1, "paths": [row]}))
    done(named.root, "pin", story.name)
    assert (named.root / "etc/kept").read_text() == "a third"
    assert not left.exists()


def test_what_nobody_knows_is_left_and_named(named: Machine) -> None:
    name = named.take()
    left = named.root / WORKPLACE
    left.mkdir(mode=0o700)
    (left / "new").mkdir()
    ended = done(named.root, "pin", name)
    assert f"/{WORKPLACE} has no list of the files" in ended.err
    refused = fs_rollback(named.root, "restore", name, "/etc/app.conf", "--yes")
    assert refused.code == 3
    assert (left / "new").is_dir()
    (left / "new").rmdir()
    left.chmod(0o755)
    ended = done(named.root, "pin", name)
    assert f"/{WORKPLACE} was not made by fs-rollback" in ended.err
    left.chmod(0o700)
    assert WORKPLACE not in done(named.root, "pin", name).err
    assert not left.exists()


def test_the_owner_of_a_directory_leads_it_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put aside may come into the directory of a user, who can rename what is in it."""
    own, other = tmp_path / "own", tmp_path / "other"
    make = os.mkdir
    for directory in (own, other):
        directory.mkdir(mode=0o700)

    def made(path: str, mode: int, *, dir_fd: int) -> None:
        make(path, mode, dir_fd=dir_fd)
        if path == WORKPLACE:
            (own / path).rename(own / "stolen")
            (own / path).symlink_to(other)

    monkeypatch.setattr(os, "mkdir", made)
    with (
        files.opened(str(own)) as base,
        pytest.raises(RefusedError),
        workplace.opened(base, [], durable.write_text),
    ):
        pass
    assert list(other.iterdir()) == []


def test_ctrl_c_leaves_all_as_it_was(named: Machine) -> None:
    story = Story(named)

    def hook(event: str, _count: int) -> None:
        if event.startswith("os.utime"):
            os.kill(os.getpid(), signal.SIGINT)

    _restore(story, hook)
    assert story.expect_old_or_new() == []
    assert not (named.root / WORKPLACE).exists()

    def later(event: str, _count: int) -> None:
        if event == "fs-rollback.changed exchange":
            os.kill(os.getpid(), signal.SIGINT)

    _restore(story, later)
    assert story.expect_old_or_new() == list(_PATHS), "too late: it is done, and nothing else"
