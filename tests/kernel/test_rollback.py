# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that change what boots next, as a user types them: plan, question, signals, undo."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.snapshots.names import trial_name
from fs_rollback.system.store.trace import LOG
from tests.kernel.commands import done, fs_rollback, on_terminal, start
from tests.kernel.faults import Fault, faulty, in_child, state
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import listed, read_record, saved_lists, store_of

PATHS_OF_USERS = ("root/.profile", "var/log/messages", "var/lib/machines/guest")


def _replaced(machine: Machine) -> list[str]:
    return [row["name"] for row in listed(machine).values() if row["kind"] == "replaced"]


def _parent(path: Path) -> bytes:
    return bytes(btrfsutil.subvolume_info(str(path)).parent_uuid)


def test_a_dry_run_shows_the_plan_and_changes_nothing(machine: Machine) -> None:
    name = machine.upgrade()
    machine.use(1)
    before = state(machine)
    plan = done(machine.root, "rollback", "--dry-run", "--json").json
    text = done(machine.root, "rollback", "--dry-run").out
    assert state(machine) == before
    assert (plan["version"], plan["target"], plan["done"]) == (1, name, False)
    for number, step in enumerate(plan["steps"], start=1):
        assert step["step"]
        # Names have the second of their planning in them.
        assert f"{number:2}. {step['sentence'].split('_')[0]}" in text
    commits = [s for s in plan["steps"] if s["step"] in ("Exchange", "SetDefault")]
    assert commits
    assert set(plan["reverts"]["kept"]) >= {"/root", "/var/log"}
    assert plan["reverts"]["carried"] == ["/var/lib/machines", "/var/lib/machines/inner"]
    assert {"/etc/app.conf", "/var/data"} <= set(plan["reverts"]["files"])
    assert not {"/root/.profile", "/var/log/messages"} & set(plan["reverts"]["files"])
    assert "/etc/app.conf" in text


def test_a_dry_run_leaves_what_a_kill_left(named: Machine) -> None:
    name = named.upgrade()
    assert in_child(lambda: named.roll_back(name, faulty(3, Fault.KILL_AFTER))) == 9
    before = state(named)
    fs_rollback(named.root, "rollback", "--dry-run")
    fs_rollback(named.root, "undo", "--dry-run")
    assert state(named) == before


def test_rollback_goes_to_the_newest_pre_snapshot(machine: Machine) -> None:
    machine.upgrade(2)
    newest = machine.upgrade(3)
    machine.take("later, but by hand")
    machine.use(1)
    old = btrfsutil.subvolume_id(str(machine.root))
    ended = done(machine.root, "rollback", "--yes")
    assert "Rolled back" in ended.out
    assert newest in ended.out
    assert "reboot" in ended.out
    assert _parent(machine.next_root()) == machine.uuid_of(store_of(machine) / newest)
    assert btrfsutil.subvolume_id(str(machine.root)) == old, "the running root is untouched"
    assert machine.read("usr/bin/app") == "version 3\n"
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 2\n"
    for path in PATHS_OF_USERS:
        assert machine.read(path) == "user's 1\n"


def test_undo_before_the_reboot(machine: Machine) -> None:
    name = machine.upgrade()
    machine.use(1)
    before = state(machine)
    answer = done(machine.root, "rollback", "--yes", "--json").json
    assert (answer["done"], answer["target"], answer["next_step"]) == (True, name, "reboot")
    assert answer["replaced"] in listed(machine)
    waiting = state(machine)
    done(machine.root, "undo", "--dry-run")
    assert state(machine) == waiting
    taken_back = done(machine.root, "undo", "--yes", "--json").json
    assert (taken_back["done"], taken_back["taken_back"]) == (True, True)
    assert state(machine) == before
    ended = fs_rollback(machine.root, "undo", "--yes")
    assert (ended.code, ended.sentence) == (3, "there is no rollback to undo")
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 2\n"


