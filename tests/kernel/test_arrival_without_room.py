# SPDX-License-Identifier: GPL-2.0-or-later
"""A first boot that was cut off, and no room to exchange a path again, or something else there."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.snapshots.snapshot import STAGING
from fs_rollback.errors import KernelError, PathAwayError
from fs_rollback.system.machine.host import Host
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import Faulty, in_child
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive, journal_of, left_behind, reboot, replaced, rolled_back
from tests.kernel.test_arrival_cut_off import bring_with, cut_in_root, write_in_the_window
from tests.kernel.test_store import listed

_FILES = range(2000)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path, "named")
    machine.create(256 << 20)
    yield machine
    machine.destroy()


def _fill(machine: Machine) -> None:
    """Leave no room, neither for data nor for metadata."""
    place = machine.top / "fill"
    place.mkdir()
    with (place / "data").open("wb", 0) as file, pytest.raises(OSError, match="No space"):
        _repeat(lambda _: file.write(bytes(1 << 20)))
    for size in (1900, 1000):  # smaller ones fit where larger ones do not
        write = partial(_write, place, size)
        with pytest.raises(OSError, match="No space"):
            _repeat(write)
        os.sync()


def _came_up_without(machine: Machine, *paths: str) -> None:
    """Reboot: these are not brought over, and that is said; all is whole, as at the rollback."""
    reboot(machine)
    ended = arrive(machine)
    assert ended.code == 1, ended
    for path in paths:
        assert f"{path} was not copied to the new root" in ended.err
    assert "No space left on device" in ended.err
    assert f"/fs-snapshots/{replaced(machine)}" in ended.err
    # So full that not even the record can be written: then that is said.
    pinned = "pinned" in listed(machine)[replaced(machine)]["marks"]
    assert pinned or "cannot be updated" in ended.out
    assert pinned != journal_of(machine).exists(), "until it is noted"


def _ballast(machine: Machine) -> Path:
    """Take metadata that is wanted later, while there is room."""
    place = machine.top / "ballast"
    place.mkdir()
    for number in range(10_000):
        (place / str(number)).write_bytes(b"line" * 450)
    return place


def test_a_full_disk_says_what_was_not_brought_and_boots(small: Machine) -> None:
    """A copy of all of a path, as a subvolume in it asks for, takes metadata for each file."""
    btrfsutil.create_subvolume(str(small.root / "var/log/nested"))
    for number in range(15_000):
        (small.root / f"var/log/{number}").write_bytes(b"line" * 450)
    ballast = _ballast(small)  # enough for what takes less than /var/log
    rolled_back(small)
    (small.root / "var/log/messages").write_text("last line")
    (small.root / "root/added").write_text("new")
    (small.root / "var/lib/machines/guest").write_text("last")
    _fill(small)
    shutil.rmtree(ballast)
    data = small.top / "fill/data"
    os.truncate(data, data.stat().st_size - (8 << 20))
    run("btrfs", "filesystem", "sync", str(small.top))
    _came_up_without(small, "/var/log")
    assert small.read("var/log/messages") == "user's 1\n"
    assert (small.root / "var/log/14999").stat().st_size == 1800
    assert small.read("root/added") == "new"
    assert small.read("var/lib/machines/guest") == "last"
    assert left_behind(small) == set()


def test_where_data_has_no_room_at_all_everything_stays_in_its_place(small: Machine) -> None:
    """Not even the file can be written that stands in for a path."""
    ballast = _ballast(small)
    rolled_back(small)
    (small.root / "root/added").write_text("new")
    _fill(small)
    shutil.rmtree(ballast)
    run("btrfs", "filesystem", "sync", str(small.top))
    _came_up_without(small, "/root")
    assert small.read("root/.profile") == "user's 1\n"
    shutil.rmtree(small.top / "fill")
    done(small.root, "create")
    assert left_behind(small) == set()
    assert "pinned" in listed(small)[replaced(small)]["marks"]


def _repeat(write: Callable[[int], object]) -> None:
    for number in count():
        write(number)


def _write(place: Path, size: int, number: int) -> None:
    (place / f"{size}.{number}").write_bytes(os.urandom(size))


def test_on_a_full_disk_a_path_comes_back(small: Machine) -> None:
    """RENAME_EXCHANGE says ENOSPC where rename(2) does not."""
    name = small.upgrade()
    small.use(1)
    for number in _FILES:
        (small.root / f"root/x{number}").write_text("a" * 100)
    small.roll_back(name)
    for number in _FILES:
        (small.root / f"root/x{number}").write_text("b" * 1900)
    reboot(small)
    cut_in_root(small)
    _fill(small)
    ended = arrive(small)
    assert ended.code != 4
    assert {(small.root / f"root/x{n}").read_text()[0] for n in _FILES} == {"b"}
    spare = next(name for name, row in listed(small).items() if row["kind"] != "replaced")
    assert done(small.root, "delete", spare).code == 0


class _NoExchange(Faulty):
    """Has no room to exchange a path again; may be killed at the second rename, or after it."""

    kill = ""

    def exchange(self, one: str, other: str) -> None:
        if "done" in self.log:
            raise KernelError("exchange", one, OSError(errno.ENOSPC, "injected"))
        self._real.exchange(one, other)

    def told(self, done: int, total: int) -> None:
        if done == total:
            self.log.append("done")

    def rename(self, old: str, new: str) -> None:
        if self.kill == "before" and STAGING in old:
            os.kill(os.getpid(), 9)
        self._real.rename(old, new)
        if self.kill == "after" and STAGING in old:
            os.kill(os.getpid(), 9)


class _KilledBetween(_NoExchange):
    kill = "before"


class _KilledAfter(_NoExchange):
    kill = "after"


def _moved_back(machine: Machine, kind: type[_NoExchange]) -> int:
    rolled_back(machine)
    write_in_the_window(machine)
    reboot(machine)
    return in_child(partial(bring_with, machine, kind))


@pytest.mark.parametrize("kind", [_NoExchange, _KilledBetween, _KilledAfter])
def test_two_renames_do_what_one_exchange_does(named: Machine, kind: type[_NoExchange]) -> None:
    killed = _moved_back(named, kind)
    assert killed == (9 if kind.kill else 0)
    assert (named.root / "root").exists() == (kind.kill != "before")
    if killed:
        said = fs_rollback(named.root, "status").out
        assert ("still moved aside: /root" in said) == (kind.kill == "before")
        assert (arrive(named).code, arrive(named).code) == (0, 0)
    assert named.read("root/added") == "new"
    assert not (named.root / "root/.profile").exists()
    assert left_behind(named) == set()
    assert not journal_of(named).exists()


def test_what_somebody_has_put_there_meanwhile_stays(named: Machine) -> None:
    """Only what makes room goes on, as that is the remedy where there is none."""
    first = named.upgrade(2)
    assert _moved_back(named, _KilledBetween) == 9
    (named.root / "root").mkdir()
    (named.root / "root/theirs").write_text("a service's")
    old = replaced(named)
    for words in (("settle",), ("create",), ("pin", first), ("settle", "--at-boot")):
        ended = fs_rollback(named.root, *words)
        assert ended.code == 4, words
        assert "something else is there now" in ended.err
        assert "mv -T /root /root.meanwhile" in ended.err
    ended = fs_rollback(named.root, "delete", old)
    assert ended.code == 3, "what is to be brought over may be there alone"
    for words in (("delete", first), ("prune",)):
        ended = done(named.root, *words)
        assert "/root could not be put back" in ended.err
    assert first not in listed(named)
    assert old in listed(named)
    assert named.read("root/theirs") == "a service's"
    (named.root / "root").rename(named.root / "root.meanwhile")
    assert arrive(named).code == 0
    assert named.read("root/added") == "new"
    assert named.read("root.meanwhile/theirs") == "a service's"
    assert left_behind(named) == set()


class _NoRename(_NoExchange):
    """Has no room for anything in the end."""

    def rename(self, old: str, new: str) -> None:
        raise KernelError("rename", old, OSError(errno.ENOSPC, "injected"))


def test_the_way_out_is_named(named: Machine) -> None:
    rolled_back(named)
    write_in_the_window(named)
    reboot(named)

    def make(host: Host) -> Faulty:
        return _NoRename(host)

    with pytest.raises(PathAwayError) as caught:
        bring_with(named, make)
    assert "fs-rollback list --size" in caught.value.hint
    assert "fs-rollback delete ID" in caught.value.hint
    assert (named.root / "root").is_file()
    assert arrive(named).code == 0
    assert named.read("root/added") == "new"
