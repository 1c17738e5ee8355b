# SPDX-License-Identifier: GPL-2.0-or-later
"""IDs and names meet: in the table, in what is said of a snapshot, and in what a user may write."""

from __future__ import annotations

import argparse

import pytest

from fs_rollback.cli import completion
from tests.kernel.commands import done, fs_rollback, on_terminal
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import Machine
from tests.kernel.test_store import edit_record, listed, read_record

COMMAND = "dnf -y --setopt=install_weak_deps=False --disableplugin foo install httpd mod_ssl"


class Story:
    """A machine after two rollbacks, each with its reboot, and what messages call its snapshots."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.first = machine.upgrade(2)
        transaction = {**read_record(machine, self.first)["transaction"]}
        edit_record(
            machine, self.first, transaction={**transaction, "command_line": COMMAND.split()}
        )
        self.manual = machine.take("before I touch the mail server")
        self.second = machine.upgrade(3)
        self.older = self._roll_back(self.second)
        self.old = self._roll_back(self.first)
        self.ids = {name: row["id"] for name, row in listed(machine).items()}

    def _roll_back(self, name: str) -> str:
        replaced = done(self.machine.root, "rollback", name, "--yes", "--json").json["replaced"]
        self.machine.reboot()
        done(self.machine.root, "settle")
        return str(replaced)

    def label(self, name: str) -> str:
        return self.machine.label(name)

    def screen(self, columns: int) -> dict[int, str]:
        """Return the rows of `list` on a terminal, by their ID; each must be one line of it."""
        terminal = on_terminal(self.machine.root, "list", env={"COLUMNS": str(columns)})
        assert terminal.end() == 0
        _, _, *rows = terminal.text.splitlines()
        assert len(rows) == len(self.ids)
        assert max(map(len, rows)) <= columns
        return {int(row.split()[0]): row for row in rows}


@pytest.fixture
def story(make_machine: MakeMachine) -> Story:
    return Story(make_machine("named"))


@pytest.mark.parametrize("columns", [80, 60])
def test_a_screen_keeps_what_matters(story: Story, columns: int) -> None:
    rows = story.screen(columns)
    first, second = story.ids[story.first], story.ids[story.second]
    assert rows[first].endswith("dnf install httpd mod_ssl")
    assert "origin" in rows[first]
    for name, target in ((story.old, first), (story.older, second)):
        assert rows[story.ids[name]].endswith(f" rollback to {target}")
    assert [number for number, row in rows.items() if "origin" in row] == [first]


def test_a_pipe_cuts_nothing_whatever_columns_says(story: Story) -> None:
    wide = fs_rollback(story.machine.root, "list", env={"COLUMNS": "20"}).out
    assert wide == done(story.machine.root, "list").out
    for name, number in story.ids.items():
        (row,) = (row for row in wide.splitlines() if f" {name} " in row)
        assert row.split()[0] == str(number)
    assert wide.count(COMMAND) == 1
    assert f", set aside by the rollback to {story.ids[story.first]}\n" in wide
    assert "..." not in wide


def test_show_and_status_say_what_an_old_root_is(story: Story) -> None:
    root, target = story.machine.root, story.label(story.first)
    shown = done(root, "show", story.old).out
    assert f", set aside by the rollback to {target}\n" in shown
    assert "New root:    first booted " in shown
    status = fs_rollback(root, "status").out
    assert f"a copy of {target}\n" in status
    assert f"Last rollback: to {target}, " in status
    assert f"old root: {story.label(story.old)}, the system until " in status
    assert f"newest {story.label(story.second)}\n" in status
    answer = fs_rollback(root, "status", "--json").json
    named = {"id": story.ids[story.first], "name": story.first}
    assert answer["copy_of"] == named
    assert answer["last_rollback"]["target"] == named
    assert answer["last_rollback"]["replaced_id"] == story.ids[story.old]
    assert answer["newest_id"] == story.ids[story.second]
    assert "origin" in listed(story.machine)[story.first]["marks"]


def test_what_is_gone_is_not_the_origin_and_has_only_its_name(story: Story) -> None:
    root, number = story.machine.root, story.ids[story.first]
    done(root, "delete", str(number))
    assert not any("origin" in row["marks"] for row in listed(story.machine).values())
    answer = fs_rollback(root, "status", "--json").json
    assert (answer["copy_of"], answer["last_rollback"]["target"]) == (None, None)
    assert f"set aside by the rollback to {story.first}\n" in done(root, "show", story.old).out
    assert fs_rollback(root, "show", str(number)).code == 2


def test_until_the_reboot_the_old_root_is_the_running_system(story: Story) -> None:
    root = story.machine.root
    replaced = done(root, "rollback", story.manual, "--yes", "--json").json["replaced"]
    target = story.label(story.manual)
    said = done(root, "show", replaced).out
    assert f"the running system, set aside by the rollback to {target}" in said
    assert "New root:    not booted yet" in said
    assert (
        f"old root: {story.label(replaced)}, the running system\n"
        in fs_rollback(root, "status").out
    )
    assert f"the rollback to {target} is waiting for a reboot" in done(root, "list").err
    assert f"a rollback to {target} is waiting" in fs_rollback(root, "check").out
    story.machine.reboot()
    said = done(root, "settle").out
    assert f"a copy of {target}; the old root is kept as {story.label(replaced)}" in said


def test_every_way_to_write_it(named: Machine) -> None:
    first, second = named.take("a"), named.take("b")
    ways = (named.label(first).split()[0], first, f"/fs-snapshots/{first}",
            f"/fs-snapshots/{first}/", named.label(first))  # fmt: skip
    for way in ways:
        assert done(named.root, "show", way, "--json").json["snapshot"]["name"] == first
        assert done(named.root, "pin", way).err == f"fs-rollback: {named.label(first)} is pinned\n"
        said = done(named.root, "unpin", way).err
        assert said == f"fs-rollback: {named.label(first)} is no longer pinned\n"
    gone = named.label(first)
    assert done(named.root, "delete", ways[3]).err == f"fs-rollback: deleted {gone}\n"
    for way in ways:
        assert fs_rollback(named.root, "delete", way).code == 2
    assert list(listed(named)) == [second]
    for way in ways:
        assert gone in done(named.root, "log", way).out, way


def test_create_says_to_a_person_what_it_took(named: Machine) -> None:
    terminal = on_terminal(named.root, "create")
    assert terminal.end() == 0
    (name,) = listed(named)
    said = f"fs-rollback: took {named.label(name)}\n"
    assert terminal.text == f"/fs-snapshots/{name}\n{said}"
    ended = done(named.root, "create")
    assert (ended.out.count("\n"), ended.err) == (1, ""), "a script gets the path, and nothing else"


def test_tab_offers_paths_where_one_was_begun(named: Machine) -> None:
    name = named.take("a")
    args = argparse.Namespace(root=str(named.root), device=None)
    offered = completion.snapshots(args)
    assert set(offered) == {name, named.label(name).split()[0], "latest"}
    assert f"/fs-snapshots/{name}" in completion.snapshots(args, prefix="/fs")
