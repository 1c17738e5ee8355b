# SPDX-License-Identifier: GPL-2.0-or-later
"""`settle` and `status` after a rollback: confirmed, elsewhere and why, undone by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.rollback import journal
from fs_rollback.core.snapshots.record import parse_time
from fs_rollback.system.execute.trees import Operations
from fs_rollback.system.pending import settle
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive, journal_of, reboot, replaced, rolled_back
from tests.kernel.running import begin_boot
from tests.kernel.test_store import listed, store_of


def test_an_old_root_that_was_deleted(named: Machine) -> None:
    rolled_back(named)
    reboot(named)
    btrfsutil.delete_subvolume(str(store_of(named) / replaced(named)), recursive=True)
    ended = arrive(named)
    assert (ended.code, ended.err) == (0, "")


def test_status_tells_of_the_last_rollback(machine: Machine) -> None:
    machine.upgrade()
    assert fs_rollback(machine.root, "status", "--json").json["last_rollback"] is None
    name = machine.upgrade(3)
    machine.roll_back(name)
    told = fs_rollback(machine.root, "status", "--json").json["last_rollback"]
    assert told["description"] == f"replaced by {name}"
    number = listed(machine)[name]["id"]
    fields = {"name": name, "id": number, "confirmed": None, "given_up": False}
    assert told["replaced_by"] == fields
    began = datetime.now(timezone.utc).replace(microsecond=0)
    reboot(machine)
    assert done(machine.root, "settle").code == 0
    told = fs_rollback(machine.root, "status", "--json").json["last_rollback"]
    assert told["replaced"] == replaced(machine)
    assert f"replaced by {name}; came up in the new root 20" in told["description"]
    moment = parse_time(told["replaced_by"]["confirmed"])
    assert began <= moment <= datetime.now(timezone.utc)
    assert {**told["replaced_by"], "confirmed": None} == fields
    assert listed(machine)[replaced(machine)]["replaced_by"] == told["replaced_by"]
    lines = fs_rollback(machine.root, "status").out.splitlines()
    assert [line for line in lines if line.startswith("Last rollback:") and name in line]
    assert [line for line in lines if "new root: first booted" in line]
    assert done(machine.root, "settle").out == "fs-rollback: nothing to settle\n"


@pytest.mark.parametrize("state", ["prepared", "committed"])
def test_the_journal_is_read_once(
    named: Machine, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    texts: list[str] = []
    parse = journal.parse

    def counted(text: str) -> journal.Pending:
        texts.append(text)
        return parse(text)

    for bring in (True, False):
        rolled_back(named)
        data = json.loads(journal_of(named).read_text())
        journal_of(named).write_text(json.dumps({**data, "state": state}))
        reboot(named)
        with monkeypatch.context() as patch, named.unsettled() as (host, store):
            patch.setattr(journal, "parse", counted)
            if bring:
                ended = settle.settle(host, store, Operations(host), bring=True)
                assert ended.said[-1].startswith("came up in the new root")
            else:
                settle.settle_in_passing(host, store)
        assert not journal_of(named).exists()
        assert len(texts) == 1
        texts.clear()


def _booted_since(machine: Machine) -> None:
    """Boot the machine anew, into the root that is mounted."""
    begin_boot(machine.root)


def test_a_machine_that_came_up_elsewhere(machine: Machine) -> None:
    rolled_back(machine)
    old = btrfsutil.subvolume_id(str(machine.root))
    wanted = btrfsutil.subvolume_id(str(machine.next_root()))
    _booted_since(machine)
    for options in (("--at-boot",), ()):
        ended = fs_rollback(machine.root, "settle", *options)
        assert ended.code == 1
        assert "THE MACHINE WAS ROLLED BACK, BUT THIS BOOT DID NOT USE THE NEW ROOT" in ended.err
        assert f"(ID {old}) is running instead of" in ended.err
        assert f"(ID {wanted}): " in ended.err
        assert ended.err.startswith("<4>") == bool(options)
    answer = fs_rollback(machine.root, "settle", "--json").json
    assert answer["waiting"] == "elsewhere"
    status = fs_rollback(machine.root, "status")
    assert (status.code, f"(ID {wanted}): " in status.out) == (1, True)
    assert journal_of(machine).exists()
    assert fs_rollback(machine.root, "settle", "--missed").code == 1
    assert journal_of(machine).exists()


def test_an_entry_that_names_the_old_root(named: Machine) -> None:
    rolled_back(named)
    _booted_since(named)
    # GRUB reads it by its path, at which the new root is.
    entry = named.top / "root/boot/loader/entries/abc-6.1.0-1.conf"
    entry.write_text(
        entry.read_text().replace("subvol=root", f"subvol=fs-snapshots/{replaced(named)}")
    )
    ended = fs_rollback(named.root, "settle")
    assert (ended.code, "/boot/loader/entries/abc-6.1.0-1.conf says" in ended.err) == (1, True)


def test_a_default_subvolume_that_somebody_changed(make_machine: Callable[[str], Machine]) -> None:
    machine = make_machine("default")
    name = machine.upgrade()
    machine.roll_back(name)
    new = btrfsutil.subvolume_id(str(machine.next_root()))
    btrfsutil.create_snapshot(str(machine.root), str(machine.top / "third"))
    third = btrfsutil.subvolume_id(str(machine.top / "third"))
    btrfsutil.set_default_subvolume(str(machine.top), third)
    reboot(machine)
    _booted_since(machine)
    ended = fs_rollback(machine.root, "settle")
    assert ended.code == 1
    assert f"has made /third (ID {third}), UUID" in ended.err
    assert f"btrfs subvolume set-default {new} /mnt" in ended.err


@pytest.mark.parametrize("layout", ["named", "default"])
def test_a_rollback_that_was_taken_back_by_hand(
    make_machine: Callable[[str], Machine], layout: str
) -> None:
    machine = make_machine(layout)
    rolled_back(machine)
    old = store_of(machine) / replaced(machine)
    number = btrfsutil.subvolume_id(str(machine.root))
    if layout == "named":
        run("umount", str(machine.root))
        (machine.top / "root").rename(machine.top / "not this one")
        old.rename(machine.top / "root")
        machine.boot()
    else:
        btrfsutil.set_default_subvolume(str(machine.top), number)
        reboot(machine)
    _booted_since(machine)
    ended = arrive(machine)
    assert (ended.code, "undone by hand" in ended.out) == (0, True), ended
    assert machine.read("usr/bin/app") == "version 2\n"
    assert not journal_of(machine).exists()
    assert done(machine.root, "settle").code == 0


def test_without_a_store_and_without_btrfs(named: Machine, tmp_path: Path) -> None:
    for root in (named.root, tmp_path):
        for option in ("--at-boot", "--missed"):
            ended = fs_rollback(root, "settle", option)
            assert (ended.code, ended.out, ended.err) == (0, "", "")
        assert fs_rollback(root, "settle").code == 0
