# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever changes something says so in the system's journal: what, to what, why and for whom."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import pytest

from fs_rollback.core.snapshots.events import Event
from fs_rollback.system.store import journald, trace
from tests.kernel import journal
from tests.kernel.boots import MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import Fault, faulty, in_child
from tests.kernel.journal import Journal
from tests.kernel.machine import Machine
from tests.kernel.reboots import replaced, rolled_back
from tests.kernel.test_whose_root import _take_the_place

__all__ = ["make_boot"]


@pytest.fixture(name="told")
def _told() -> Iterator[Journal]:
    with journal.running() as found:
        yield found


def _last(told: Journal, event: str) -> dict[str, str]:
    return [found for found in told.events() if found["event"] == event][-1]


def _id(machine: Machine, name: str) -> str:
    return str(next(s.id for s in machine.snapshots() if s.name == name))


def test_each_command_that_changes_something(named: Machine, told: Journal) -> None:
    place = str(named.root)

    def expect(event: str, name: Optional[str], *words: str, **more: str) -> None:
        before = len(told.events())
        fs_rollback(named.root, *words, env={"SUDO_USER": "eve"})
        new = told.events()[before:]
        (found,) = (e for e in new if e["event"] == event)
        wanted = {"system": place, "snapshot": name, **more}
        assert {key: found.get(key) for key in wanted} == wanted
        assert found["command"].endswith(f"{words[0]} --root {place} {' '.join(words[1:])}".strip())
        assert found["user"] in ("eve", "root"), "root where somebody has logged in as that"

    done(named.root, "create", "-m", "first one")
    (taken,) = (event for event in told.events() if event["event"] == "taken")
    name = taken["snapshot"]
    assert taken["event"] == "taken"
    assert taken["reason"] == "first one"
    number = taken["snapshot_id"]
    assert number == _id(named, name)
    assert taken["snapshot_uuid"] == next(
        s.subvolume.uuid for s in named.snapshots() if s.subvolume
    )
    expect("pinned", name, "pin", name, snapshot_id=number)
    expect("refused", name, "delete", name, exit_code="3",
           reason=f"{named.label(name)} is not deleted: it is pinned")  # fmt: skip
    expect("unpinned", name, "unpin", name, snapshot_id=number)
    expect("restored", name, "restore", name, "/etc/app.conf", "--yes", snapshot_id=number,
           reason="/etc/app.conf")  # fmt: skip
    expect("mounted", name, "mount", name, snapshot_id=number, reason=f"/run/fs-rollback/{name}")
    expect("unmounted", name, "umount", name, reason=f"/run/fs-rollback/{name}")
    expect("entered", name, "shell", name, "/bin/true", snapshot_id=number, reason="/bin/true")
    expect("rolled-back", name, "rollback", name, "--yes", snapshot_id=number)
    replaced = _last(told, "rolled-back")["replaced"]
    assert replaced in [s.name for s in named.snapshots()]
    expect("refused", None, "rollback", name, "--yes", exit_code="3")
    expect("undone", name, "undo", "--yes")
    done(named.root, "rollback", name, "--yes")
    named.use(1)
    named.reboot()
    expect("settled", name, "settle", "--at-boot")
    assert "the machine came up in the new root" in _last(told, "settled")["reason"]
    assert "/root" in _last(told, "brought-over")["reason"]
    expect("deleted", name, "delete", name, reason="requested", snapshot_id=number)


def test_nothing_is_told_of_what_only_looks(named: Machine, told: Journal) -> None:
    named.take()
    before = told.lines()
    for words in (("status",), ("list",), ("show", "latest"), ("show", "x"), ("check",), ("log",),
                  ("prune", "--dry-run"), ("rollback", "latest", "--dry-run"), ("delete", "x"),
                  ("rollback", "latest"), ("settle",)):  # fmt: skip
        fs_rollback(named.root, *words)
    assert told.lines() == before


def test_a_transaction_and_what_it_prunes(named: Machine, told: Journal) -> None:
    named.write(named.root, "etc/fs-rollback.conf", "keep_last = 1\nkeep_days = 0\n")
    names = [named.upgrade(number) for number in (2, 3)]
    taken = [e for e in told.events() if e["event"] == "taken"]
    assert [e["snapshot"] for e in taken] == names
    for event in taken:
        assert (event["user"], event["command"]) == ("admin", "dnf upgrade")
        assert event["reason"] == "before the transaction"
    verdicts = done(named.root, "prune", "--dry-run", "--json").json["verdicts"]
    (reason,) = (v["reason"] for v in verdicts if v["verdict"] == "delete")
    done(named.root, "prune")
    deleted = _last(told, "deleted")
    assert (deleted["snapshot"], deleted["reason"]) == (names[0], reason)
    (line,) = (line for line in told.lines() if "deleted" in line["MESSAGE"])
    assert line["MESSAGE"].startswith(f"deleted {deleted['snapshot_id']} ({names[0]}) on ")
    assert reason in line["MESSAGE"]
    assert (line["PRIORITY"], line["_UID"]) == ("6", "0")


