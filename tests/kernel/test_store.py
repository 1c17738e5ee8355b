# SPDX-License-Identifier: GPL-2.0-or-later
"""The store: what is broken in it, who uses it at once, and what kills and hands leave in it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable

import btrfsutil
import pytest

from fs_rollback.core.snapshots.names import trial_name
from fs_rollback.errors import LockedError
from fs_rollback.system.linux import btrfs, durable
from fs_rollback.system.machine import host
from fs_rollback.system.store import store
from fs_rollback.system.store.trace import LOG
from tests.kernel.commands import done, fs_rollback, start
from tests.kernel.faults import in_child
from tests.kernel.machine import Machine

PRUNES_ALL = "keep_last = 1\nkeep_days = 0\nkeep_replaced_days = 0\n"


def store_of(machine: Machine) -> Path:
    return machine.top / "fs-snapshots"


def saved_lists(machine: Machine) -> set[str]:
    """Return the names of the lists of saved boot files, without their suffix."""
    place = store_of(machine) / "boot"
    return {path.stem for path in place.glob("*.json")}


def read_record(machine: Machine, name: str) -> dict[str, Any]:
    data = json.loads((store_of(machine) / f"{name}.json").read_text())
    assert isinstance(data, dict)
    return data


def edit_record(machine: Machine, of: str, **values: object) -> None:
    """Change a record as somebody with an editor does."""
    path = store_of(machine) / f"{of}.json"
    path.write_text(json.dumps({**read_record(machine, of), **values}, indent=4))


def listed(machine: Machine) -> dict[str, dict[str, Any]]:
    rows = done(machine.root, "list", "--json").json["snapshots"]
    return {row["name"]: row for row in rows}


def _damage(machine: Machine, name: str, other: str, how: str) -> None:
    path = store_of(machine) / f"{name}.json"
    texts = {
        "not JSON": b'{"version": 1, "na',
        "empty": b"",
        "not an object": b"[]",
        "no keys": b"{}",
        "not UTF-8": b"\xff\xfe{}",
        "deep": b"[" * 100_000,
        "huge number": b'{"version": 1e999}',
    }
    if how in texts:
        path.write_bytes(texts[how])
    elif how == "wrong name":
        edit_record(machine, name, name="yum_20100101000000")
    elif how == "of another subvolume":
        edit_record(machine, name, uuid=read_record(machine, other)["uuid"])
    elif how == "wrong type":
        edit_record(machine, name, pinned="yes")
    else:
        path.unlink()
    if how == "a directory":
        path.mkdir()
    elif how == "a fifo":
        os.mkfifo(path)
    elif how == "a link":
        path.symlink_to("/etc/hostname")


DAMAGES = (
    "none", "not JSON", "empty", "not an object", "no keys", "not UTF-8", "deep", "huge number",
    "wrong name", "of another subvolume", "wrong type", "a directory", "a fifo", "a link",
)  # fmt: skip


def test_incomplete_snapshots_are_said_to_be_so_and_never_pruned(named: Machine) -> None:
    damaged = {named.take(how): how for how in DAMAGES}
    other = named.take("whole")
    named.take("the newest")
    for name, how in damaged.items():
        _damage(named, name, other, how)
    named.write(named.root, "etc/fs-rollback.conf", PRUNES_ALL)
    assert done(named.root, "prune").err == "fs-rollback: deleted 1 of 16 snapshots\n"
    rows = listed(named)
    attention = fs_rollback(named.root, "status", "--json").json["attention"]
    for name, how in damaged.items():
        assert ("incomplete" in rows[name]["marks"], bool(rows[name]["problem"])) == (True, True), (
            how
        )
        assert any(line.startswith(f"{named.label(name)} is incomplete") for line in attention)
        assert (store_of(named) / name / "usr/bin/app").exists()
    for how in ("none", "empty", "of another subvolume"):
        name = next(n for n in damaged if damaged[n] == how)
        assert fs_rollback(named.root, "pin", name).code == 1
    done(named.root, "delete", *damaged)
    left = {entry for entry in os.listdir(store_of(named)) if any(n in entry for n in damaged)}
    directory = next(name for name in damaged if damaged[name] == "a directory")
    assert all(directory in entry for entry in left), "a record is a file: what else is there stays"
    done(named.root, "create")


@pytest.mark.parametrize("how", ["none", "not JSON", "of another subvolume", "a directory"])
def test_one_can_go_back_to_an_incomplete_snapshot(named: Machine, how: str) -> None:
    name = named.upgrade()
    _damage(named, name, named.upgrade(3), how)
    uuid = named.uuid_of(store_of(named) / name)
    done(named.root, "rollback", name, "--yes")
    assert btrfsutil.subvolume_info(str(named.next_root())).parent_uuid == uuid
    named.reboot()
    assert named.read("usr/bin/app") == "version 1\n"


def test_keys_that_a_newer_program_added_survive(named: Machine) -> None:
    name = named.upgrade()
    data = read_record(named, name)
    data["colour"] = {"deep": ["blue", 1, None]}
    data["source"]["device"] = "sda"
    data["transaction"]["comment"] = "\u00fc\n"
    data["transaction"]["packages"][0]["vendor"] = "someone"
    (store_of(named) / f"{name}.json").write_text(json.dumps(data))
    done(named.root, "pin", name)
    assert read_record(named, name) == {**data, "pinned": True}
    done(named.root, "unpin", name)
    assert read_record(named, name) == data


@pytest.mark.parametrize("outcome", ["done", "pending"])
def test_a_record_of_a_newer_version_is_read_and_left_alone(named: Machine, outcome: str) -> None:
    name = named.upgrade()
    named.take("the newest")
    data = read_record(named, name)
    data["transaction"]["outcome"] = outcome
    edit_record(named, name, version=2, transaction=data["transaction"], new_in_2=[1])
    before = (store_of(named) / f"{name}.json").read_bytes()
    named.write(named.root, "etc/fs-rollback.conf", PRUNES_ALL)
    assert listed(named)[name]["problem"] is None
    assert "dnf upgrade" in done(named.root, "show", name).out
    for words, code in ((("pin", name), 1), (("unpin", name), 1), (("delete", name), 3)):
        ended = fs_rollback(named.root, *words)
        assert ended.code == code
        assert "version" in ended.sentence
    done(named.root, "prune")
    done(named.root, "rollback", name, "--yes")
    named.reboot()
    assert named.read("usr/bin/app") == "version 1\n"
    named.upgrade(2)
    assert (store_of(named) / f"{name}.json").read_bytes() == before


def test_eight_processes_at_once_lose_nothing(named: Machine) -> None:
    def five(number: int) -> dict[str, str]:
        texts = [f"process {number}, round {turn}" for turn in range(5)]
        return {done(named.root, "create", "-m", t).out.strip()[14:]: t for t in texts}

    with ThreadPoolExecutor(8) as pool:
        made = [item for names in pool.map(five, range(8)) for item in names.items()]
    assert len(dict(made)) == 40, "a name was used twice"
    newest = sorted(
        dict(made), key=lambda name: btrfsutil.subvolume_id(str(store_of(named) / name))
    )
    menu = {trial_name(name) for name in newest[-2:]}
    entries = set(os.listdir(store_of(named)))
    assert entries == {n for n, _ in made} | {f"{n}.json" for n, _ in made} | menu
    for name, text in made:
        data = read_record(named, name)
        info = btrfsutil.subvolume_info(str(store_of(named) / name))
        assert (data["name"], data["description"]) == (name, text)
        assert (data["uuid"], info.flags & 1) == (info.uuid.hex(), 1)


@contextmanager
def _held(directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Hold the store's lock in another program until it is killed."""
    command = ("flock", str(directory), "--command", "echo; exec sleep 60")
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        os.killpg(process.pid, 9)


