# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback whose journal an earlier program wrote: finished, taken back, confirmed as its own.

The files are of other machines of the same layout. So names, UUIDs and the boot in them become
those of a rollback that is made here; the rest is as that program wrote it.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import written_by
from tests.kernel.commands import done
from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import Fault, Faulty, faulty, in_child, state
from tests.kernel.machine import Machine
from tests.kernel.reboots import arrive, journal_of, reboot, replaced, rolled_back
from tests.kernel.test_store import listed

_FILES = written_by.names("pending")
# The first of all wrote no generation into the journal.
_TELLS_WHAT_IS_NEW = ("0.1.0",)
_LATE = ("var/log/messages", "root/late", "var/lib/machines/guest")


def _files(state_of_it: str) -> pytest.MarkDecorator:
    found = [(version, name) for version, name in _FILES if name.endswith(state_of_it)]
    assert len(found) == 6
    return pytest.mark.parametrize(("version", "name"), found)


def _layout(name: str) -> str:
    return name[len("pending-") : name.rindex("-")]


def _rewrite(machine: Machine, version: str, name: str) -> None:
    """Put the file of an earlier program in the place of this machine's journal."""
    path: Path = journal_of(machine)
    ours, theirs = json.loads(path.read_text()), json.loads(written_by.text(version, name))
    text = json.dumps(theirs)
    for old, new in zip(_strings(theirs), _strings(ours)):
        text = text.replace(old, new)
    data = json.loads(text)
    if "generation" in data:
        data["generation"] = ours["generation"]
    assert data["state"] == ours["state"]
    assert data["old_id"] == ours["old_id"]
    if version == "0.1.0":
        assert data["plan"] == ours["plan"], "it is the journal of this very rollback"
    path.write_text(json.dumps(data, indent=1) + "\n")


def _strings(journal: dict[str, Any]) -> tuple[str, ...]:
    """Return what differs from one rollback to another, what is part of another last."""
    steps = {row["step"]: row for row in journal["plan"]["steps"]}
    return (
        steps["CreateRoot"]["spare"],
        steps["SetAside"]["name"],
        journal["target"],
        journal["old_uuid"],
        journal.get("new_uuid") or "no such text",
        journal["created"],
        f'"{journal["boot_id"]}"',
        journal["target"][len("yum_") :],
    )


def _cut_off(machine: Machine, fault: Fault) -> None:
    """Have a rollback killed right before or after its commit."""
    log: list[str] = []

    def noting(host: Any) -> Faulty:
        operations = Faulty(host)
        operations.log = log
        return operations

    target = machine.snapshots()[0].name
    machine.roll_back(target, noting)
    machine.take_back()
    commit = "exchange" if machine.layout.startswith("named") else "set_default"
    cut = faulty(log.index(commit), fault)
    assert in_child(partial(machine.roll_back, target, cut)) == 9


@_files("prepared")
@pytest.mark.parametrize("fault", [Fault.KILL_BEFORE, Fault.KILL_AFTER])
def test_a_rollback_that_was_cut_off(
    make_machine: MakeMachine, version: str, name: str, fault: Fault
) -> None:
    machine = make_machine(_layout(name))
    machine.upgrade()
    machine.use(1)
    before = state(machine)
    _cut_off(machine, fault)
    _rewrite(machine, version, name)
    said = done(machine.root, "settle").out
    if fault is Fault.KILL_BEFORE:
        assert "an interrupted rollback was undone" in said
        assert state(machine) == before
    else:
        assert "an interrupted rollback was finished" in said
        assert (machine.next_root() / "usr/bin/app").read_text() == "version 1\n"
        _undo(machine, version, before)


@_files("committed")
def test_a_rollback_that_is_undone(make_machine: MakeMachine, version: str, name: str) -> None:
    machine = make_machine(_layout(name))
    machine.upgrade()
    machine.use(1)
    before = state(machine)
    machine.roll_back(machine.snapshots()[0].name)
    _rewrite(machine, version, name)
    _undo(machine, version, before)


def _undo(machine: Machine, version: str, before: dict[str, object]) -> None:
    assert "This cancels it" in done(machine.root, "undo", "--yes").out
    now = state(machine)
    if version not in _TELLS_WHAT_IS_NEW:
        before = {**before, "store": now["store"], "subvolumes": now["subvolumes"]}
        kept = machine.top / "fs-snapshots" / replaced(machine)
        assert (kept / "usr/bin/app").read_text() == "version 1\n", "it may have been used"
    assert now == before


@_files("committed")
def test_the_first_boot_after_it(make_machine: MakeMachine, version: str, name: str) -> None:
    machine = make_machine(_layout(name))
    target = rolled_back(machine)
    _rewrite(machine, version, name)
    for path in _LATE:
        (machine.root / path).write_text("old root's last\n")
    reboot(machine)
    ended = arrive(machine)
    assert f"came up in the new root, a copy of {machine.label(target)}" in ended.out
    old = replaced(machine)
    row = listed(machine)[old]
    assert row["description"].startswith(f"replaced by {target}; came up in the new root 20")
    assert (row["replaced_by"]["name"], bool(row["replaced_by"]["confirmed"])) == (target, True)
    tells = version in _TELLS_WHAT_IS_NEW
    assert (ended.code, "cannot determine" in ended.err) == ((0, False) if tells else (1, True))
    assert ("pinned" in row["marks"]) == (not tells)
    found = {machine.read(path) for path in _LATE if (machine.root / path).exists()}
    assert (found == {"old root's last\n"}) == tells
    assert not journal_of(machine).exists()
