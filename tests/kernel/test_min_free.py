# SPDX-License-Identifier: GPL-2.0-or-later
"""`min_free`: the oldest snapshots go until so much is free, and none more than that takes."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, PackageChange, Transaction
from fs_rollback.core.snapshots.space import Amount
from fs_rollback.system.hooks import transaction
from fs_rollback.system.linux import btrfs
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import store_of

_MIB = 1 << 20
_HELD_MIB = 24  # by each snapshot alone


@pytest.fixture
def full(named: Machine) -> list[str]:
    """Give the names of six snapshots, each of which alone holds _HELD_MIB."""
    return [_upgrade(named, number) for number in range(2, 8)]


def _upgrade(machine: Machine, number: int, config: Config = Config()) -> str:  # noqa: B008
    _write_data(machine)
    change = PackageChange("upgrade", "app", "noarch", f"{number - 1}-1", f"{number}-1")
    wanted = Transaction("dnf4", ("dnf", "upgrade"), "admin", (change,))
    taken = transaction.before(wanted, str(machine.root), config)
    assert isinstance(taken, transaction.Taken)
    _write_data(machine)
    assert transaction.after(taken, Outcome.DONE, number) == []
    return taken.record.name


def _write_data(machine: Machine) -> None:
    (machine.root / "usr/data").write_bytes(os.urandom(_HELD_MIB * _MIB))
    os.sync()


def _free(machine: Machine) -> int:
    """Return what btrfs-progs say is free."""
    run("btrfs", "filesystem", "sync", str(machine.root))
    run("btrfs", "subvolume", "sync", str(machine.root))
    run("btrfs", "filesystem", "sync", str(machine.root))
    told = run("btrfs", "filesystem", "usage", "--raw", str(machine.root))
    (found,) = re.findall(r"Free \(estimated\):\s+(\d+)", told)
    return int(found)


def _more_free(machine: Machine, snapshots: float) -> str:
    """Return a configuration that asks for as much more as so many of the snapshots hold."""
    wanted = _free(machine) + int(snapshots * _HELD_MIB * _MIB)
    machine.write(machine.root, "etc/fs-rollback.conf", f"min_free = {wanted >> 10}K\n")
    return f"min_free = {wanted >> 10}K"


def _names(machine: Machine) -> list[str]:
    return [s.name for s in machine.snapshots()]


def test_the_oldest_go_until_enough_is_free(named: Machine, full: list[str]) -> None:
    done(named.root, "pin", full[0])
    line = _more_free(named, 1.5)
    before = _names(named)
    plan = fs_rollback(named.root, "prune", "--dry-run")
    number = named.snapshots()[1].id
    assert (
        f"({line}): the oldest that may go would be deleted too, {number} ({full[1]}) first"
        in plan.err
    )
    assert "0 of 6 snapshots would be deleted, 6 stay." in plan.out
    assert _names(named) == before

    ended = done(named.root, "prune", "--json").json
    assert (ended["shortage"], ended["totals"]) == (None, {"keep": 4, "delete": 2})
    gone = {v["name"]: v["reason"] for v in ended["verdicts"] if v["verdict"] == "delete"}
    assert list(gone) == full[1:3]
    assert all(reason.startswith("the oldest that can be deleted; ") for reason in gone.values())
    assert all(reason.endswith(f" wanted ({line})") for reason in gone.values())
    assert _names(named) == [full[0], *full[3:]]
    assert _free(named) >= int(line.split()[2][:-1]) << 10
    log = done(named.root, "log", "--json").json["events"]
    told = {e["snapshot"]: e["reason"] for e in log if e["event"] == "deleted"}
    assert told == gone
    assert done(named.root, "prune").err == "fs-rollback: deleted 0 of 4 snapshots\n"


def test_what_never_goes(named: Machine, full: list[str]) -> None:
    """The newest from before a transaction, a replaced root, what is pinned; and that is said."""
    manual = named.take()
    old = named.roll_back(full[2]).situation.replaced
    named.reboot()
    done(named.root, "pin", full[1])
    named.write(named.root, "etc/fs-rollback.conf", "min_free = 99%\n")
    wanted = r": \S+ MiB free, 5\d\d\.\d MiB wanted \(min_free = 99%\): "
    plan = done(named.root, "prune", "--dry-run").err
    unreached = "that cannot be reached: "
    assert re.search(wanted + unreached + r"all that may be deleted frees \S+ MiB", plan)
    ended = done(named.root, "prune")
    assert re.search(wanted + "no other snapshot may be deleted", ended.err)
    plan = done(named.root, "prune", "--dry-run").err
    assert re.search(wanted + unreached + "no other snapshot may be deleted", plan)
    assert _names(named) == [full[1], full[-1], manual, old]


def test_what_an_earlier_run_left_is_said_once(named: Machine, full: list[str]) -> None:
    leftover = store_of(named) / "deleted_yum_20260101000000.json"
    leftover.write_text("{}")
    run("chattr", "+i", str(leftover))
    named.write(named.root, "etc/fs-rollback.conf", "min_free = 99%\n")
    try:
        ended = done(named.root, "prune")
    finally:
        run("chattr", "-i", str(leftover))
    assert ended.err.count(leftover.stem) == 1
    assert "no other snapshot may be deleted" in ended.err
    assert len(_names(named)) < len(full)


def test_nothing_goes_in_vain(named: Machine, full: list[str]) -> None:
    """A size may come from a larger machine's configuration."""
    named.write(named.root, "etc/fs-rollback.conf", "min_free = 50G\n")
    for words in (("prune", "--dry-run"), ("prune",)):
        said = done(named.root, *words).err
        assert re.search(r"\(min_free = 50G\): the filesystem has 5\d\d\.\d MiB in all, so", said)
    assert _names(named) == full


