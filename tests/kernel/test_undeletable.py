# SPDX-License-Identifier: GPL-2.0-or-later
"""A snapshot that cannot be deleted is named with the cause, stays whole, and the rest goes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.hooks import transaction
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import read_record, store_of

_ONE = "keep_last = 1\nkeep_days = 0\n"


@contextmanager
def _sent(path: Path, pipe: Path) -> Iterator[int]:
    """Have `btrfs send` read a snapshot, and nobody read what it writes; gives its PID."""
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    with pipe.open("wb") as out:
        sender = subprocess.Popen(
            ("btrfs", "send", str(path)), stdout=out, stderr=subprocess.DEVNULL
        )
    try:
        os.set_blocking(reader, True)
        os.read(reader, 1)  # it has begun
        yield sender.pid
    finally:
        sender.kill()
        sender.wait()
        os.close(reader)


@pytest.fixture
def three(named: Machine) -> list[str]:
    (named.root / "usr/data").write_bytes(os.urandom(4 << 20))  # more than a pipe takes
    names = [named.upgrade(number) for number in (2, 3, 4)]
    named.write(named.root, "etc/fs-rollback.conf", _ONE)
    return names


def test_one_that_is_sent(named: Machine, three: list[str], tmp_path: Path) -> None:
    record = read_record(named, three[0])
    called = f"{named.snapshots()[0].id} ({three[0]})"
    with _sent(store_of(named) / three[0], tmp_path / "pipe") as pid:
        for words in (("delete", three[0]), ("prune",)):
            ended = fs_rollback(named.root, *words)
            assert ended.code == 1
            assert f"cannot delete {called}: Operation not permitted: process {pid}" in ended.err
            assert "is sending it (btrfs-send(8))" in ended.err
            assert read_record(named, three[0]) == record
            path = str(store_of(named) / three[0])
            assert btrfsutil.get_subvolume_read_only(path)
        assert "deleted 1 of 3 snapshots" in ended.err
        assert [s.name for s in named.snapshots() if not s.problem] == [three[0], three[2]]
        assert [e["snapshot"] for e in _deletions(named)] == [three[1]]
    assert done(named.root, "prune").err == "fs-rollback: deleted 1 of 2 snapshots\n"
    assert list(store_of(named).glob("deleted_*")) == []


def _deletions(machine: Machine) -> list[dict[str, str]]:
    log = done(machine.root, "log", "--json").json["events"]
    return [event for event in log if event["event"] == "deleted"]


def test_several_by_name(named: Machine, three: list[str], tmp_path: Path) -> None:
    """In one command: one is sent, one is pinned, in one a nested subvolume is mounted."""
    name = named.upgrade(5)
    nested = _with_mounted_in_it(named, three[1], tmp_path / "elsewhere")
    done(named.root, "pin", three[2])
    try:
        with _sent(store_of(named) / three[0], tmp_path / "pipe"):
            ended = fs_rollback(named.root, "delete", *three, name)
    finally:
        run("umount", str(tmp_path / "elsewhere"))
    assert ended.code == 3
    causes = (
        "is sending it",
        f"/{nested} in it is mounted on {tmp_path / 'elsewhere'}",
        "it is pinned",
    )
    for snapshot, cause in zip(three, causes):
        (line,) = (line for line in ended.err.splitlines() if snapshot in line)
        assert cause in line
    assert any("deleted" in ln and name in ln for ln in ended.err.splitlines())
    assert [s.name for s in named.snapshots()] == three
    assert (named.top / nested).is_dir()


def _with_mounted_in_it(machine: Machine, name: str, place: Path) -> str:
    """Nest a subvolume in a snapshot and mount it; returns its path from the top level."""
    path = store_of(machine) / name
    btrfsutil.set_subvolume_read_only(str(path), False)
    btrfsutil.create_subvolume(str(path / "nested"))
    btrfsutil.set_subvolume_read_only(str(path), True)
    nested = f"fs-snapshots/{name}/nested"
    place.mkdir()
    run("mount", "-o", f"loop,subvol={nested}", str(machine.image), str(place))
    return nested


def test_after_a_transaction(named: Machine, three: list[str], tmp_path: Path) -> None:
    """The plugin names it, and the transaction is as good as any."""
    called = f"{named.snapshots()[0].id} ({three[0]})"
    with _sent(store_of(named) / three[0], tmp_path / "pipe"):
        taken = transaction.before(
            Transaction("dnf4", ("dnf", "upgrade"), "admin"), str(named.root)
        )
        assert isinstance(taken, transaction.Taken)
        taken.config = Config(keep_last=2, keep_days=0)
        (problem,) = transaction.after(taken, Outcome.DONE, 5)
    assert problem.startswith(f"cannot delete {called}: Operation not permitted: process ")
    assert [s.name for s in named.snapshots()] == [three[0], three[2], taken.record.name]
    assert read_record(named, taken.record.name)["transaction"]["outcome"] == "done"


def test_one_with_an_active_swap_file(named: Machine, three: list[str]) -> None:
    """A replaced root has one, if it was turned on there."""
    old = named.roll_back(three[0]).situation.replaced
    named.reboot()
    swap = store_of(named) / old / "swap"
    swap.touch(0o600)
    run("chattr", "+C", str(swap))
    run("fallocate", "--length", str(8 << 20), str(swap))
    run("mkswap", str(swap))
    run("swapon", str(swap))
    try:
        ended = fs_rollback(named.root, "delete", old, three[1])
    finally:
        run("swapoff", str(swap))
    assert ended.code == 3
    assert f"({old}) is not deleted: the swap file {swap} in it is active" in ended.err
    assert f"({three[1]})\n" in ended.err.partition("deleted ")[2]
    done(named.root, "delete", old)