def test_who_holds_the_lock_is_named_and_waited_for(named: Machine) -> None:
    named.take()
    with _held(store_of(named)) as holder:
        with host.opened(str(named.root)) as machine, store.opened(machine) as found:
            assert found is not None
            with pytest.raises(LockedError) as caught, found.locked(wait_s=0.2):
                pass
        assert f"process {holder.pid} (flock)" in caught.value.message
        assert len(listed(named)) == 1, "looking needs no lock"
        waiting = start(named.root, "create")
        assert waiting.stderr is not None
        assert f"for process {holder.pid} (flock)" in waiting.stderr.readline()
        assert waiting.poll() is None
    waiting.communicate(timeout=60)
    assert waiting.returncode == 0
    assert len(listed(named)) == 2


def test_the_store_is_out_of_reach_of_everyone_but_root(named: Machine) -> None:
    done(named.root, "create")
    status = store_of(named).stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o700, 0, 0)
    for mode, owner in ((0o755, 0), (0o4711, 0), (0o700, 1000)):
        os.chown(store_of(named), owner, owner)
        os.chmod(store_of(named), mode)
        done(named.root, "create")
        status = store_of(named).stat()
        assert (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o700, 0, 0)


@pytest.mark.parametrize("kind", ["file", "link to a directory", "dangling link"])
def test_something_else_where_the_store_should_be(named: Machine, kind: str) -> None:
    elsewhere = named.image.parent / "elsewhere"
    if kind == "file":
        store_of(named).write_text("mine")
    else:
        store_of(named).symlink_to(elsewhere)
    if kind == "link to a directory":
        elsewhere.mkdir()
    subvolumes = named.subvolume_paths()
    for command in ("create", "list", "status", "prune", "rollback"):
        ended = fs_rollback(named.root, command)
        assert ended.code == 1, ended
        assert ended.sentence == "/fs-snapshots at the top level is not a directory"
    assert named.subvolume_paths() == subvolumes
    assert kind == "dangling link" or store_of(named).exists()
    assert not elsewhere.exists() or not list(elsewhere.iterdir())


