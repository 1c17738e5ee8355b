# SPDX-License-Identifier: GPL-2.0-or-later
"""A guarded boot where something is not as it should be: what is lost, what others do meanwhile."""

from __future__ import annotations

import re
import time
from argparse import Namespace
from contextlib import suppress
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.cli.guard import at_boot
from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.guard import around, outcome
from fs_rollback.system.hooks import transaction
from fs_rollback.system.linux import process
from fs_rollback.system.machine import kernels
from fs_rollback.system.machine.host import Host
from fs_rollback.system.store import guards
from tests.kernel.boots import GENERATOR, A, B, BootMachine, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.test_guard import (
    GUARDED,
    USUAL,
    expect_guarded,
    expect_nothing_left,
    ext4,
    next_boots,
    told,
    way_back,
)

__all__ = ["ext4", "make_boot"]  # fixtures


def test_what_is_not_mounted_is_not_taken_back(ext4: BootMachine) -> None:
    """Nobody would know any more what the default was, and GRUB reads it all the same."""
    name, _ = ext4.transact(config=GUARDED)
    ext4.unmount()
    for words in (("off",), ("on",)):
        fs_rollback(ext4.root, "guard", *words).expect_refusal("or not mounted", "Mount it first")
    status = fs_rollback(ext4.root, "guard", "status", "--json")
    assert (status.code, status.json["armed"]) == (1, False)
    assert "or not mounted" in status.json["attention"][0]
    ext4.transact(config=GUARDED)
    ext4.mount()
    expect_guarded(ext4, name)
    done(ext4.root, "guard", "off")
    expect_nothing_left(ext4)


def test_a_full_filesystem_of_the_loader(ext4: BootMachine) -> None:
    """A boot that is healthy makes the usual entry the default again, room or not."""
    ext4.transact(config=GUARDED)
    with suppress(OSError), (ext4.place / "fill").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    with suppress(OSError):
        for number in range(10_000):
            (ext4.place / f"fill-{number}").write_bytes(bytes(1))
    with pytest.raises(OSError, match="No space left"):
        (ext4.place / "more").write_bytes(bytes(1024))
    done(ext4.root, "guard", "off")
    expect_nothing_left(ext4)


def test_a_root_that_could_not_end_it(ext4: BootMachine) -> None:
    """Nobody makes the usual entry the default again where fs-rollback is removed."""
    before = ext4.setting.read_bytes()
    _, problems = ext4.transact((ext4.root / GENERATOR).unlink, GUARDED)
    (problem,) = problems
    assert "cannot be guarded: the root that boots has no fs-rollback" in problem
    assert ext4.setting.read_bytes() == before
    fs_rollback(ext4.root, "guard", "on").expect_refusal("Install fs-rollback in it")


def test_what_no_boot_has_proven_is_not_the_way_back(ext4: BootMachine) -> None:
    """'guard on' does not lead to a snapshot that has some of it."""
    first, _ = ext4.transact(config=GUARDED)
    ext4.transact(config=GUARDED)
    done(ext4.root, "guard", "on")
    expect_guarded(ext4, first)


def test_an_entry_that_somebody_has_set_for_the_next_boot(ext4: BootMachine) -> None:
    """It would be lost, and what boots then would not be the guarded boot."""
    ext4.transact()
    ext4.write_grubenv({**told(ext4), "next_entry": "other"})
    before = ext4.setting.read_bytes()
    fs_rollback(ext4.root, "guard", "on").expect_refusal("is set to use other. First clear that")
    _, problems = ext4.transact(config=GUARDED)
    assert "is set to use other" in problems[0]
    assert ext4.setting.read_bytes() == before


def test_a_usual_entry_made_in_a_guarded_boot(ext4: BootMachine) -> None:
    """kernel-install(8) takes the command line that runs where no file has one."""
    ext4.transact()
    file = ext4.entry_of(A)
    text = file.read_text()
    file.write_text(text.replace("quiet", "quiet panic=10 fs_rollback.guard=1"))
    fs_rollback(ext4.root, "guard", "on").expect_refusal("Remove that from its options")
    file.write_text(text)
    done(ext4.root, "guard", "on")


def test_a_transaction_that_never_began(ext4: BootMachine) -> None:
    """What was guarded before it is so again."""
    wanted = Transaction("dnf4", ("dnf", "upgrade"), "root", ())
    for config in (Config(), GUARDED):
        taken = transaction.before(wanted, str(ext4.root), config)
        assert isinstance(taken, transaction.Taken)
        taken.release()
        expect_nothing_left(ext4)
    first, _ = ext4.transact(config=GUARDED)
    taken = transaction.before(wanted, str(ext4.root), GUARDED)
    assert isinstance(taken, transaction.Taken)
    assert next_boots(ext4) == [USUAL, USUAL]
    taken.release()
    expect_guarded(ext4, first)