def test_an_interrupted_rollback_and_a_failure(named: Machine, told: Journal) -> None:
    name = named.upgrade()
    cut = faulty(3, Fault.KILL_BEFORE)
    assert in_child(lambda: named.roll_back(name, cut)) == 9
    done(named.root, "settle")
    settled = _last(told, "settled")
    assert settled["snapshot"] == name
    assert settled["reason"] == "an interrupted rollback was undone"
    (named.top / "fs-snapshots" / f"{name}.json").write_text("{")
    assert fs_rollback(named.root, "pin", name).code == 1
    failed = told.events()[-1]
    assert (failed["event"], failed["exit_code"]) == ("failed", "1")
    assert "its record is not readable" in failed["reason"]
    assert told.lines()[-1]["PRIORITY"] == "3"


def test_a_rollback_that_another_root_has_replaced(named: Machine, told: Journal) -> None:
    name = rolled_back(named)
    _take_the_place(named)
    named.reboot()
    assert fs_rollback(named.root, "settle", "--at-boot").code == 1
    failed = _last(told, "failed")
    assert failed["snapshot"] == name
    assert failed["reason"]
    done(named.root, "settle", "--forget")
    forgotten = _last(told, "forgotten")
    assert forgotten["snapshot"] == name
    assert forgotten["replaced"] == replaced(named)


def test_the_menu_and_the_kernels(make_boot: MakeBoot, told: Journal) -> None:
    boot = make_boot("ext4")
    name, _ = boot.transact()
    found = {event["event"]: event for event in told.events()}
    assert found["menu-added"]["snapshot"] == name
    assert found["menu-added"]["command"] == "dnf upgrade"
    assert found["kernels-saved"]["reason"]
    done(boot.root, "guard", "on")
    assert _last(told, "guarded")["snapshot"] == name
    done(boot.root, "guard", "off")
    assert _last(told, "unguarded")["snapshot"] == name
    done(boot.root, "try", name)
    assert _last(told, "tried")["snapshot"] == name
    done(boot.root, "delete", name)
    assert _last(told, "menu-removed")["snapshot"] == name
    assert "no snapshot needs" in _last(told, "kernels-removed")["reason"]


def test_nobody_else_can_forge_a_line(named: Machine, told: Journal) -> None:
    name = named.take()
    with told.of_machine(named.root):
        before = done(named.root, "log").out
        forged = (
            "import sys; sys.path.insert(0, sys.argv[1]);"
            " from fs_rollback.system.store import journald;"
            " journald.send('forged', 6, {'FS_ROLLBACK_EVENT': 'deleted'})"
        )
        subprocess.run(
            ("setpriv", "--reuid=1234", "--clear-groups", sys.executable, "-I", "-c", forged,
             str(Path(trace.__file__).parents[3])), check=True)  # fmt: skip
        assert any(line["MESSAGE"] == "forged" for line in told.lines())
        assert name in before
        assert done(named.root, "log").out == before


def test_syslog_where_there_is_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journald, "SYSLOG", str(tmp_path / "log"))
    trace.tell(None, Event("failed", reason="nobody listens"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "log"))
        trace.tell(None, Event("failed", reason="two\nlines"))
        listening.settimeout(1)
        text = listening.recv(4096).decode()
    assert text.startswith("<27>")  # daemon, error
    head, _, rest = text.partition(": ")
    assert head.split()[-1].startswith("fs-rollback[")
    assert rest.startswith("failed: two lines [")


def test_a_journal_that_takes_nothing_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journald, "SOCKET", str(tmp_path / "socket"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as full:
        full.bind(str(tmp_path / "socket"))
        for _ in range(5000):
            trace.tell(None, Event("failed", reason="x" * 400))
        full.setblocking(False)
        taken = [None for _ in iter(lambda: _received(full), b"")]
    assert 0 < len(taken) < 5000


def test_a_command_line_that_is_longer_than_a_datagram(told: Journal) -> None:
    command = "dnf install " + "package " * 100_000
    trace.tell(None, Event("taken", "yum_1", user="admin", command=command))
    line = told.lines()[-1]
    assert line["FS_ROLLBACK_SNAPSHOT"] == "yum_1"
    assert line["MESSAGE"].startswith("taken yum_1 [admin: dnf install package ")


def _received(listening: socket.socket) -> bytes:
    try:
        return listening.recv(65536)
    except BlockingIOError:
        return b""


def test_a_value_of_several_lines_comes_as_it_is(told: Journal) -> None:
    reason = "one\ntwo=three\n\nFS_ROLLBACK_USER=nobody"
    trace.tell(None, Event("refused", reason=reason))
    line = told.lines()[-1]
    assert line["FS_ROLLBACK_REASON"] == reason
    assert line["FS_ROLLBACK_USER"] != "nobody"
    assert json.dumps(line["PRIORITY"]) == '"4"'