def _killed_in(machine: Machine, name: str, point: int, *, before: bool) -> bool:
    """Delete a snapshot in a process that dies at its `point`-th change; False if there is none."""
    count = 0

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            nonlocal count
            count += 1
            if count - 1 == point and before:
                os.kill(os.getpid(), 9)
            mine = count - 1 == point
            try:
                return real(*arguments, **options)
            finally:
                if mine:
                    os.kill(os.getpid(), 9)

        return call

    def work() -> None:
        with machine.writing() as (_, found):
            snapshot = next(s for s in found.load() if s.name == name)
            os.rename = dying(os.rename)
            os.unlink = dying(os.unlink)
            btrfs.delete_subvolume = dying(btrfs.delete_subvolume)
            durable.remove_durably = dying(durable.remove_durably)
            found.delete(snapshot)

    return in_child(work) == 9


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("record", ["good", "broken", "none"])
def test_a_deletion_survives_a_kill_at_every_point(
    named: Machine, record: str, *, before: bool
) -> None:
    other = named.upgrade()
    for point in range(10):
        name = named.take("doomed")
        path = store_of(named) / f"{name}.json"
        if record != "good":
            path.write_text("x")
        if record == "none":
            path.unlink()
        killed = _killed_in(named, name, point, before=before)
        started = not (store_of(named) / name).exists() or (record != "none" and not path.exists())
        row = listed(named).get(name)
        whole = row is not None and not {"incomplete", "gone"} & set(row["marks"])
        assert not (whole and started), "a half deleted snapshot is listed as whole"
        done(named.root, "pin", other)
        if started:
            assert not [e for e in os.listdir(store_of(named)) if name in e], f"point {point}"
        else:
            done(named.root, "delete", name)
        kept = {other, f"{other}.json", trial_name(other)}
        assert set(os.listdir(store_of(named))) - {LOG} == kept
        if not killed:
            assert point >= 3
            return
    pytest.fail("it never came to an end")


def test_a_snapshot_deleted_by_hand(named: Machine) -> None:
    first = named.upgrade()
    gone = named.upgrade(3)
    subprocess.run(("btrfs", "-q", "subvolume", "delete", store_of(named) / gone), check=True)
    assert listed(named)[gone]["marks"] == ["gone"]
    assert listed(named)[gone]["id"] is None
    assert done(named.root, "show", "latest", "--json").json["snapshot"]["name"] == first
    assert "gone" in done(named.root, "show", gone).out
    ended = fs_rollback(named.root, "rollback", gone, "--yes")
    assert (ended.code, ended.sentence) == (3, f"the subvolume of {gone} no longer exists")
    assert done(named.root, "rollback", "--dry-run", "--json").json["target"] == first
    done(named.root, "prune")
    assert list(listed(named)) == [first]


def test_a_record_edited_by_hand_counts(named: Machine) -> None:
    name = named.take("before")
    edit_record(named, name, description="after", pinned=True)
    assert "after" in done(named.root, "list").out
    assert fs_rollback(named.root, "delete", name).code == 3
    edit_record(named, name, pinned=False)
    done(named.root, "delete", name)


def test_leftovers_are_removed_and_strangers_are_not(named: Machine) -> None:
    name = named.take()
    for ours in ("yum_20260101000000.json", "pending.json", LOG):
        (store_of(named) / f"{ours}.fs-rollback.new").write_text("{")
    (store_of(named) / "README").write_text("mine")
    (store_of(named) / "notes.new").mkdir()
    btrfsutil.create_subvolume(str(store_of(named) / "mine"))
    done(named.root, "pin", name)
    expected = {name, f"{name}.json", "README", "notes.new", "mine"}
    assert set(os.listdir(store_of(named))) == expected


def test_two_thousand_snapshots(named: Machine) -> None:
    done(named.root, "create", "-m", "the first")
    first = next(iter(listed(named)))
    (store_of(named) / f"{first}.json").rename(store_of(named).parent / "model.json")
    btrfsutil.delete_subvolume(str(store_of(named) / first))
    model = json.loads((named.top / "model.json").read_text())
    now = datetime.now(timezone.utc).replace(microsecond=0)
    ages = [timedelta(hours=n) for n in range(2000, 0, -1)]
    names = [(now - age).strftime("yum_%Y%m%d%H%M%S") for age in ages]
    for name, age in zip(names, ages):
        path = store_of(named) / name
        btrfsutil.create_snapshot(str(named.root), str(path), read_only=True)
        created = (now - age).strftime("%Y-%m-%dT%H:%M:%SZ")
        uuid = btrfsutil.subvolume_info(str(path)).uuid.hex()
        record = {**model, "name": name, "uuid": uuid, "created": created, "description": name}
        path.with_suffix(".json").write_text(json.dumps(record))
    begin = time.monotonic()
    assert list(listed(named)) == names
    assert done(named.root, "show", "latest", "--json").json["snapshot"]["name"] == names[-1]
    table = done(named.root, "list").out.splitlines()
    verdicts = done(named.root, "prune", "--dry-run", "--json").json["verdicts"]
    assert time.monotonic() - begin < 30
    assert len(table) == 2002
    assert all(name in line for name, line in zip(names, table[2:])), "in a pipe nothing is cut"
    kept = [row["name"] for row in verdicts if row["verdict"] == "keep"]
    assert kept == [n for n, age in zip(names, ages) if age < timedelta(days=30)]
