# SPDX-License-Identifier: GPL-2.0-or-later
"""What scripts get from the commands that change snapshots."""

from __future__ import annotations

from typing import Any

from tests.kernel.commands import Done, done, fs_rollback
from tests.kernel.machine import Machine
from tests.unit.manual import differences


def answer(ended: Done, command: str) -> Any:
    """Return the answer of a command, after a look at what the manual says of it."""
    assert differences(command, ended.json) == []
    return ended.json


def test_a_snapshot_from_its_beginning_to_its_end(make_machine: Any) -> None:
    machine: Machine = make_machine("named")
    created = done(machine.root, "create", "--json", "-m", "why")
    taken = answer(created, "create")["snapshot"]
    (snapshot,) = machine.snapshots()
    assert snapshot.subvolume is not None
    assert created.err == ""
    assert taken == {
        "id": snapshot.id,
        "name": snapshot.name,
        "path": f"/fs-snapshots/{snapshot.name}",
        "uuid": snapshot.subvolume.uuid,
    }
    row = {"id": snapshot.id, "name": snapshot.name}
    pinned = done(machine.root, "pin", "--json", snapshot.name)
    assert answer(pinned, "pin")["snapshots"] == [{**row, "pinned": True}]
    assert pinned.err == ""
    refused = fs_rollback(machine.root, "delete", "--json", str(snapshot.id))
    assert refused.code == 3
    (kept,) = answer(refused, "delete")["snapshots"]
    assert (kept["deleted"], "it is pinned" in kept["error"]) == (False, True)
    unpinned = done(machine.root, "unpin", "--json", snapshot.name)
    assert answer(unpinned, "unpin")["snapshots"] == [{**row, "pinned": False}]
    (machine.root / "usr/bin/app").write_bytes(b"new" * 9999)
    dry = answer(done(machine.root, "delete", "--json", "--dry-run", snapshot.name), "delete")
    assert dry["snapshots"] == [{**row, "deleted": False, "error": None}]
    assert isinstance(dry["gives_back_bytes"], int)
    gone = answer(done(machine.root, "delete", "--json", snapshot.name), "delete")
    assert gone["snapshots"] == [{**row, "deleted": True, "error": None}]
    assert machine.snapshots() == []
