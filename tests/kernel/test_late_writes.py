# SPDX-License-Identifier: GPL-2.0-or-later
"""What is written between a rollback and its reboot is brought over, or kept and named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone

import pytest

from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.hooks import transaction
from fs_rollback.system.pending import bring_over, settle, state
from fs_rollback.system.store import journals
from tests.kernel.attached import command, off
from tests.kernel.commands import done, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import LAYOUTS, Machine, run
from tests.kernel.reboots import arrive, journal_of, reboot, replaced, rolled_back
from tests.kernel.test_store import listed

LATE = ("var/log/messages", "root/late", "var/lib/machines/guest")


def _late(machine: Machine) -> None:
    for path in LATE:
        (machine.root / path).write_text("old root's last\n")


def _booted_without_the_unit(machine: Machine) -> str:
    """Return the old root's name; the new root runs, and has written to one of the paths."""
    rolled_back(machine)
    _late(machine)
    reboot(machine)
    (machine.root / "var/log/messages").write_text("new root's\n")
    return replaced(machine)


@pytest.mark.parametrize(
    ("layout", "word"),
    [*((layout, "settle") for layout in LAYOUTS), ("named", "create"), ("top-level", "prune")],
)
def test_whoever_settles_pins_the_only_copy(
    make_machine: MakeMachine, layout: str, word: str
) -> None:
    machine = make_machine(layout)
    old = _booted_without_the_unit(machine)
    ended = fs_rollback(machine.root, word)
    said = ended.out + ended.err
    place = "the top level" if machine.layout == "top-level" else old
    pinned = f"{machine.label(old)} is pinned"
    for part in ("/root", "/var/lib/machines", "/var/log", place, pinned):
        assert part in said, said
    assert ended.code == (word == "settle")
    assert "pinned" in listed(machine)[old]["marks"]
    assert machine.read("var/log/messages") == "new root's\n"
    assert not journal_of(machine).exists()


def test_a_transaction_says_so_too(named: Machine) -> None:
    old = _booted_without_the_unit(named)
    taken = transaction.before(Transaction("dnf4", ("dnf", "upgrade"), "a"), str(named.root))
    assert isinstance(taken, transaction.Taken)
    transaction.after(taken, Outcome.DONE, 1)
    assert any(f"{named.label(old)} is pinned" in warning for warning in taken.warnings)
    assert any("/root" in warning for warning in taken.warnings)


def test_where_nothing_was_written_nothing_is_pinned(named: Machine) -> None:
    rolled_back(named)
    reboot(named)
    assert done(named.root, "create").err == ""
    assert "pinned" not in listed(named)[replaced(named)]["marks"]


def test_what_a_rescue_system_does_in_between_loses_nothing(machine: Machine) -> None:
    rolled_back(machine)
    _late(machine)
    with off(machine) as device:
        assert command(device, "create").code == 0
        assert command(device, "prune").code == 0
    ended = arrive(machine)
    assert (ended.code, "came up" in ended.out) == (0, True), ended
    for path in LATE:
        assert machine.read(path) == "old root's last\n"


@contextmanager
def _beside_a_trial(machine: Machine) -> Iterator[None]:
    """Let the machine's own root be mounted by a system that runs a copy of a snapshot."""
    boot = machine.root.with_name("root.boot")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fs_rollback.system.root.trial.is_beside_trial", lambda _host: True)
        number = int(boot.read_text())
        boot.write_text(str(number + 1))
        yield


@pytest.mark.parametrize("used", [False, True])
def test_a_rollback_from_a_trial_takes_the_newest_state_of_each_path(
    machine: Machine, used: bool
) -> None:
    """The new root was never booted, or was and did not get far."""
    rolled_back(machine)
    _late(machine)
    machine.reboot()
    if used:
        (machine.root / "var/log/messages").write_text("new root's\n")
    with _beside_a_trial(machine), machine.unsettled() as (host, store):
        waiting = state.look(host, store)
        assert waiting.waiting is state.Waiting.ELSEWHERE
        state.refuse_while_waiting(host, waiting)
        said = settle.supersede(host, store, waiting, Operations(host))
    newest = dict.fromkeys(LATE, "old root's last\n")
    if used:
        newest["var/log/messages"] = "new root's\n"
    for path, text in newest.items():
        assert machine.read(path) == text
    assert not journal_of(machine).exists()
    row = listed(machine)[replaced(machine)]
    assert ("pinned" in row["marks"]) == used
    assert any("/root" in line for line in said)
    assert "came up" not in row["description"]


MOUNTS = {
    "a carried subvolume": "var/lib/machines",
    "one nested in it": "var/lib/machines/inner",
    "a kept directory": "root",
}


@pytest.mark.parametrize("path", MOUNTS.values(), ids=MOUNTS)
def test_what_is_mounted_elsewhere_is_not_replaced(named: Machine, path: str) -> None:
    """A line of fstab may mount a part of the new root anywhere, before the unit has run."""
    rolled_back(named)
    _late(named)
    reboot(named)
    place = named.image.parent / "early"
    place.mkdir()
    option = f"loop,noatime,subvol=root/{path}"
    if path == "root":
        run("mount", "--bind", str(named.root / path), str(place))
    else:
        run("mount", "-o", option, str(named.image), str(place))
    before = sorted(file.name for file in place.iterdir())
    ended = arrive(named)
    try:
        assert (ended.code, "is mounted" in ended.err) == (1, True), ended
        assert sorted(file.name for file in place.iterdir()) == before
        assert "pinned" in listed(named)[replaced(named)]["marks"]
    finally:
        run("umount", str(place))


def test_a_rollback_from_the_future(named: Machine) -> None:
    """The clock was ahead, and right again days before the reboot: what was written counts."""
    rolled_back(named)
    _late(named)
    data = json.loads(journal_of(named).read_text())
    journal_of(named).write_text(json.dumps({**data, "created": "2049-01-01T00:00:00Z"}))
    reboot(named)
    assert arrive(named).code == 0
    assert named.read("root/late") == "old root's last\n"


def test_a_clock_that_was_dead_in_between(named: Machine) -> None:
    """What was written then has dates from long before the rollback; what was only read has too."""
    named.write(named.root, "root/read", "only read\n")
    rolled_back(named)
    for path in ("var/log/messages", "root/late"):
        (named.root / path).write_text("old root's last\n")
    run("sync", "--file-system", str(named.top))
    with pytest.MonkeyPatch.context() as patch:
        # No file can be given an old time of its last change: so the limit is later than all.
        later = datetime.now(timezone.utc).timestamp() + 1e6
        patch.setattr(bring_over, "_last_change_that_cannot_be", lambda _: later)
        with named.unsettled() as (host, store):
            journal = journals.read(store)
            assert journal is not None
            new = next(s for s in host.subvolumes if s.uuid == journal.plan.new_uuid)
            (line,) = bring_over.left_behind(host, journal, new, Operations(host))
    assert line.startswith("not copied from the old root: /root, /var/log")