def test_a_snapshot_before_the_reboot_is_said_to_be_of_the_old_root(machine: Machine) -> None:
    target = machine.upgrade()
    replaced = done(machine.root, "rollback", "--yes", "--json").json["replaced"]
    ended = done(machine.root, "create")
    label = f"{listed(machine)[target]['id']} ({target})"
    said = "this is a snapshot of the root that is about to be replaced: the rollback to "
    assert ended.sentence.startswith(f"{said}{label} is waiting for a reboot; 'fs-rollback undo")
    taken = ended.out.strip().rpartition("/")[2]
    for _ in range(2):
        assert list(listed(machine)) == [target, replaced, taken]
        assert "does not fit" not in done(machine.root, "prune", "--dry-run").out
        machine.reboot()
    assert done(machine.root, "create").err == ""


def test_undo_after_the_reboot_and_undo_of_that(machine: Machine) -> None:
    machine.upgrade()
    machine.use(1)
    done(machine.root, "rollback", "--yes")
    machine.reboot()
    machine.use(2)
    done(machine.root, "undo", "--yes", "--to-replaced")
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 2\n"
    assert machine.read("var/data") == "2\n"
    for path in PATHS_OF_USERS:
        assert machine.read(path) == "user's 2\n", "what was written since comes along"
    done(machine.root, "undo", "--yes", "--to-replaced")
    machine.reboot()
    assert machine.read("usr/bin/app") == "version 1\n"
    assert machine.read("etc/app.conf") == "setting 1\n"
    assert len(_replaced(machine)) == 3


def test_many_rollbacks_to_one_snapshot_then_every_old_root_is_deleted(machine: Machine) -> None:
    count = 10 if machine.layout == "named" else 3
    name = machine.upgrade()
    snapshot = machine.uuid_of(store_of(machine) / name)
    for number in range(count):
        (machine.root / "usr/bin/app").write_text("bad")
        machine.use(number)
        done(machine.root, "rollback", name, "--yes")
        machine.reboot()
        assert _parent(machine.root) == snapshot
        assert machine.read("usr/bin/app") == "version 1\n"
        assert machine.read("root/.profile") == f"user's {number}\n"
    replaced = _replaced(machine)
    assert len(replaced) == count
    run("umount", str(machine.top))
    done(machine.root, "delete", *replaced)
    run("mount", "-o", "loop,subvolid=5", str(machine.image), str(machine.top))
    assert list(listed(machine)) == [name]
    left = {n for n in os.listdir(store_of(machine)) if not n.startswith("root_")}
    assert left - {"boot", LOG} == {name, f"{name}.json", trial_name(name)}
    assert saved_lists(machine) <= {read_record(machine, name)["boot_files"]}
    machine.reboot()
    assert machine.read("var/lib/machines/inner/file") == "inner 1\n"
    roots = {p for p in machine.subvolume_paths() if "/" not in p}
    assert len(roots) == {"top-level": 0}.get(machine.layout, 2), roots


@pytest.mark.parametrize(
    ("typed", "code", "said"),
    [
        ("n\n", 1, "Nothing was changed"),
        ("\n", 1, "Nothing was changed"),
        ("yellow\n", 1, "Nothing was changed"),
        ("\x04", 1, "Nothing was changed"),
        ("\x03", 130, "the machine is as before"),
    ],
)
def test_no_is_no(named: Machine, typed: str, code: int, said: str) -> None:
    named.upgrade()
    before = state(named)
    terminal = on_terminal(named.root, "rollback")
    terminal.read_until(r"\[y/N\] $")
    terminal.type(typed)
    assert (terminal.end(), said in terminal.text) == (code, True), terminal.text
    assert state(named) == before


@pytest.mark.parametrize("typed", ["y\n", "YES\n"])
def test_yes_is_yes(named: Machine, typed: str) -> None:
    name = named.upgrade()
    before = state(named)
    for command, said in (("rollback", "Rolled back"), ("undo", "Rollback canceled")):
        terminal = on_terminal(named.root, command)
        terminal.read_until(r"\[y/N\] $")
        terminal.type(typed)
        assert (terminal.end(), said in terminal.text) == (0, True), terminal.text
        assert (state(named) == before) == (command == "undo")
    assert name in listed(named)


