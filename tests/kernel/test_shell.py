# SPDX-License-Identifier: GPL-2.0-or-later
"""`shell`: what runs in a copy of a snapshot, what it reaches, and what is left of it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from fs_rollback.system.access import throw_away
from fs_rollback.system.access.inside import MARKS
from fs_rollback.system.linux import durable
from tests.kernel.commands import (
    Done,
    arguments,
    done,
    environment,
    fs_rollback,
    on_terminal,
    start,
)
from tests.kernel.faults import in_child
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import listed

_TOOLS = (
    "sh", "cat", "ls", "mount", "mkdir", "mknod", "btrfs", "chattr", "sleep", "touch",
    "readlink", "rm",
)  # fmt: skip


@pytest.fixture(name="system")
def _system(named: Machine) -> Machine:
    """Return a machine that has a few programs of the one that runs, with their libraries."""
    for tool in _TOOLS:
        found = shutil.which(tool, path="/bin:/sbin:/usr/bin:/usr/sbin")
        assert found, tool
        libraries = re.findall(r"/\S+", run("ldd", found))
        for path in (found, *libraries):
            place = named.root / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
    for name in ("proc", "sys", "dev", "run", "tmp"):
        (named.root / name).mkdir()
    return named


def copies(machine: Machine) -> list[str]:
    return [n for n in left(machine) if "." not in n]


def left(machine: Machine) -> list[str]:
    """Return the names of the copies and of all that is written of them."""
    return sorted(n for n in os.listdir(machine.top / "fs-snapshots") if n.startswith("shell_"))


def inside(machine: Machine, name: str, script: str) -> Done:
    return fs_rollback(machine.root, "shell", name, "--", "/bin/sh", "-c", script)


def test_a_command_runs_in_the_old_system_and_nothing_is_left(system: Machine) -> None:
    name = system.take()
    (system.root / "etc/app.conf").write_text("setting 2\n")
    before = list(listed(system))
    ended = inside(system, name, "cat /etc/app.conf; echo 3 >/etc/app.conf; exit 7")
    assert (ended.code, ended.out) == (7, "setting 1\n")
    assert "shares this machine's network, kernel and clock" in ended.err
    assert system.read("etc/app.conf") == "setting 2\n"
    assert (system.top / "fs-snapshots" / name / "etc/app.conf").read_text() == "setting 1\n"
    assert copies(system) == []
    assert list(listed(system)) == before
    assert inside(system, name, "kill -9 $$; sleep 5").code == 137
    assert fs_rollback(system.root, "shell", name, "/no/such").code == 1
    assert left(system) == []


def test_it_reaches_neither_the_store_nor_the_machine(system: Machine) -> None:
    name = system.take()
    script = """
        ls -a / | { while read e; do echo "/$e"; done; }
        touch /proc/sys/kernel/hostname && echo 1 >/proc/sysrq-trigger && echo wrote
        mknod /tmp/disk b 7 0 && echo made
        mount -t tmpfs none /tmp && echo mounted
        btrfs subvolume list / && echo listed
        ls /proc/1/root/fs-snapshots && echo reached
        for fd in /proc/self/fd/*; do echo "fd $(readlink $fd)"; done
        while read a b c root point d; do echo "mount $root $point"; done </proc/self/mountinfo
    """
    ended = inside(system, name, script)
    lines = ended.out.splitlines()
    assert not {"wrote", "made", "mounted", "listed", "reached"} & set(lines), ended
    assert "/fs-snapshots" not in lines
    mounts = [line.split()[1:] for line in lines if line.startswith("mount ")]
    assert mounts[0][0].startswith("/fs-snapshots/shell_")
    assert mounts[0][1] == "/"
    assert all(root == "/" or root in ("/null", "/zero", "/full", "/random", "/urandom", "/tty")
               or point.startswith("/proc/") for root, point, *_ in mounts[1:])  # fmt: skip
    descriptors = [line for line in lines if line.startswith("fd ")]
    assert not any(str(system.image) in line or "fs-snapshots" in line for line in descriptors)


def test_no_open_directory_leads_out_of_it(system: Machine) -> None:
    root = os.open("/", os.O_RDONLY)
    script = f"ls /proc/self/fd/{root}/etc || ls -d /etc"
    words = arguments(system.root, ("shell", system.take(), "--", "/bin/sh", "-c", script))
    ended = subprocess.run(
        words, capture_output=True, text=True, env=environment(), pass_fds=[root], check=True
    )
    os.close(root)
    assert ended.stdout == "/etc\n"


def test_places_of_nested_subvolumes_can_be_written_to(system: Machine) -> None:
    name = system.take()
    assert inside(system, name, "touch /var/lib/machines/x && ls /var/lib/machines").out == "x\n"


def test_the_copy_of_a_killed_one_goes_with_the_next_command(system: Machine) -> None:
    name = system.take()
    process = start(system.root, "shell", name, "--", "/bin/sh", "-c", "echo in; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    (copy,) = copies(system)
    done(system.root, "pin", name)
    assert copies(system) == [copy], "it is in use"
    assert copy not in done(system.root, "list", "--json").out
    assert fs_rollback(system.root, "rollback", copy, "--dry-run").code == 2
    process.send_signal(signal.SIGKILL)
    process.communicate()
    deadline = time.monotonic() + 20
    while _runs("sleep 100") and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _runs("sleep 100"), "what ran in it has ended with it"
    assert copies(system) == [copy]
    done(system.root, "unpin", name)
    assert copies(system) == []


def test_nothing_that_was_done_in_a_copy_keeps_it(system: Machine) -> None:
    name = system.take()
    script = (
        "mkdir /d; btrfs subvolume create /d/x; btrfs subvolume create /d/x/y; chattr +i /d/x /d /;"
        " btrfs property set -f /d/x ro true; btrfs property set -f / ro true"
    )
    ended = inside(system, name, f"{{ {script}; }} >/dev/null 2>&1; ls -d /d/x/y")
    assert ended.out == "/d/x/y\n"
    assert copies(system) == []


def test_a_copy_that_cannot_be_deleted_keeps_no_other(system: Machine) -> None:
    name = system.take()
    with system.writing() as (machine, store):
        snapshot = next(s for s in store.load() if s.name == name)
        made = throw_away.make(machine, store, snapshot, datetime(2026, 1, 1).astimezone())
    copy = system.top / "fs-snapshots" / made
    swap = copy / "swap"
    swap.touch(0o600)
    run("chattr", "+C", str(swap))
    run("fallocate", "--length", str(8 << 20), str(swap))
    run("mkswap", str(swap))
    run("swapon", str(swap))
    try:
        ended = inside(system, name, "true")
    finally:
        run("swapoff", str(swap))
    assert ended.code == 0
    assert copies(system) == [copy.name]
    assert f"cannot delete /fs-snapshots/{copy.name}: Operation not permitted" in ended.err
    done(system.root, "pin", name)
    assert copies(system) == []


def test_what_is_called_like_a_copy_and_is_none_stays(system: Machine) -> None:
    """Somebody's own, made without this program or put where one of its copies was."""
    name = system.take()
    store = system.top / "fs-snapshots"
    names = [f"shell_2026010100000{number}" for number in range(2)]
    run("btrfs", "subvolume", "create", str(store / names[0]))
    run("btrfs", "subvolume", "snapshot", str(store / name), str(store / names[1]))
    (store / f"{names[1]}.json").write_text('{"version": 2, "uuid": ""}')
    with system.writing() as (machine, found):
        snapshot = next(s for s in found.load() if s.name == name)
        made = throw_away.make(machine, found, snapshot, datetime(2026, 1, 1, 1).astimezone())
    run("btrfs", "subvolume", "delete", str(store / made))
    run("btrfs", "subvolume", "snapshot", str(store / name), str(store / made))
    for each in (names[0], names[1], made):
        (store / each / "precious").write_text("x")
    inside(system, name, "true")
    done(system.root, "pin", name)
    assert left(system) == [*names[:2], f"{names[1]}.json", made]
    assert (store / made / "precious").read_text() == "x"


@pytest.mark.parametrize("moment", ["before the record", "before the copy", "before its UUID"])
def test_a_copy_whose_making_was_killed_goes(
    system: Machine, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = system.take()
    write = durable.write_for_next_commit
    calls = ["before the record", "before its UUID"]

    def writing(directory: int, file: str, text: str) -> None:
        if file.startswith("shell_"):
            now = calls.pop(0)
            if now == moment:
                (system.top / "fs-snapshots" / f"{file}{durable.TEMPORARY}").write_text("{")
                os.kill(os.getpid(), signal.SIGKILL)
            write(directory, file, text)
            if now == "before the record" and moment == "before the copy":
                os.kill(os.getpid(), signal.SIGKILL)

    def work() -> None:
        monkeypatch.setattr(durable, "write_for_next_commit", writing)
        with system.writing() as (machine, found):
            snapshot = next(s for s in found.load() if s.name == name)
            throw_away.make(machine, found, snapshot, datetime.now().astimezone())

    assert in_child(work) == signal.SIGKILL
    assert len(left(system)) == {"before its UUID": 3}.get(moment, 1)
    done(system.root, "pin", name)
    assert left(system) == []


def _runs(command: str) -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().replace(b"\0", b" ").decode().strip() == command:
                return True
        except OSError:  # it has ended
            continue
    return False


def test_ctrl_c_is_for_what_runs_there(system: Machine) -> None:
    name = system.take()
    terminal = on_terminal(system.root, "shell", name)
    terminal.read_until(r"# ")
    terminal.type("echo in; sleep 100\n")
    terminal.read_until("\nin\n")
    terminal.type("\x03")
    terminal.type("echo still here; exit 5\n")
    assert terminal.end() == 5
    assert "\nstill here\n" in terminal.text
    assert copies(system) == []


def test_without_a_copy_none_is_spoken_of(system: Machine) -> None:
    name = system.take()
    for place in (system.root, system.top):
        run("mount", "-o", "remount,ro", str(place))
    try:
        ended = inside(system, name, "true")
    finally:
        for place in (system.root, system.top):
            run("mount", "-o", "remount,rw", str(place))
    ended.expect_refusal("is read-only")
    assert "the copy" not in ended.err


def test_a_signal_ends_it(system: Machine) -> None:
    name = system.take()
    process = start(system.root, "shell", name, "--", "/bin/sh", "-c", "echo in; sleep 100")
    assert process.stdout is not None
    assert process.stdout.readline() == "in\n"
    process.terminate()
    process.communicate()
    assert process.returncode == 130
    assert copies(system) == []


def test_a_child_that_is_being_killed_keeps_no_copy(system: Machine) -> None:
    name = system.take()

    def work() -> None:
        with system.writing() as (machine, store):
            snapshot = next(s for s in store.load() if s.name == name)
            copy = throw_away.make(machine, store, snapshot, datetime.now().astimezone())
            with throw_away.mounted(machine, copy):
                child = os.fork()
                if not child:
                    signal.pause()
            try:
                assert throw_away.tidy(machine, store) == []
            finally:
                os.kill(child, signal.SIGKILL)

    in_child(work)
    assert copies(system) == []


@contextmanager
def _booted() -> Iterator[socket.socket]:
    """Let it look as if systemd had booted this machine; returns its bus, which does not listen."""
    place = Path("/run/dbus/system_bus_socket")
    made = [path for path in (Path("/run/systemd/system"), place.parent) if not path.exists()]
    for path in made:
        path.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(os.fspath(place))
        try:
            yield bus
        finally:
            place.unlink()
            for path in made:
                path.rmdir()


def test_systemd_nspawn_is_told_where_and_what(system: Machine, tmp_path: Path) -> None:
    """A program of its name notes its options; itself it is in tests/vm/test_dnf5.py."""
    name = system.take()
    noted = tmp_path / "noted"
    fake = tmp_path / "bin/systemd-nspawn"
    fake.parent.mkdir()
    fake.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" >{noted}\nfor o; do case $o in --directory=*)\n"
        'exec cat "${o#*=}/etc/app.conf";; esac; done\n'
    )
    fake.chmod(0o755)
    path = {"PATH": f"{fake.parent}:{environment()['PATH']}"}
    with _booted() as bus:
        in_rescue = fs_rollback(system.root, "shell", name, "--", "/bin/cat", *MARKS, env=path)
        bus.listen()
        ended = fs_rollback(system.root, "shell", name, "--", "rpm", "-qa", env=path)
    assert (in_rescue.code, in_rescue.out) == (0, "fs-rollbackfs-rollback")
    assert (ended.code, ended.out) == (0, "setting 1\n")
    told = noted.read_text().splitlines()
    assert told[-3:] == ["--", "rpm", "-qa"]
    assert {"--register=no", "--link-journal=no", "--settings=no", "--console=pipe"} <= set(told)
    assert any(re.fullmatch(r"--machine=shell-\d{14}", word) for word in told)
    (bound,) = (word for word in told if word.startswith("--bind-ro="))
    assert bound.endswith(":/run/systemd/container")
    assert not Path(bound[10:].partition(":")[0]).exists()
    assert copies(system) == []
