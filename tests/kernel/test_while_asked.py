# SPDX-License-Identifier: GPL-2.0-or-later
"""What others do while `rollback` and `undo` wait for an answer: no one is held up or missed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

import btrfsutil
import pytest

from tests.kernel.commands import done, on_terminal
from tests.kernel.faults import state
from tests.kernel.machine import Machine
from tests.kernel.test_store import listed, store_of
from tests.terminal import Terminal

_QUESTION = r"\[y/N\] $"


def _asked(machine: Machine, *words: str) -> Terminal:
    terminal = on_terminal(machine.root, *words)
    terminal.read_until(_QUESTION)
    return terminal


def _again(terminal: Terminal) -> str:
    """Answer yes and be asked again; returns what was said in between."""
    before = len(terminal.text)
    terminal.type("y\n")
    terminal.read_until(rf"(?s)\A.{{{before}}}.*{_QUESTION}")
    return " ".join(terminal.text[before:].split())


def _end(terminal: Terminal) -> tuple[int, str]:
    """Answer yes for the last time; returns the exit code and what was said after that."""
    before = len(terminal.text)
    terminal.type("y\n")
    return terminal.end(), terminal.text[before:]


@contextmanager
def _locked(machine: Machine) -> Iterator[None]:
    """Hold the store's lock; at once, or not at all."""
    descriptor = os.open(store_of(machine), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def test_nobody_waits_for_a_person(named: Machine) -> None:
    named.upgrade()
    for command in ("rollback", "undo"):
        terminal = _asked(named, command)
        with _locked(named):
            terminal.type("y\n")
            terminal.read_until(rf"waiting up to 30 seconds for process {os.getpid()} \(")
        assert terminal.end() == 0, terminal.text
        assert terminal.text.count("[y/N]") == 1


def test_a_transaction(named: Machine) -> None:
    name = named.upgrade(2)
    terminal = _asked(named, "rollback", name)
    newer = named.upgrade(3)
    (named.root / "etc/late.conf").write_text("late\n")
    assert newer in listed(named)
    said = _again(terminal)
    assert "changed since the question was asked: " in said
    assert "/etc/late.conf" in said
    assert _end(terminal)[0] == 0, terminal.text
    assert (named.next_root() / "usr/bin/app").read_text() == "version 1\n"
    assert not (named.next_root() / "etc/late.conf").exists()


def test_what_does_not_matter_is_not_asked_again(named: Machine) -> None:
    name = named.upgrade()
    terminal = _asked(named, "rollback")
    taken = named.take("meanwhile")
    named.use(5)
    (named.root / "var/data").write_text("other\n")
    assert _end(terminal)[0] == 0, terminal.text
    assert "changed since" not in terminal.text
    assert {name, taken} < set(listed(named))
    assert (named.next_root() / "root/.profile").read_text() == "user's 5\n", "as it was last"


def test_other_steps(named: Machine) -> None:
    named.upgrade()
    terminal = _asked(named, "rollback")
    btrfsutil.create_subvolume(str(named.root / "var/lib/late"))
    said = _again(terminal)
    assert "other steps: " in said
    assert "var/lib/late" in said.partition("\n\n")[0]
    terminal.type("n\n")
    assert (terminal.end(), "Nothing was changed" in terminal.text) == (1, True)


@pytest.mark.parametrize("command", ["delete", "prune"])
def test_the_target_is_deleted(named: Machine, command: str) -> None:
    names = [named.upgrade(number) for number in (2, 3, 4)]
    terminal = _asked(named, "rollback", names[0])
    if command == "prune":
        configuration = named.root / "etc/fs-rollback.conf"
        configuration.write_text("keep_last = 1\nkeep_days = 0\n")
        done(named.root, "prune")
    else:
        done(named.root, "delete", names[0])
    assert names[0] not in listed(named)
    before = state(named)
    code, said = _end(terminal)
    assert (code, f"({names[0]}) was deleted" in said) == (3, True), said
    assert state(named) == before


def test_a_second_rollback(named: Machine) -> None:
    first, second = named.upgrade(2), named.upgrade(3)
    terminal = _asked(named, "rollback", first)
    done(named.root, "rollback", second, "--yes")
    before = state(named)
    code, said = _end(terminal)
    assert (code, "a rollback is waiting for a reboot" in said) == (3, True), said
    assert "fs-rollback undo" in said
    assert state(named) == before


def test_an_undo(named: Machine) -> None:
    named.upgrade()
    before = state(named)
    done(named.root, "rollback", "--yes")
    terminal = _asked(named, "undo")
    done(named.root, "undo", "--yes")
    code, said = _end(terminal)
    assert (code, "there is no rollback to undo" in said) == (3, True), said
    assert state(named) == before


def test_an_undo_with_an_older_root_behind_it(named: Machine) -> None:
    """To cancel is one thing, to go back another: the answer was given to the first."""
    name = named.upgrade()
    done(named.root, "rollback", "--yes")
    named.reboot()
    done(named.root, "rollback", name, "--yes")
    terminal = _asked(named, "undo")
    done(named.root, "undo", "--yes")
    before = state(named)
    said = _again(terminal)
    assert "no rollback is waiting for a reboot any more" in said
    terminal.type("n\n")
    assert terminal.end() == 1
    assert state(named) == before


def test_another_rollback_waits_than_the_one_asked_about(named: Machine) -> None:
    first, second = named.upgrade(2), named.upgrade(3)
    done(named.root, "rollback", first, "--yes")
    terminal = _asked(named, "undo")
    done(named.root, "undo", "--yes")
    done(named.root, "rollback", second, "--yes")
    said = _again(terminal)
    assert "another rollback is waiting for a reboot" in said
    assert second in said
    assert _end(terminal)[0] == 0, terminal.text


def test_what_an_earlier_run_left_is_settled_before_the_question(named: Machine) -> None:
    named.upgrade()
    leftover = store_of(named) / "deleted_yum_20200101000000"
    btrfsutil.create_subvolume(str(leftover))
    terminal = _asked(named, "rollback")
    assert not leftover.exists()
    terminal.type("n\n")
    assert terminal.end() == 1
