# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be read is unknown, and nobody acts on it as if there were none."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime

import btrfsutil
import pytest

from tests.kernel.commands import done, environment, fs_rollback
from tests.kernel.machine import KERNEL, Machine, run
from tests.kernel.test_store import edit_record, listed, read_record, store_of


def test_the_root_that_a_pinned_line_names_is_not_deleted(named: Machine) -> None:
    """No rollback is possible there, so which root is next is not decided; a boot finds one."""
    name = named.take()
    newer = named.take()
    number = btrfsutil.subvolume_id(str(store_of(named) / name))
    for path in ("etc/fstab", "etc/kernel/cmdline", f"boot/loader/entries/abc-{KERNEL}.conf"):
        text = named.read(path)
        assert "subvol=root" in text
        (named.root / path).write_text(text.replace("subvol=root", f"subvolid={number}"))
    assert fs_rollback(named.root, "rollback", newer, "--dry-run").code == 3
    ended = fs_rollback(named.root, "delete", name)
    assert (ended.code, "names it as the root" in ended.sentence) == (3, True), ended
    named.write(named.root, "etc/fs-rollback.conf", "keep_last = 1\nkeep_days = 0\n")
    done(named.root, "prune")
    assert list(listed(named)) == [name, newer]


def test_a_history_whose_place_is_unknown_is_not_empty(named: Machine) -> None:
    """Without one line of dnf.conf nobody knows where dnf 5 has written the end down."""
    name = named.upgrade()
    before = read_record(named, name)["transaction"]
    pending = {**before, "tool": "dnf5", "outcome": "pending", "history_id": None}
    edit_record(named, name, transaction=pending)
    moment = read_record(named, name)["created"]
    named.write(named.root, "etc/dnf/dnf.conf", "[main]\nsystem_state_dir=/srv/dnf\n")
    place = named.root / "srv/dnf"
    place.mkdir(parents=True)
    began = int(datetime.fromisoformat(moment.replace("Z", "+00:00")).timestamp())
    with closing(sqlite3.connect(place / "transaction_history.sqlite")) as database, database:
        database.execute("CREATE TABLE trans_state (id INTEGER PRIMARY KEY, name TEXT)")
        database.execute("CREATE TABLE trans (id INTEGER, dt_begin INTEGER, state_id INTEGER)")
        database.execute("INSERT INTO trans_state VALUES (1, 'Ok')")
        database.execute("INSERT INTO trans VALUES (1, ?, 1)", (began,))
    assert listed(named)[name]["transaction"]["outcome"] == "done"
    with (named.root / "etc/dnf/dnf.conf").open("a") as file:
        file.write("this is no line of it\n")
    assert listed(named)[name]["transaction"]["outcome"] == "pending"


def test_a_tool_that_is_not_known_has_no_history_of_dnfs(named: Machine) -> None:
    name = named.upgrade()
    before = read_record(named, name)["transaction"]
    edit_record(
        named,
        name,
        transaction={**before, "tool": "other", "outcome": "pending", "history_id": None},
    )
    assert listed(named)[name]["transaction"]["outcome"] == "pending"
    edit_record(
        named,
        name,
        transaction={**before, "tool": "dnf4", "outcome": "pending", "history_id": None},
    )
    assert listed(named)[name]["transaction"]["outcome"] == "interrupted", "it was never begun"


@pytest.mark.parametrize("leftover", [
    "deleted_yum_20260101000000.json",
    "yum_20260101000000.json.fs-rollback.new",
])  # fmt: skip
def test_a_leftover_that_cannot_go_stops_nothing(named: Machine, leftover: str) -> None:
    named.take()
    path = store_of(named) / leftover
    path.write_text("{}")
    run("chattr", "+i", str(path))
    try:
        named.upgrade()  # as dnf does
        ended = done(named.root, "create")
        assert leftover.partition(".")[0] in ended.err
        assert os.strerror(1) in ended.err
    finally:
        run("chattr", "-i", str(path))
    done(named.root, "create")
    assert not path.exists()


def test_mounts_that_may_not_be_looked_at_are_not_none() -> None:
    """Without its capabilities root is not shown the mount namespaces of those that have them."""
    code = (
        "from fs_rollback.errors import KernelError\n"
        "from fs_rollback.system.machine import host\n"
        "try:\n"
        "    print(len(host.mounts_of_all()))\n"
        "except KernelError as error:\n"
        "    print(error)\n"
    )
    without = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    said = subprocess.run(
        (*without, sys.executable, "-c", code),
        check=True, capture_output=True, text=True, env=environment(),
    ).stdout.strip()  # fmt: skip
    assert said.startswith("cannot read the mounts of /proc/")
    assert said.endswith(os.strerror(13))
