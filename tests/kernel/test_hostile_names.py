# SPDX-License-Identifier: GPL-2.0-or-later
"""Names that any user may give to files and subvolumes, on a machine where root takes snapshots.

A terminal gets no more than text, no line is forged, and nothing but what is meant is touched.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.attached import command, nothing_stays, off  # noqa: F401 - a fixture
from tests.kernel.commands import done, fs_rollback, on_terminal
from tests.kernel.machine import Machine

_NAMES = (
    "ev\x1b]0;mine\x07il",
    "a\nfs-rollback: Rolled back: all is well",
    "\u202egnp.exe",
    "\udcff\udcfe",
    "..\n",
    "...",
    "-rf",
    "$(touch mine)",
    "'; touch mine; '",
    "x" * 255,
    "pending.json",
    "yum_20261130000000",
    "yum_20261130000000.json",
    "fs-snapshots",
)
_LOOKS = ("list", "list --size", "status", "check", "log", "show latest", "diff latest")


@pytest.fixture
def hostile(named: Machine) -> Machine:
    """A machine on which a user has made subvolumes and files with such names."""
    home = named.root / "home-inside/user"
    home.mkdir(parents=True)
    os.chown(home, 1234, 1234)
    made = (
        "import btrfsutil, os, sys\n"
        "for name in map(os.fsdecode, map(bytes.fromhex, sys.argv[2:])):\n"
        "    place = os.path.join(sys.argv[1], name)\n"
        "    btrfsutil.create_subvolume(place)\n"
        "    open(os.path.join(place, name), 'w').close()\n"
    )
    names = [os.fsencode(name).hex() for name in _NAMES]
    user = ("setpriv", "--reuid=1234", "--regid=1234", "--clear-groups")
    program = ("/usr/bin/python3", "-I", "-c", made)
    for directory in (named.root, named.root.parent, *named.root.parent.parents):
        if directory.stat().st_uid == 0:
            directory.chmod(directory.stat().st_mode | 0o111)  # or no user gets there
    subprocess.run([*user, *program, str(home), *names], check=True)
    return named


def _is_text(said: str) -> None:
    assert all(c.isprintable() or c == "\n" for c in said), repr(said)
    assert "\u202e" not in said
    for line in said.splitlines():
        assert not line.startswith("fs-rollback: Rolled back"), said


def test_whatever_they_are_a_rollback_takes_them_along(hostile: Machine, tmp_path: Path) -> None:
    name = hostile.upgrade()
    store = sorted(os.listdir(hostile.top / "fs-snapshots"))
    for words in (*_LOOKS, "rollback --dry-run", "rollback --yes", "undo --yes"):
        ended = fs_rollback(hostile.root, *words.split())
        assert ended.code in (0, 1) or words == "check", ended  # it has no init
        _is_text(ended.out + ended.err)
        shown = fs_rollback(hostile.root, *words.split(), "--json").out
        assert all(c.isprintable() or c in "\n" for c in shown), "JSON writes them out"
    for made in _NAMES:
        assert (hostile.root / "home-inside/user" / made / made).exists()
    done(hostile.root, "rollback", "--yes")
    hostile.reboot()
    done(hostile.root, "settle")
    for made in _NAMES:
        assert (hostile.root / "home-inside/user" / made / made).exists()
    assert not list(tmp_path.rglob("mine"))
    # One that has a name of ours is not taken for ours, and nothing in the store is for theirs.
    left = sorted(os.listdir(hostile.top / "fs-snapshots"))
    assert set(store) <= set(left)
    rows = json.loads(done(hostile.root, "list", "--json").out)["snapshots"]
    assert [row["name"] for row in rows if row["kind"] == "pre"] == [name]


def test_what_is_said_of_them_on_a_terminal(hostile: Machine) -> None:
    hostile.upgrade()
    inside = "/home-inside/user/ev\x1b]0;mine\x07il"
    for words in (("restore", "latest", inside, "--yes"), ("diff", "latest", inside)):
        terminal = on_terminal(hostile.root, *words)
        terminal.end()
        _is_text(terminal.text.replace("\r", ""))


def test_a_snapshot_of_such_a_name_on_a_disk_of_somebody(named: Machine) -> None:
    """Who made the disk may have put anything into the store."""
    named.upgrade()
    store = named.top / "fs-snapshots"
    names = [name for name in _NAMES if not name.endswith(".json")]
    for name in names:
        btrfsutil.create_snapshot(str(named.top / "root"), str(store / name), read_only=True)
        (store / f"{name[:200]}.json").write_text('{"version": 1, "name": "\\u001b[2J"}')
    ids = [btrfsutil.subvolume_id(str(store / name)) for name in names]
    with off(named) as device:
        for number in ids:
            for words in ("show", "pin", "rollback --dry-run", "delete"):
                first, *more = words.split()
                ended = command(device, first, str(number), *more)
                _is_text(ended.out + ended.err)
        for words in ("list", "status", "check", "prune --dry-run", "prune"):
            ended = command(device, *words.split())
            _is_text(ended.out + ended.err)


def test_names_in_the_place_of_kernels_and_entries(named: Machine) -> None:
    """What is written into a boot entry is one line, and a menu shows text."""
    kernel = "6.1\x1b[2J\noptions init=sh"
    (named.root / "usr/lib/modules" / kernel).mkdir()
    entries = named.root / "boot/loader/entries"
    (entries / "ev\x1b[2Jil.conf").write_text("title a\x1b[2Jb\nlinux /x\x1b[2J\noptions a\x07\n")
    named.upgrade()
    for words in (*_LOOKS, "create", "try latest", "rollback --yes"):
        ended = fs_rollback(named.root, *words.split())
        _is_text(ended.out + ended.err)
    for entry in (named.next_root() / "boot/loader/entries").glob("*snapshot*.conf"):
        lines = entry.read_text().splitlines()
        assert sum(line.startswith("options") for line in lines) == 1
        assert not any("init=sh" in line for line in lines)