def test_a_transaction_deletes_too(named: Machine, full: list[str]) -> None:
    wanted = (_free(named) >> 10) + 1
    begin = time.monotonic()
    name = _upgrade(named, 9, Config(min_free=Amount(wanted, "K")))
    assert time.monotonic() - begin < transaction._MOST_FOR_ROOM_S * 5
    # One for what the transaction took, one for the little that was asked for besides.
    assert _names(named) == [*full[2:], name]
    assert _free(named) >= wanted << 10


@pytest.fixture
def held(named: Machine, full: list[str]) -> Iterator[str]:
    """Delete the first snapshot, and have a file in it open: btrfs cannot free it."""
    path = named.top / "fs-snapshots" / full[0]
    with (path / "usr/data").open():
        done(named.root, "delete", full[0])
        yield full[0]


def test_nothing_goes_before_the_last_one_is_free(
    named: Machine, full: list[str], held: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "_MOST_FOR_ROOM_S", 0.3)
    name = _upgrade(named, 9, Config(min_free=Amount(99)))
    assert _names(named) == [*full[1:], name]
    assert held not in _names(named)
    assert btrfsutil.deleted_subvolumes(str(named.top)) != []


def _fill(path: Path) -> int:
    """Write until nothing more fits; return how much did."""
    written = 0
    with path.open("wb", buffering=0) as file, suppress(OSError):  # that it is full
        while True:
            written += file.write(bytes(_MIB))
            os.fsync(file.fileno())
    return written


_RARE = [
    pytest.param(p, marks=pytest.mark.rare)
    for p in ("single", "raid0", "raid1c3", "raid10", "raid5")
]


@pytest.mark.parametrize("profile", ["raid1", *_RARE])
def test_free_is_what_can_be_written(tmp_path: Path, profile: str) -> None:
    """On devices of different sizes, where df(1) is wrong; a quarter is left to metadata."""
    sizes = [300, 400, 500, 900]
    images = [tmp_path / f"disk{number}" for number in range(len(sizes))]
    for image, mib in zip(images, sizes):
        image.touch()
        os.truncate(image, mib * _MIB)
    loops = [run("losetup", "--find", "--show", str(image)).strip() for image in images]
    place = tmp_path / "place"
    place.mkdir()
    try:
        run("mkfs.btrfs", "--quiet", "--data", profile, "--metadata", "single", *loops)
        run("mount", loops[0], str(place))
        begin = btrfs.data_space(str(place))
        written = _fill(place / "file")
        os.sync()
        assert written <= begin.free <= begin.size
        assert written > 0.75 * begin.free
        assert btrfs.data_space(str(place)).free <= begin.free - written
    finally:
        run("umount", str(place))
        run("losetup", "--detach", *loops)
