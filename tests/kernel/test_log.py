# SPDX-License-Identifier: GPL-2.0-or-later
"""Why is this snapshot gone? What `log` shows, and what the store keeps of it."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import btrfsutil
import pytest

from fs_rollback.core.snapshots.events import Event
from fs_rollback.system.linux import btrfs, durable
from fs_rollback.system.machine import host
from fs_rollback.system.root import roots_in_use
from fs_rollback.system.store import store, trace
from tests.kernel import journal
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import in_child
from tests.kernel.images import Camera
from tests.kernel.journal import Journal
from tests.kernel.machine import Machine, run
from tests.kernel.test_hard_cases import _fill
from tests.kernel.test_store import listed, store_of
from tests.unit.manual import differences

_KEEP_ONE = "keep_last = 1\nkeep_days = 0\n"


@pytest.fixture(name="told")
def _told() -> Iterator[Journal]:
    with journal.running() as found:
        yield found


def _log(machine: Machine, *words: str, code: int = 0) -> list[dict[str, Any]]:
    ended = fs_rollback(machine.root, "log", "--json", *words)
    assert ended.code == code, ended
    assert differences("log", ended.json) == []
    assert bool(ended.json["problems"]) == (code == 1)
    events: list[dict[str, Any]] = ended.json["events"]
    return events


def _lines(machine: Machine) -> list[dict[str, Any]]:
    text = (store_of(machine) / trace.LOG).read_text()
    return [json.loads(line) for line in text.splitlines() if line]


def test_why_is_this_snapshot_gone(named: Machine) -> None:
    """On a machine without a journal: only the store knows."""
    named.write(named.root, "etc/fs-rollback.conf", _KEEP_ONE)
    for words in ([], ["--json"]):
        ended = fs_rollback(named.root, "log", *words)
        said = "no systemd journal was found, and the store has no record of a deletion"
        assert (ended.code, said in ended.err) == (1, True)
    assert ended.json["problems"] == [said]
    (named.root / "var/log/journal").mkdir()
    assert done(named.root, "log").err == "fs-rollback: nothing is recorded yet\n"
    (named.root / "var/log/journal").rmdir()
    first, second, third = (named.take(word) for word in "abc")
    numbers = {s.name: s.id for s in named.snapshots()}
    uuids = {s.name: s.subvolume.uuid for s in named.snapshots() if s.subvolume}
    verdicts = done(named.root, "prune", "--dry-run", "--json").json["verdicts"]
    done(named.root, "delete", second)
    done(named.root, "prune")
    by_hand, pruned = _log(named)
    assert [by_hand["snapshot"], pruned["snapshot"]] == [second, first]
    assert by_hand["reason"] == "requested"
    assert by_hand["command"].endswith(f"delete --root {named.root} {second}")
    assert pruned["reason"] == verdicts[0]["reason"].replace("3rd newest", "2nd newest")
    assert (pruned["snapshot_id"], pruned["snapshot_uuid"]) == (numbers[first], uuids[first])
    assert [e["snapshot"] for e in _log(named, first)] == [first]
    assert [e["snapshot"] for e in _log(named, str(numbers[first]))] == [first]
    assert _log(named, third) == []
    assert _log(named, "latest") == []
    assert fs_rollback(named.root, "log", "yum_19").code == 2
    _, table, said = done(named.root, "log")
    assert "no systemd journal was found: this shows only deletions" in said
    assert pruned["reason"] in table
    assert first in table
    assert list(listed(named)) == [third]


def test_a_later_snapshot_of_the_same_name_hides_nothing(named: Machine) -> None:
    """As when the clock was set back, or it was all done within a second."""
    name = named.take()
    uuid = listed(named)[name]["uuid"]
    done(named.root, "delete", name)
    btrfsutil.create_snapshot(str(named.root), str(store_of(named) / name), read_only=True)
    (event,) = _log(named, name)
    assert event["snapshot_uuid"] == uuid
    done(named.root, "delete", name)
    assert len(_log(named, name)) == 2


def test_what_the_journal_tells(named: Machine, told: Journal) -> None:
    name = named.upgrade()
    done(named.root, "pin", name)
    other = named.take("other")
    done(named.root, "delete", other)
    old = done(named.root, "rollback", name, "--yes", "--json").json["replaced"]
    with told.of_machine(named.root):
        events = _log(named)
        assert [e["event"] for e in events if e["snapshot"] == name and "menu" not in e["event"]
                ] == ["taken", "pinned", "rolled-back"]  # fmt: skip
        assert [e["event"] for e in _log(named, other) if "menu" not in e["event"]] == [
            "taken", "deleted"]  # fmt: skip
        assert [e["event"] for e in _log(named, old)] == ["rolled-back"]
        times = [e["time"] for e in events]
        assert times == sorted(times)
        assert "dnf upgrade" in done(named.root, "log").out
        (store_of(named) / trace.LOG).unlink()
        assert _log(named) == events, "the journal knows it as well"


def test_a_journal_that_cannot_be_read(named: Machine, tmp_path: Path) -> None:
    name = named.take()
    done(named.root, "delete", name)
    (named.root / "var/log/journal").mkdir()
    (tmp_path / "journalctl").write_text("#!/bin/sh\necho 'no such thing' >&2\nexit 7\n")
    (tmp_path / "journalctl").chmod(0o755)
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ended = fs_rollback(named.root, "log", env=path)
    assert ended.code == 1
    assert "cannot read the systemd journal: journalctl failed: no such thing" in ended.err
    assert name in ended.out, "what the store has is shown"
    ended = fs_rollback(named.root, "log", "--json", env=path)
    assert (ended.code, len(ended.json["problems"]), len(ended.json["events"])) == (1, 1, 1)
    ended = fs_rollback(named.root, "log", env={"PATH": "/nonexistent"})
    assert (ended.code, "cannot start journalctl" in ended.err) == (1, True)


def test_the_store_keeps_the_newest_and_not_more(named: Machine) -> None:
    name = named.take()
    file = store_of(named) / trace.LOG
    sizes = []
    with named.writing() as (opened, found):
        opened.asked_by = ("admin", "dnf upgrade")
        for number in range(0, 1200, 3):
            deletions = [
                Event("deleted", f"yum_{number + n:014}", 300, reason="\u00e9\n" * 200)
                for n in range(3)
            ]
            assert trace.keep(found.host, found.directory, deletions)
            sizes.append(file.stat().st_size)
            assert [e.snapshot for e in found.deletions()[-3:]] == [d.snapshot for d in deletions]
        assert max(sizes) <= 64 << 10
        assert min(sizes[-200:]) > 20 << 10, "it goes far back all the same"
        assert trace.keep(
            found.host, found.directory, [Event("deleted", f"yum_{n:014}") for n in range(5000)]
        )
        assert len(found.deletions()) > 100
        assert file.stat().st_size <= 64 << 10
        assert found.deletions()[-1].snapshot == "yum_00000000004999"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(listed(named)) == [name], "it is no snapshot"


def test_what_is_in_the_way_of_the_log_keeps_nothing_from_being_deleted(named: Machine) -> None:
    file = store_of(named) if named.take() else Path()
    for make in (
        lambda path: path.mkdir(),
        lambda path: path.symlink_to("/etc/passwd"),
        os.mkfifo,
        lambda path: btrfsutil.create_subvolume(str(path)),
    ):
        name = named.take()
        make(file / trace.LOG)
        done(named.root, "delete", name)
        assert name not in listed(named)
        run("rm", "-rf", "--one-file-system", str(file / trace.LOG))
    (file / trace.LOG).write_bytes(b"\xff\xfe\0" * 100)
    name = named.take()
    done(named.root, "delete", name)
    assert [e["snapshot"] for e in _log(named)] == [name]


def test_a_full_disk_still_makes_room(named: Machine) -> None:
    named.write(named.root, "etc/fs-rollback.conf", _KEEP_ONE)
    names = [named.take(word) for word in "abc"]
    with named.writing() as (_, found):  # no room in the block that is there
        trace.keep(
            found.host,
            found.directory,
            [Event("deleted", "yum_1", reason="x" * 400) for _ in range(70)],
        )
    _fill(named)
    done(named.root, "delete", names[0])
    done(named.root, "prune")
    assert list(listed(named)) == [names[2]]


def test_a_kill_between_any_two_steps(named: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each snapshot that is gone has its line, and what is there none that is shown."""
    for point in range(40):
        names = [named.take(word) for word in "ab"]
        killed = in_child(lambda at=point: _killed_at(named, at, monkeypatch)) == 9  # type: ignore[misc]
        lines = {line["snapshot"]: line["reason"] for line in _lines_if_any(named)}
        there = {name.partition(".")[0] for name in os.listdir(store_of(named))}
        gone = set(names) - there
        assert gone <= lines.keys(), f"point {point}: nothing says why"
        with named.unsettled() as (_, found):
            shown, present = found.deletions(), found.subvolumes()
            # By UUID: what an earlier round has deleted may have had the same names.
            assert {s.uuid for s in present.values()}.isdisjoint(e.snapshot_uuid for e in shown)
            assert {event.snapshot for event in shown}.isdisjoint(there - present.keys())
        _delete_all(named)
        if not killed:
            assert point > 3
            assert gone == set(names)
            return
    pytest.fail("it never came to an end")


