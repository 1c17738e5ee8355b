# SPDX-License-Identifier: GPL-2.0-or-later
"""After a transaction that was cut off the way back comes first, and names the right snapshot."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

import pytest

from fs_rollback.system.machine import host
from fs_rollback.system.packages import interrupted
from fs_rollback.system.store import store
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine
from tests.kernel.reboots import reboot
from tests.kernel.test_store import edit_record, read_record


def cut_off(machine: Machine, version: int = 2, **changes: Any) -> str:
    """Do a transaction whose record says that it was interrupted, as it is settled."""
    name = machine.upgrade(version)
    before = read_record(machine, name)["transaction"]
    edit_record(machine, name, transaction={**before, "outcome": "interrupted", **changes})
    return name


def first_line(machine: Machine) -> Optional[str]:
    lines = fs_rollback(machine.root, "status", "--json").json["attention"]
    said = [line for line in lines if "was interrupted in the middle" in line]
    assert said in ([], lines[:1]), "nothing comes before it"
    return said[0] if said else None


def test_the_first_line_says_how_to_go_back(machine: Machine) -> None:
    machine.write(machine.root, "etc/fs-rollback.conf", "keep_lost = 3\n")
    name = cut_off(machine)
    line = first_line(machine)
    assert line is not None
    where = f" --root {machine.root}"
    assert line == (
        "dnf was interrupted in the middle of 1 package;"
        f" 'fs-rollback rollback{where}' returns to the state before it"
    )
    (machine.root / "etc/fs-rollback.conf").unlink()
    plan = done(machine.root, "rollback", "--dry-run", "--json").json
    assert plan["target"] == name
    machine.roll_back(name)
    assert first_line(machine) is None, "it is on its way back"
    reboot(machine)
    assert first_line(machine) is None


@pytest.mark.parametrize(("changes", "said"), [
    ({"packages": [{"action": "upgrade", "name": f"p{n}", "arch": "noarch", "from": "1", "to": "2"}
                   for n in range(47)]}, "dnf was interrupted in the middle of 47 packages"),
    ({"packages": [], "tool": "packagekit"}, "PackageKit was interrupted in the middle of a tr"),
    ({"tool": "dnf5"}, "dnf was interrupted in the middle of 1 package"),
    ({"history_id": None}, None),
    ({"outcome": "failed"}, None),
    ({"outcome": "done"}, None),
])  # fmt: skip
def test_what_was_cut_off(named: Machine, changes: dict[str, Any], said: Optional[str]) -> None:
    cut_off(named, **changes)
    line = first_line(named)
    assert line is None if said is None else line is not None and line.startswith(said)


def test_a_later_transaction_has_the_last_word(named: Machine) -> None:
    old = cut_off(named, 2)
    named.upgrade(3)
    assert first_line(named) is None
    newer = cut_off(named, 4)
    named.take("by hand, after it")
    assert first_line(named) is not None
    assert done(named.root, "rollback", "--dry-run", "--json").json["target"] == newer != old


def test_the_first_of_several_is_the_one_to_go_back_to(named: Machine) -> None:
    """The second transaction began in what the first had left, and so did all that failed since."""
    first = cut_off(named, 2)
    cut_off(named, 3)
    cut_off(named, 4, history_id=None)
    cut_off(named, 5, outcome="failed")
    assert first_line(named) is not None
    assert done(named.root, "rollback", "--dry-run", "--json").json["target"] == first
    named.upgrade(6)
    assert first_line(named) is None


def test_an_undo_brings_what_was_cut_off_back(named: Machine) -> None:
    named.roll_back(cut_off(named))
    reboot(named)
    assert first_line(named) is None
    done(named.root, "undo", "--yes", "--to-replaced")
    reboot(named)
    assert first_line(named) is not None


def test_the_snapshot_is_named_where_rollback_chooses_another(named: Machine) -> None:
    """Records of other roots may be newer: of the root that a rollback has replaced."""
    machine = named
    first = cut_off(machine, 2)
    later = machine.upgrade(3)
    source = read_record(machine, later)["source"]
    edit_record(machine, later, source={**source, "uuid": "0" * 32})
    number = next(s.id for s in machine.snapshots() if s.name == first)
    line = first_line(machine)
    assert line is not None
    assert f"'fs-rollback rollback --root {machine.root} {number}'" in line


def test_the_finding_is_for_plugins_too(named: Machine, tmp_path: Path) -> None:
    name = cut_off(named)
    with host.opened(str(named.root)) as machine, store.opened(machine) as found:
        assert found is not None
        snapshot = interrupted.find(machine, found.load())
    assert snapshot is not None
    assert snapshot.name == name
    assert f"'fs-rollback rollback {snapshot.id}'" in interrupted.sentence(
        snapshot, str(snapshot.id)
    )
