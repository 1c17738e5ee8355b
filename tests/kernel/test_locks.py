# SPDX-License-Identifier: GPL-2.0-or-later
"""Locks of rpm and dnf that are there and cannot be read: what they would say is unknown."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import pytest

from tests.kernel.commands import arguments, done, environment, fs_rollback, start
from tests.kernel.faults import state
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import edit_record, listed, read_record

RPM, DNF5 = "var/lib/rpm/.rpm.lock", "run/dnf/rpmtransaction.lock"
_MNT_DETACH = 2  # linux/fs.h
_OTHERS = 12345  # a user who is not root


def _directory(lock: Path) -> str:
    lock.mkdir()
    return "is not a regular file"


def _pipe(lock: Path) -> str:
    os.mkfifo(lock)
    return "is not a regular file"


def _link_in_a_circle(lock: Path) -> str:
    lock.symlink_to(lock.name)
    return os.strerror(40)  # ELOOP


def _link_out_of_the_tree(lock: Path) -> str:
    lock.symlink_to("/../../elsewhere")
    return os.strerror(40)


WAYS = (_directory, _pipe, _link_in_a_circle, _link_out_of_the_tree)


@contextmanager
def _unreadable(directory: Path) -> Iterator[None]:
    """Mount a FUSE of somebody else's on a directory: not even root may look into it."""
    libc = ctypes.CDLL(None, use_errno=True)
    device, path = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC), os.fsencode(directory)
    options = f"fd={device},rootmode=40000,user_id={_OTHERS},group_id={_OTHERS}".encode()
    assert libc.mount(b"theirs", path, b"fuse", 0, options) == 0
    try:
        yield
    finally:
        libc.umount2(path, _MNT_DETACH)
        os.close(device)


@contextmanager
def _held(lock: Path) -> Iterator[None]:
    """Hold a lock in a process of its own, as rpm and dnf 5 do."""
    code = (
        "import fcntl, sys; file = open(sys.argv[1], 'w'); fcntl.lockf(file, fcntl.LOCK_EX);"
        " print(flush=True); sys.stdin.read()"
    )
    pipe = subprocess.PIPE
    command = (sys.executable, "-c", code, str(lock))
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield
        process.communicate()


def _cut_off(machine: Machine) -> str:
    """Take a snapshot for a transaction that dnf's history, an empty one, never heard of."""
    name = machine.upgrade()
    before = read_record(machine, name)["transaction"]
    edit_record(machine, name, transaction={**before, "outcome": "pending", "history_id": None})
    return name


def _end(machine: Machine, name: str) -> str:
    return str(listed(machine)[name]["transaction"]["outcome"])


def _expect_unknown(machine: Machine, path: str, reason: str) -> None:
    before = state(machine)
    for words in (("rollback", "--yes"), ("rollback", "--dry-run")):
        ended = fs_rollback(machine.root, *words)
        ended.expect_refusal("cannot determine whether a package transaction is running", reason)
        assert f"/{path} " in ended.sentence
    assert state(machine) == before


def _lock(machine: Machine, path: str) -> Path:
    lock = machine.root / path
    lock.parent.mkdir(parents=True, exist_ok=True)
    lock.unlink(missing_ok=True)
    return lock


@pytest.mark.parametrize("path", [RPM, DNF5])
@pytest.mark.parametrize("make", WAYS)
def test_a_lock_that_is_none(named: Machine, path: str, make: Callable[[Path], str]) -> None:
    name = _cut_off(named)
    lock = _lock(named, path)
    assert _end(named, name) == "interrupted"  # there is no lock, so nothing runs
    reason = make(lock)
    _expect_unknown(named, path, reason)
    assert _end(named, name) == "pending"
    # It stops nobody else: not what looks, not dnf.
    done(named.root, "show", name)
    named.upgrade(3)
    done(named.root, "create")
    assert _end(named, name) == "pending"
    if lock.is_dir() and not lock.is_symlink():
        lock.rmdir()
    else:
        lock.unlink()
    assert _end(named, name) == "interrupted"
    done(named.root, "rollback", name, "--yes")


def test_a_directory_that_not_even_root_may_look_into(named: Machine) -> None:
    name = _cut_off(named)
    lock = _lock(named, DNF5)
    with _unreadable(lock.parent):
        _expect_unknown(named, DNF5, os.strerror(13))
        assert _end(named, name) == "pending"
        named.upgrade(3)
    done(named.root, "rollback", name, "--yes")


def test_a_lock_that_cannot_be_taken(named: Machine) -> None:
    """Nobody has it, which can be read; but a transaction could begin in the middle."""
    name = _cut_off(named)
    lock = _lock(named, RPM)
    lock.touch()
    run("chattr", "+i", str(lock))
    try:
        _expect_unknown(named, RPM, os.strerror(1))
        assert _end(named, name) == "interrupted"
    finally:
        run("chattr", "-i", str(lock))
    done(named.root, "rollback", name, "--yes")


@pytest.mark.parametrize("path", [RPM, DNF5])
def test_who_has_it_need_not_be_seen_from_here(named: Machine, path: str) -> None:
    """In a container the PID of who has the lock is none: that is somebody all the same."""
    name = _cut_off(named)
    lock = _lock(named, path)
    container = ("unshare", "--pid", "--fork", "--mount-proc")
    command = (*container, *arguments(named.root, ("rollback", "--dry-run")))
    with _held(lock):
        ended = subprocess.run(
            command, capture_output=True, text=True, env=environment(), cwd="/", check=False
        )
        assert "a package transaction is running" in ended.stderr
        assert ended.returncode == 3
        assert _end(named, name) == "pending"
    assert _end(named, name) == "interrupted"


def test_no_rpm_database_and_no_lock(named: Machine) -> None:
    """What is absent is known: no transaction can be running."""
    name = _cut_off(named)
    run("rm", "-r", str(named.root / "var/lib/rpm"))
    assert _end(named, name) == "interrupted"
    (named.root / "var/lib/rpm").write_text("no directory")
    assert _end(named, name) == "interrupted"
    done(named.root, "rollback", name, "--yes")


def test_who_waits_for_the_lock_sees_what_was_mounted_meanwhile(named: Machine) -> None:
    name = named.take()
    with named.unsettled():
        deleting = start(named.root, "delete", name)
        assert deleting.stderr is not None
        assert "waiting" in deleting.stderr.readline()
        place = named.image.parent / "mounted"
        place.mkdir()
        run("mount", "-o", f"loop,subvol=fs-snapshots/{name}", str(named.image), str(place))
    try:
        said = deleting.communicate()[1]
        assert (deleting.returncode, "it is mounted" in said) == (3, True)
    finally:
        run("umount", str(place))