def _delete_all(machine: Machine) -> None:
    from fs_rollback.system.snapshots import take_and_delete

    with machine.writing() as (opened, found):
        for snapshot in found.load():
            take_and_delete.delete(opened, found, snapshot, roots_in_use.read(opened))
        opened.forget()
        assert found.load() == []


def _lines_if_any(machine: Machine) -> list[dict[str, Any]]:
    return _lines(machine) if (store_of(machine) / trace.LOG).exists() else []


def _killed_at(machine: Machine, point: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prune all there is, killed before the `point`-th call that changes something."""
    from fs_rollback.core.snapshots.retention import Action, Verdict
    from fs_rollback.system.snapshots import take_and_delete

    left = [point]

    def counted(real: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return real(*arguments, **named)

        return call

    with host.opened(str(machine.root)) as opened, store.opened(opened) as found:
        assert found is not None
        with found.locked():
            snapshots = [s for s in found.load() if s.exists]
            verdicts = [Verdict(s, Action.DELETE, "because") for s in snapshots]
            for module, name in ((os, "write"), (os, "rename"), (os, "unlink"), (os, "open"),
                                 (btrfs, "delete_subvolume"), (durable, "remove")):  # fmt: skip
                monkeypatch.setattr(module, name, counted(getattr(module, name)))
            take_and_delete.prune(opened, found, verdicts)


def test_every_image_has_whole_lines(named: Machine, tmp_path: Path) -> None:
    """A power cut at any time leaves the lines of before, and the new ones or not."""
    named.take()
    camera = Camera((named.image,), tmp_path)
    told = 0
    with named.writing() as (_, found):
        for number in range(12):
            trace.keep(
                found.host,
                found.directory,
                [Event("deleted", f"yum_{number:014}", reason="y" * 450)],
            )
            camera(f"{number} noted")
            if number % 3 == 2:
                run("btrfs", "filesystem", "sync", str(named.top))
                told = number + 1
                camera(f"{number} synced")
    assert told == 12
    least = 0
    for label, (image,) in list(camera.images):
        named.adopt(image)
        index, _, what = label.partition(" ")
        file = store_of(named) / trace.LOG
        lines = [json.loads(line) for line in file.read_text().splitlines() if line] if (
            file.exists()) else []  # fmt: skip
        names = [line["snapshot"] for line in lines]
        assert names == [f"yum_{n:014}" for n in range(len(names))], "whole, and in order"
        least = int(index) + 1 if what == "synced" else least
        assert least <= len(names) <= int(index) + 1


def test_a_disk_with_no_room_for_the_line(named: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    name = named.take()
    write = os.write

    def full_once(descriptor: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{descriptor}").endswith(trace.LOG):
            monkeypatch.setattr(os, "write", write)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data)

    from fs_rollback.system.snapshots import take_and_delete

    with named.writing() as (opened, found):
        monkeypatch.setattr(os, "write", full_once)
        (snapshot,) = found.load()
        take_and_delete.delete(opened, found, snapshot, roots_in_use.read(opened))
    assert [line["snapshot"] for line in _lines(named)] == [name], "there is room afterwards"