def test_a_rollback_to_a_root_that_could_not_end_it(ext4: BootMachine) -> None:
    (ext4.root / GENERATOR).unlink()
    ext4.transact()
    (ext4.root / GENERATOR).write_text("")
    done(ext4.root, "guard", "on")
    done(ext4.root, "guard", "off")
    done(ext4.root, "rollback", "latest", "--yes")
    fs_rollback(ext4.root, "guard", "on").expect_refusal("Install fs-rollback in it")


@pytest.mark.parametrize("what", ["way back", "copy", "guarded", "kernel", "options"])
def test_what_goes_meanwhile(ext4: BootMachine, what: str) -> None:
    """It is said, and mended."""
    name, _ = ext4.transact(config=GUARDED)
    assert fs_rollback(ext4.root, "guard", "status").code == 0
    guarded = ext4.place / "loader/entries/A-fs-snapshot-guarded.conf"
    if what == "way back":
        (ext4.place / f"loader/entries/{way_back(name)}.conf").unlink()
    elif what == "copy":
        btrfsutil.delete_subvolume(str(ext4.store() / name.replace("yum_", "try_")))
    elif what == "guarded":
        guarded.unlink()
    elif what == "kernel":
        ext4.add_kernel(B)
        guarded.write_text(guarded.read_text().replace(A, B))
        ext4.remove_kernel(B)
    else:
        guarded.write_text(guarded.read_text().replace(" fs_rollback.guard=1", ""))
    status = fs_rollback(ext4.root, "guard", "status", "--json")
    assert status.code == 1
    assert "'fs-rollback guard on" in status.json["attention"][0]
    done(ext4.root, "guard", "on")
    assert fs_rollback(ext4.root, "guard", "status").code == 0
    expect_guarded(ext4, name)


def test_a_way_back_that_is_gone(ext4: BootMachine) -> None:
    """An offline update does not end in what is left of it."""
    name, _ = ext4.transact(config=GUARDED)
    btrfsutil.delete_subvolume(str(ext4.store() / name))
    with ext4.machine.writing() as (host, store):
        (problem,) = around.again(host, store, GUARDED)
    assert problem == f"the next boot is not guarded: {name} no longer exists"
    assert next_boots(ext4) == [USUAL, USUAL]


def test_a_service_that_there_is_not(ext4: BootMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A boot that cannot be healthy is not guarded."""
    monkeypatch.setattr(Host, "is_running", property(lambda _: True))
    shown = "LoadState=not-found\nActiveState=inactive\nNRestarts=0\n"
    monkeypatch.setattr(process, "ask", lambda *_, **__: (0, shown))
    _, problems = ext4.transact(config=GUARDED._replace(health_units=("a.service",)))
    (problem,) = problems
    assert "it could never be healthy: a.service is not-found" in problem
    assert next_boots(ext4) == [USUAL, USUAL]


def test_what_is_told_of_the_transaction(ext4: BootMachine) -> None:
    """It is shown before anybody logs in: no password of a proxy."""
    line = ("dnf", "--setopt=proxy_password=secret", "upgrade")
    taken = transaction.before(Transaction("dnf4", line, "root", ()), str(ext4.root), GUARDED)
    assert isinstance(taken, transaction.Taken)
    transaction.after(taken, Outcome.DONE, 1)
    with ext4.machine.writing() as (_, store):
        armed = guards.read(store).armed
        assert armed is not None
        assert outcome._since(store, armed) == "dnf upgrade"


def test_something_else_was_booted(ext4: BootMachine) -> None:
    """The next boot is guarded in its place, and this one is not what has failed."""
    name, _ = ext4.transact(config=GUARDED)
    ext4.write_grubenv({**told(ext4), "next_entry": ""})
    with ext4.machine.writing() as (host, store):
        guard = guards.read(store)
        assert guard.armed is not None
        before = guard.armed._replace(boot_id="before", time="2026-01-01T00:00:00Z", reason="old")
        guards.write(store, guard._replace(armed=before))
        _, goes_back = at_boot._look(Namespace(trial=""), host, store, guards.read(store))
        armed = guards.read(store).armed
    assert not goes_back
    assert armed is not None
    assert armed == before._replace(boot_id=kernels.boot_id(), time=armed.time, reason="")
    assert armed.time > before.time
    expect_guarded(ext4, name)


def test_the_journal_of_the_boot_that_runs_is_not_read(
    ext4: BootMachine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be longer than what is read, where /var/log is one for all roots."""
    ext4.transact(config=GUARDED)
    program = tmp_path / "journalctl"
    program.write_text('#!/bin/sh\necho "{\\"MESSAGE\\": \\"$*\\", \\"_BOOT_ID\\": \\"b\\"}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with ext4.machine.writing() as (_, store):
        armed = guards.read(store).armed
    assert armed is not None
    boot, rows = outcome._of_journal(str(tmp_path), armed)
    assert boot == "b"
    (until,) = re.findall(r"--until=@(\d+)", rows[0][1])
    assert int(until) < time.time()
    assert outcome._of_journal(str(tmp_path), armed._replace(time="no time")) == ("", [])