def test_without_a_terminal_nobody_answers(named: Machine) -> None:
    named.upgrade()
    before = state(named)
    for words in (("rollback",), ("rollback", "--json")):
        ended = fs_rollback(named.root, *words)
        assert (ended.code, ended.sentence) == (2, "no terminal to ask on")
    assert state(named) == before
    done(named.root, "rollback", "--yes")
    before = state(named)
    assert fs_rollback(named.root, "undo").code == 2
    assert state(named) == before


def _slow(machine: Machine) -> None:
    """Give the machine much to copy, so that there is a middle to interrupt."""
    many = machine.root / "root/many"
    many.mkdir()
    for number in range(10_000):
        (many / str(number)).write_bytes(b"x")
    os.sync()


def _wait_for_the_copy(machine: Machine) -> None:
    deadline = time.monotonic() + 60
    before = os.getpriority(os.PRIO_PROCESS, 0)
    os.setpriority(os.PRIO_PROCESS, 0, -15)  # the copy waits for nobody on a busy machine
    try:
        while not any(machine.top.glob("fs-snapshots/root_*/root/many/*")):
            assert time.monotonic() < deadline
            time.sleep(0.005)
    finally:
        os.setpriority(os.PRIO_PROCESS, 0, before)


def _started_with_sighup(machine: Machine, handler: signal.Handlers) -> subprocess.Popen[str]:
    """Start a rollback that inherits what becomes of SIGHUP: the tests may run under nohup(1)."""
    before = signal.signal(signal.SIGHUP, handler)
    try:
        return start(machine.root, "rollback", "--yes")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_in_the_middle_take_everything_back(named: Machine) -> None:
    named.upgrade()
    _slow(named)
    before = state(named)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        process = _started_with_sighup(named, signal.SIG_DFL)
        _wait_for_the_copy(named)
        process.send_signal(number)
        err = process.communicate(timeout=60)[1]
        assert (process.returncode, "as before" in err) == (130, True), err
        assert state(named) == before
    terminal = on_terminal(named.root, "rollback", "--yes")
    _wait_for_the_copy(named)
    terminal.type("\x03")
    assert terminal.end() == 130
    assert state(named) == before
    done(named.root, "rollback", "--yes")


@pytest.mark.parametrize("options", [("--yes",), ("--yes", "--json")])
def test_a_reader_that_goes_away_does_not_change_what_is_done(
    named: Machine, options: tuple[str, ...]
) -> None:
    """The exit code is the state of the machine: a lost answer is no failed rollback."""
    for number in range(100):  # longer than what Python buffers
        btrfsutil.create_subvolume(str(named.root / f"var/nested-{number}"))
    name = named.upgrade()
    process = start(named.root, "rollback", *options)
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    err = process.communicate(timeout=60)[1]
    rolled_back = _parent(named.next_root()) == named.uuid_of(store_of(named) / name)
    assert rolled_back == (process.returncode == 0)
    assert err == ""


def test_nohup_is_respected(named: Machine) -> None:
    _slow(named)
    named.upgrade()
    process = _started_with_sighup(named, signal.SIG_IGN)
    _wait_for_the_copy(named)
    process.send_signal(signal.SIGHUP)
    assert "Rolled back" in process.communicate(timeout=60)[0]
    assert process.returncode == 0


def test_keep_and_no_keep(named: Machine) -> None:
    name = named.upgrade()
    named.use(1)
    (named.root / "etc/fstab").write_text(
        "\n".join(x for x in named.read("etc/fstab").splitlines() if "/home" not in x) + "\n"
    )
    done(
        named.root, "rollback", "--yes", "--no-keep", "--keep", "/home/user", "--keep", "//var/data"
    )
    named.reboot()
    assert named.read("home/user/letter") == "user's 1\n"
    assert named.read("var/data") == "2\n"
    assert named.read("root/.profile") == "root's file 1\n"
    assert named.read("var/log/messages") == "line 1\n"
    named.write(named.root, "etc/fs-rollback.conf", "keep = /var/log /nothing\n")
    named.use(2)
    done(named.root, "rollback", name, "--yes")
    named.reboot()
    assert named.read("var/log/messages") == "user's 2\n"
    assert named.read("home/user/letter") == "letter 1\n"
    for path in ("home", "../etc", ""):
        assert fs_rollback(named.root, "rollback", "--keep", path, "--dry-run").code == 2
