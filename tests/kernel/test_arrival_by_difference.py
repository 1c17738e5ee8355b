# SPDX-License-Identifier: GPL-2.0-or-later
"""What the first boot brings over by difference, held against full walks, cut off and failing."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Optional, cast

import btrfsutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fs_rollback.core.progress import Progress, untold
from fs_rollback.core.snapshots.snapshot import STAGING
from fs_rollback.core.space.headroom import Room
from fs_rollback.errors import KernelError, UndoFailedError
from fs_rollback.system.execute.arrivals import Path as Kept
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.linux import files
from fs_rollback.system.machine.host import Host
from fs_rollback.system.pending import by_difference
from fs_rollback.system.pending.by_difference import Workplace
from fs_rollback.system.space import room as rooms
from tests.kernel.faults import Fault, Faulty
from tests.kernel.histories import OPERATIONS, examples, play
from tests.kernel.histories import Operations as History
from tests.kernel.test_comparison import delete, made_top
from tests.kernel.test_kept_paths import PARTS, Filesystem, Seen, Walk, above, can_be_kept, keep

Change = Callable[[Path], object]
_OLD, _NEW, _IMAGE = "root", "spare", "spare.keep"


class _Cut(BaseException):
    """What ends a process, as far as its files show."""


class _Strike:
    """Is told of each change, and ends the process, or fails, at one; at all from there on."""

    def __init__(self, how: str, point: int) -> None:
        self.how, self._left = how, point

    def __call__(self, _done: int, _total: int) -> None:
        if self.how == "not":
            return
        self._left -= 1
        if self._left == -1 or (self._left < 0 and self.how == "always fails"):
            if self.how.startswith("cut"):
                raise _Cut
            raise KernelError("do", "what was asked", OSError(errno.ENOSPC, "injected"))


class _Machine(Filesystem):
    """A new root that has come up, and the old one as it was left."""

    mount = SimpleNamespace(source="the loop device")

    def bring(
        self, path: str, told: Progress = untold, operations: Optional[Faulty] = None
    ) -> bool:
        work = self._work(told)
        if operations is not None:
            work = work._replace(operations=operations)
        return by_difference.bring(work, self._image(), Kept(0, path))

    def finish(self, told: Progress = untold, *, with_old_root: bool = True) -> list[str]:
        return by_difference.finish(self._work(told), self._image() if with_old_root else None)

    def came_along(self, path: str) -> Optional[bool]:
        return by_difference.came_along(cast(Host, self), _NEW, Kept(0, path))

    def is_begun(self) -> bool:
        return by_difference.away(cast(Host, self), _NEW) != []

    def tidy(self) -> None:
        operations = Operations(cast(Host, self))
        operations.delete(f"{_NEW}/{STAGING}/before")
        operations.remove(_NEW, STAGING)

    def _image(self) -> str:
        operations = Operations(cast(Host, self))
        operations.delete(_IMAGE)
        operations.snapshot(_OLD, _IMAGE, read_only=True)
        return _IMAGE

    def _work(self, told: Progress) -> Workplace:
        host = cast(Host, self)
        return Workplace(host, Operations(host), _NEW, lambda *_: nullcontext(told))

    def walk(self, root: str, path: str) -> dict[str, Seen]:
        return Walk(self.top / root).part([path], inside=True)

    def around(self, path: str) -> dict[str, Seen]:
        """Return all of the new root but a path and the way to it."""
        found = Walk(self.top / _NEW).part([path, STAGING], inside=False)
        return {place: seen for place, seen in found.items() if place not in above(path)}

    def has_nested(self, path: str) -> bool:
        places = [f"{root}/{path}/" for root in (_OLD, _NEW)]
        return any(f"{s.path}/".startswith(p) for s in self.subvolumes for p in places)


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield from made_top(tmp_path_factory)


@pytest.fixture(scope="module")
def machine(top: Path) -> Iterator[_Machine]:
    with files.opened(str(top)) as top_fd:
        yield _Machine(top, top_fd)


@contextmanager
def _rolled_back(
    top: Path, parts: Sequence[str], before: Change, since: Change = lambda _: None
) -> Iterator[Path]:
    """Give the old root; the new one is a copy of the target, with the kept paths of the old one.

    `before` the target something happens, and `since` it, until the rollback.
    """
    old = top / _OLD
    try:
        btrfsutil.create_snapshot(str(top / "base"), str(old))
        before(old)
        btrfsutil.create_snapshot(str(old), str(top / "target"), read_only=True)
        since(old)
        btrfsutil.create_snapshot(str(top / "target"), str(top / _NEW))
        btrfsutil.create_snapshot(str(old), str(top / _IMAGE), read_only=True)
        keep(top, [part for part in parts if can_be_kept(old, part)])
        yield old
    finally:
        delete(top, (top / name for name in (_OLD, "target", _NEW, _IMAGE)))


HOW = st.sampled_from(["not", "cut", "cut, old root gone", "fails", "always fails"])


@examples(12, 1000)
@given(OPERATIONS, OPERATIONS, OPERATIONS, PARTS, HOW, st.integers(0, 20), st.integers(0, 20))
def test_a_path_is_as_in_the_old_root_or_as_before(
    machine: _Machine,
    before: History,
    since: History,
    late: History,
    parts: tuple[str, ...],
    how: str,
    point: int,
    again: int,
) -> None:
    """`before` and `since` are from before the rollback, `late` is what comes along."""
    changes = (lambda old: play(old, before)), (lambda old: play(old, since))
    with _rolled_back(machine.top, parts, *changes) as old:
        play(old, late)
        for part in parts:
            if can_be_kept(old, part) and not machine.has_nested(part):
                _check(machine, part, [_Strike(how, point), _Strike(how, again)])
                machine.tidy()


def _check(machine: _Machine, part: str, strikes: Sequence[_Strike]) -> None:
    """Bring a path over, with what goes wrong; fail unless it is as it should be then."""
    how = strikes[0].how
    wanted, was, around = machine.walk(_OLD, part), machine.walk(_NEW, part), machine.around(part)
    try:
        if not machine.bring(part, strikes[0]):
            wanted = was
    except _Cut:
        _check_is_away(machine, part, around)
        wanted = _finished(machine, part, strikes[1], wanted, was)
    except UndoFailedError:
        assert how == "always fails"
        _check_is_away(machine, part, around)
        assert len(machine.finish()) == 1
        wanted = was
    except KernelError:
        assert how == "fails"
        wanted = was
    assert machine.walk(_NEW, part) == wanted
    assert machine.around(part) == around
    assert not machine.is_begun()
    assert machine.came_along(part) in (wanted is not was, None if wanted == was else True)


def _finished(
    machine: _Machine, part: str, strike: _Strike, wanted: dict[str, Seen], was: dict[str, Seen]
) -> dict[str, Seen]:
    """Finish it, after another cut, and return what is to be at the path."""
    has_old = strike.how == "cut"
    around = machine.around(part)
    try:
        problems = machine.finish(strike, with_old_root=has_old)
    except _Cut:
        _check_is_away(machine, part, around)
        problems = machine.finish(with_old_root=has_old)
    assert len(problems) == (not has_old)
    return wanted if has_old else was


def _check_is_away(machine: _Machine, part: str, around: dict[str, Seen]) -> None:
    """Nobody can take for the directory what stands there, and all else is as it was."""
    assert "'fs-rollback settle'" in (machine.top / _NEW / part).read_text()
    with pytest.raises(NotADirectoryError):
        (machine.top / _NEW / part / "file").write_text("a service's")
    assert (machine.top / _NEW / STAGING).stat().st_mode & 0o7777 == 0o700
    assert machine.around(part) == around
    assert machine.is_begun()


def _append(old: Path) -> None:
    with (old / "a/a/5").open("a") as file:
        file.write("late\n")


def test_where_metadata_may_have_no_room_nothing_is_begun(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _rolled_back(machine.top, ("a",), lambda _: None) as old:
        _append(old)
        was = machine.walk(_NEW, "a")
        with monkeypatch.context() as patch:
            patch.setattr(rooms, "read", lambda _: Room((), ()))
            assert not machine.bring("a")
        assert not (machine.top / _NEW / STAGING).exists()
        assert machine.walk(_NEW, "a") == was
        assert machine.bring("a")
        assert machine.walk(_NEW, "a") == machine.walk(_OLD, "a")


def test_only_what_has_changed_is_copied(machine: _Machine) -> None:
    with _rolled_back(machine.top, ("a",), lambda _: None) as old:
        before = Walk(machine.top / _NEW).numbers
        _append(old)
        (old / "a/new").write_text("late\n")
        done: list[tuple[int, int]] = []
        assert machine.bring("a", lambda *found: done.append(found))
        after = Walk(machine.top / _NEW).numbers
        assert before.items() <= after.items()
        assert done == [(number, done[-1][1]) for number in range(len(done))]
        assert done[-1][0] == done[-1][1] < 8


@pytest.mark.parametrize("with_old_root", [False, True])
def test_a_snapshot_of_a_root_that_was_cut_off(machine: _Machine, with_old_root: bool) -> None:
    """Nothing in it tells what the path was before: it comes back as it was then."""
    with _rolled_back(machine.top, ("a",), lambda _: None) as old:
        _append(old)
        (old / "a/new").write_text("late\n")
        with pytest.raises(_Cut):
            machine.bring("a", _Strike("cut", 1))
        whole = machine.top / _NEW
        btrfsutil.create_snapshot(str(whole), str(machine.top / "copy"))
        btrfsutil.delete_subvolume(str(whole), recursive=True)
        btrfsutil.create_snapshot(str(machine.top / "copy"), str(whole))
        btrfsutil.delete_subvolume(str(machine.top / "copy"))
        assert len(machine.finish(with_old_root=with_old_root)) == 1
        assert (whole / "a/a/10").is_file()


def test_a_copy_that_is_to_boot_has_none_of_it(machine: _Machine) -> None:
    with _rolled_back(machine.top, ("a",), lambda _: None) as old:
        _append(old)
        (old / "a/new").write_text("late\n")
        with pytest.raises(_Cut):
            machine.bring("a", _Strike("cut", 1))
        whole = machine.top / _NEW
        btrfsutil.create_snapshot(str(whole), str(machine.top / "copy"))
        Operations(cast(Host, machine)).end_unfinished("copy")
        try:
            assert (machine.top / "copy/a/a/10").is_file()
            assert not (machine.top / "copy" / STAGING).exists()
            assert (whole / "a").is_file(), "and this is as it was"
            assert (whole / STAGING / "before").is_dir()
        finally:
            btrfsutil.delete_subvolume(str(machine.top / "copy"))


class _FaultyOperations(Faulty):
    """Ends this process, as far as files show, where it would be killed."""

    def _strike(self, *, before: bool) -> None:
        if self._fault is (Fault.KILL_BEFORE if before else Fault.KILL_AFTER):
            raise _Cut
        super()._strike(before=before)


FAULTS = {
    "fails": (Fault.ERROR_BEFORE, False),
    "fails from then on": (Fault.ERROR_BEFORE, True),
    "fails when it is done": (Fault.ERROR_AFTER, False),
    "cut": (Fault.KILL_AFTER, False),
}


@pytest.mark.parametrize(("fault", "forever"), FAULTS.values(), ids=FAULTS)
def test_each_operation_fails(machine: _Machine, fault: Fault, forever: bool) -> None:
    for point in range(100):
        with _rolled_back(machine.top, ("a",), lambda _: None) as old:
            _append(old)
            (old / "a/new").write_text("late\n")
            was, wanted = machine.walk(_NEW, "a"), machine.walk(_OLD, "a")
            operations = _FaultyOperations(cast(Host, machine), point, fault, forever=forever)
            says_whole = False
            try:
                assert machine.bring("a", operations=operations)
            except KernelError:
                says_whole = True
            except (UndoFailedError, _Cut):
                says_whole = False
            else:
                assert machine.walk(_NEW, "a") == wanted
                assert len(operations.log) <= point, "all of them have failed"
                assert point > 4
                return
            assert not (says_whole and machine.is_begun())
            machine.finish()
            assert not machine.is_begun()
            assert machine.walk(_NEW, "a") in (was, wanted)
    raise AssertionError
