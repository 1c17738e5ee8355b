# SPDX-License-Identifier: GPL-2.0-or-later
"""What the plugins tell the system's journal: snapshots, deletions and stops, and for whom.

These machines run no journald: a socket in its place hears what it would.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from tests.dnf.scenes import app, both, dnf, lines_of_ours, offer, snapshots, wait_for_keepers
from tests.sandbox.machine import Sandbox
from tests.unit.manual import differences

_SOCKET = "/run/systemd/journal/socket"
_FIELD = "FS_ROLLBACK_"


@contextmanager
def _heard(sandbox: Sandbox) -> Iterator[socket.socket]:
    """Listen where journald would; give what `_events` takes."""
    path = sandbox.path(_SOCKET)
    path.parent.mkdir(parents=True, exist_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.setblocking(False)
        try:
            yield listening
        finally:
            path.unlink()


def _events(heard: socket.socket) -> list[dict[str, str]]:
    """Return our fields of what was sent since, read as JOURNAL_NATIVE_PROTOCOL has it."""
    found: list[dict[str, str]] = []
    while True:
        try:
            data = heard.recv(1 << 20)
        except BlockingIOError:
            return found
        fields = {}
        while data:
            line, _, data = data.partition(b"\n")
            name, is_short, value = line.partition(b"=")
            if not is_short:
                size = int.from_bytes(data[:8], "little")
                value, data = data[8 : 8 + size], data[9 + size :]
            fields[name.decode()] = value.decode()
        assert fields["SYSLOG_IDENTIFIER"] == "fs-rollback"
        ours = {k[len(_FIELD) :].lower(): v for k, v in fields.items() if k.startswith(_FIELD)}
        found.append({**ours, "message": fields["MESSAGE"]})


@both
def test_what_a_transaction_tells(sandbox: Sandbox) -> None:
    sandbox.path("/etc/fs-rollback.conf").write_text("keep_last = 1\nkeep_days = 0\n")
    offer(sandbox, app("1"), app("2"))
    with _heard(sandbox) as heard:
        dnf(sandbox, "install", "app-1")
        (first,) = snapshots(sandbox)
        (taken,) = (event for event in _events(heard) if event["event"] == "taken")
        assert taken["snapshot"] == first["name"]
        assert taken["snapshot_id"] == str(first["id"])
        assert taken["command"] == "dnf --assumeyes install app-1"
        verdict = json.loads(sandbox.output("fs-rollback", "prune", "--dry-run", "--json"))
        assert [v["verdict"] for v in verdict["verdicts"]] == ["keep"]
        done = sandbox.run(["dnf", "--assumeyes", "upgrade"], env={"SUDO_USER": "eve"})
        wait_for_keepers(sandbox)
        assert len(lines_of_ours(done)) == 1, "the plugin prints what it did before"
        events = {event["event"]: event for event in _events(heard)}
    assert events["deleted"]["snapshot"] == first["name"]
    assert events["deleted"]["reason"] == "2nd newest (keep_last = 1), 0 days old"
    for event in (events["taken"], events["deleted"]):
        assert event["command"] == "dnf --assumeyes upgrade"
        assert event["user"] in ("eve", "root"), "root where the tests run in a login of root"
    # There is no journal in the machine: its store knows why all the same.
    answer = json.loads(sandbox.output("fs-rollback", "log", first["name"], "--json"))
    assert differences("log", answer) == []
    (gone,) = answer["events"]
    assert (gone["event"], gone["reason"]) == ("deleted", events["deleted"]["reason"])
    assert gone["command"] == "dnf --assumeyes upgrade"
    assert first["name"] in sandbox.output("fs-rollback", "log")


@both
def test_what_a_stopped_transaction_tells(sandbox: Sandbox) -> None:
    offer(sandbox, app("1"), app("2"))
    dnf(sandbox, "install", "app-1")
    sandbox.run(["fs-rollback", "rollback", "latest", "--yes"])
    with _heard(sandbox) as heard:
        dnf(sandbox, "upgrade", code=1)
        (refused,) = _events(heard)
        assert refused["event"] == "refused"
        assert "is waiting for a reboot" in refused["reason"]
        assert refused["command"] == "dnf --assumeyes upgrade"
        sandbox.run(["fs-rollback", "undo", "--yes"])
        assert "undone" in [event["event"] for event in _events(heard)]
        sandbox.path("/etc/fs-rollback.conf").write_text("keep_last = x\n")
        dnf(sandbox, "upgrade", code=1)
        (failed,) = _events(heard)
    assert failed["event"] == "failed"
    assert "/etc/fs-rollback.conf" in failed["reason"]


@both
def test_nobody_listens(sandbox: Sandbox) -> None:
    """A socket that is left of a journald that died, and one that takes nothing."""
    offer(sandbox, app("1"), app("2"))
    with _heard(sandbox) as heard:
        path = sandbox.path(_SOCKET)
        dnf(sandbox, "install", "app-1")
        heard.close()
        assert path.exists()
        assert len(lines_of_ours(dnf(sandbox, "upgrade"))) == 1
    assert [s["transaction"]["outcome"] for s in snapshots(sandbox)] == ["done", "done"]
