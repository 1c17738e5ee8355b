# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction on a machine with many snapshots reads the few records that it needs."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from fs_rollback.core.snapshots.record import Outcome, PackageChange, Transaction
from fs_rollback.core.snapshots.retention import Action, Policy
from fs_rollback.system.hooks import transaction
from fs_rollback.system.linux import files
from fs_rollback.system.snapshots import take_and_delete
from tests.kernel.commands import done
from tests.kernel.machine import Machine
from tests.kernel.test_store import edit_record, read_record, store_of

KEEP_ALL = Policy(keep_last=100, keep_days=0, keep_replaced_days=100)
KEEP_NONE = Policy(keep_last=0, keep_days=0, keep_replaced_days=0)
KEEP_TWO = KEEP_NONE._replace(keep_last=2)
KEEP_YOUNG = KEEP_NONE._replace(keep_days=30)


def told(machine: Machine, policy: Policy) -> tuple[bool, bool]:
    """Return whether the subvolumes tell that all is kept, and whether retention keeps all."""
    now = datetime.now().astimezone()
    with machine.writing() as (host, store):
        verdicts = take_and_delete.judge(host, store, policy, now)
        keeps_all = all(verdict.action is Action.KEEP for verdict in verdicts)
        return take_and_delete.keeps_all(host, store, policy, now), keeps_all


@pytest.mark.parametrize("policy", [KEEP_ALL, KEEP_YOUNG])
def test_what_is_new_enough_is_kept(machine: Machine, policy: Policy) -> None:
    names = [machine.upgrade(2), machine.take(), machine.take(), machine.upgrade(3)]
    assert told(machine, policy) == (True, True)
    assert told(machine, KEEP_TWO) == (False, True), "only records tell which are by hand"
    assert told(machine, KEEP_TWO._replace(keep_last=1)) == (False, False)
    edit_record(machine, names[0], pinned=True)
    assert told(machine, KEEP_TWO._replace(keep_last=3)) == (True, True)
    assert told(machine, KEEP_NONE) == (False, False)


def test_what_only_a_record_tells_is_left_to_retention(named: Machine) -> None:
    names = [named.upgrade(2), named.upgrade(3)]
    named.roll_back(names[0])
    named.reboot()
    assert told(named, KEEP_ALL) == (False, True), "the replaced root"
    edit_record(named, named.snapshots()[-1].name, pinned=True)
    assert told(named, KEEP_ALL) == (True, True)
    assert told(named, KEEP_ALL._replace(keep_replaced_days=0)) == (True, True)
    lost = store_of(named) / "yum_20200101000000.json"
    lost.write_text(json.dumps({**read_record(named, names[1]), "name": lost.stem}))
    assert told(named, KEEP_ALL) == (False, False), "a record without its subvolume"


def test_a_transaction_reads_few_records(named: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    for version in range(2, 12):
        named.upgrade(version)
    read: list[str] = []
    read_entry = files.read_entry

    def counted(directory: int, name: str) -> str | None:
        read.append(name)
        return read_entry(directory, name)

    monkeypatch.setattr(files, "read_entry", counted)
    change = Transaction("dnf4", ("dnf", "upgrade"), "admin")
    taken = transaction.before(change, str(named.root))
    assert isinstance(taken, transaction.Taken)
    assert transaction.after(taken, Outcome.DONE, 12) == []
    # The last one, to see that it was done, and for the menu the newest ones.
    assert len(set(read)) <= 1 + taken.config.boot_entries + 1, read


def test_an_important_transaction_outlasts_the_others(named: Machine) -> None:
    """As records tell it; a list of one's own counts too."""
    names = []
    for number, package in enumerate(("kernel-core", "app", "nginx", "app", "app"), start=2):
        change = PackageChange("upgrade", package, "x86_64", "1-1", "2-1")
        taken = transaction.before(
            Transaction("dnf4", ("dnf", "upgrade"), "admin", (change,)), str(named.root)
        )
        assert isinstance(taken, transaction.Taken)
        assert transaction.after(taken, Outcome.DONE, number) == []
        names.append(taken.record.name)
    text = "keep_last = 1\nkeep_days = 0\nimportant_packages = ngi*\n"
    named.write(named.root, "etc/fs-rollback.conf", text)
    verdicts = done(named.root, "prune", "--json").json["verdicts"]
    kept = {v["name"]: v["reason"] for v in verdicts if v["verdict"] == "keep"}
    assert kept == {
        names[0]: "2nd newest important: its transaction changed kernel-core (keep_important = 5)",
        names[2]: "1st newest important: its transaction changed nginx (keep_important = 5)",
        names[4]: "it is the newest snapshot",
    }
    assert [s.name for s in named.snapshots()] == list(kept)
    named.write(named.root, "etc/fs-rollback.conf", f"{text}keep_important = 1\n")
    done(named.root, "prune")
    assert [s.name for s in named.snapshots()] == [names[2], names[4]]
