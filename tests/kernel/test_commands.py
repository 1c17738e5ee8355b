# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that look and that keep the store: what they say, do, refuse, and exit with."""

from __future__ import annotations

import os
import subprocess
from datetime import datetime, timedelta, timezone
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.snapshots.names import trial_name
from fs_rollback.system.store.trace import LOG
from tests.kernel.commands import done, fs_rollback, on_terminal, start
from tests.kernel.conftest import MakeMachine
from tests.kernel.faults import Fault, faulty, in_child, manifest, state
from tests.kernel.machine import Machine, run
from tests.kernel.running import begin_boot
from tests.kernel.test_store import edit_record, listed, read_record, saved_lists, store_of

TEXTS = [
    "",
    "plain",
    "\u00fcml\u00e4ut \u6f22\u5b57 \U0001f600",
    "two\nlines\r\n\ttab",
    "\x1b[31mred\x1b]0;title\x07\x9b1m\u202eevil\x7f",
    " blanks ",
    "-m",
]


@pytest.mark.parametrize("text", TEXTS)
def test_create_keeps_the_description_and_list_cleans_it(named: Machine, text: str) -> None:
    name = done(named.root, "create", f"--message={text}").out.strip().rpartition("/")[2]
    record = read_record(named, name)
    assert (record["description"], record["kind"]) == (text, "manual")
    assert btrfsutil.get_subvolume_read_only(str(store_of(named) / name))
    assert (store_of(named) / name / "usr/bin/app").read_text() == "version 1\n"
    for command in (("list",), ("show", name)):
        out = done(named.root, *command).out
        assert all(c.isprintable() or c == "\n" for c in out)
    assert listed(named)[name]["description"] == text
    rows = done(named.root, "list", "--json").out
    assert rows.isascii()


@pytest.mark.parametrize(
    "env",
    [
        {"LC_ALL": "C"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "ascii"},
    ],
)
def test_a_poor_locale_is_no_traceback(named: Machine, env: dict[str, str]) -> None:
    name = named.take("gr\u00fc\u00dfe")
    for words in (("list",), ("show", name), ("list", "--json"), ("create", "-m", "\u00e4")):
        ended = fs_rollback(named.root, *words, env=env)
        assert (ended.code, ended.err) == (0, "")
    assert fs_rollback(named.root, "show", "gr\u00fc\u00dfe", env=env).code == 2


def test_pin_and_unpin(named: Machine) -> None:
    first, second = named.take("a"), named.take("b")
    done(named.root, "pin", first, second)
    assert [row["marks"] for row in listed(named).values()] == [["pinned"], ["pinned"]]
    done(named.root, "pin", first)
    done(named.root, "unpin", str(listed(named)[first]["id"]))
    assert read_record(named, first)["pinned"] is False
    assert read_record(named, second)["pinned"] is True
    assert fs_rollback(named.root, "pin", first, "nothing").code == 2
    assert read_record(named, first)["pinned"] is False, "all names are looked up first"


@pytest.mark.parametrize("command", ["rollback", "log", "show", "delete"])
def test_an_empty_reference_is_a_mistake_and_not_the_default(named: Machine, command: str) -> None:
    """As that of a script's variable which nobody has set."""
    named.upgrade()
    ended = fs_rollback(named.root, command, "")
    assert (ended.code, "an argument is empty" in ended.sentence) == (2, True), ended


def test_delete_goes_on_after_a_failure_and_says_which(named: Machine) -> None:
    names = [named.take(str(n)) for n in range(4)]
    done(named.root, "pin", names[1])
    before = state(named)
    ended = fs_rollback(named.root, "delete", names[0], "yum_1999")
    assert (ended.code, state(named)) == (2, before)
    assert ended.sentence == "no snapshot 'yum_1999'; nothing was deleted"
    ended = fs_rollback(named.root, "delete", names[0], names[1], names[1], names[2])
    assert ended.code == 3
    assert f"{named.label(names[1])} is not deleted: it is pinned" in ended.err
    assert ended.err.count(names[1]) == 1
    assert set(listed(named)) == {names[1], names[3]}
    assert set(os.listdir(store_of(named))) - {LOG} == {
        entry for name in (names[1], names[3]) for entry in (name, f"{name}.json")
    }


def test_delete_refuses_what_is_in_use(make_machine: MakeMachine) -> None:
    machine = make_machine("default")
    pinned, default, mounted, free = (machine.take(word) for word in "abcd")
    done(machine.root, "pin", pinned)
    done(machine.root, "rollback", free, "--yes")
    running = next(row["name"] for row in listed(machine).values() if row["kind"] == "replaced")
    was_default = btrfsutil.get_default_subvolume(str(machine.top))
    btrfsutil.set_default_subvolume(
        str(machine.top), btrfsutil.subvolume_id(str(store_of(machine) / default))
    )
    place = machine.image.parent / "mounted"
    place.mkdir()
    run("mount", "-o", f"loop,subvol=fs-snapshots/{mounted}", str(machine.image), str(place))
    before = state(machine)
    reasons = {pinned: "pinned", default: "the root of the next boot", mounted: "mounted",
               running: "the running root"}  # fmt: skip
    try:
        for name, reason in reasons.items():
            ended = fs_rollback(machine.root, "delete", name)
            assert (ended.code, reason in ended.sentence) == (3, True), ended
        assert state(machine) == before
    finally:
        run("umount", str(place))
        btrfsutil.set_default_subvolume(str(machine.top), was_default)
    done(machine.root, "delete", mounted, default)


def test_delete_refuses_a_default_that_is_not_next(make_machine: MakeMachine) -> None:
    machine = make_machine("named")
    name = machine.take()
    number = btrfsutil.subvolume_id(str(store_of(machine) / name))
    btrfsutil.set_default_subvolume(str(machine.top), number)
    ended = fs_rollback(machine.root, "delete", name)
    assert (ended.code, "the default subvolume" in ended.sentence) == (3, True)
    assert (store_of(machine) / name).exists()


@pytest.mark.parametrize("how", ["mounted", "in fstab"])
def test_delete_refuses_a_root_with_something_in_use_inside(named: Machine, how: str) -> None:
    name = named.take()
    done(named.root, "rollback", name, "--yes")
    named.reboot()
    replaced = next(row["name"] for row in listed(named).values() if row["kind"] == "replaced")
    inside = f"fs-snapshots/{replaced}/var/lib/machines"
    done(named.root, "unpin", name)  # any run settles the rollback first
    place = named.image.parent / "mounted"
    place.mkdir()
    if how == "mounted":
        run("mount", "-o", f"loop,subvol={inside}", str(named.image), str(place))
    else:
        with (named.root / "etc/fstab").open("a") as file:
            file.write(f"UUID={named.uuid} /machines btrfs subvol={inside} 0 0\n")
    before = state(named)
    ended = fs_rollback(named.root, "delete", replaced)
    assert (ended.code, f"/{inside}" in ended.sentence) == (3, True)
    assert state(named) == before
    subprocess.run(("umount", "--quiet", str(place)), check=False)


def _outside(machine: Machine) -> Path:
    """Make files outside of the machine, and links in its root that lead there."""
    outside = machine.image.parent / "outside"
    outside.mkdir()
    (outside / "precious").write_text("the host's")
    (machine.root / "link-to-file").symlink_to(outside / "precious")
    (machine.root / "link-to-directory").symlink_to(outside)
    (machine.root / "etc/link").symlink_to("../../../../../../.." + str(outside))
    return outside


def test_delete_a_replaced_root(machine: Machine) -> None:
    name = machine.upgrade()
    outside = _outside(machine)
    run("chattr", "+i", str(machine.root / "etc/app.conf"))
    run("chattr", "+a", str(machine.root / "var/data"))
    done(machine.root, "rollback", name, "--yes")
    machine.reboot()
    (replaced,) = (row for row in listed(machine).values() if row["kind"] == "replaced")
    new_root = manifest(machine.root)
    run("umount", str(machine.top))  # a mounted root is not deleted, the top level included
    done(machine.root, "delete", replaced["name"])
    run("mount", "-o", "loop,subvolid=5", str(machine.image), str(machine.top))
    assert list(listed(machine)) == [name]
    roots = {p for p in os.listdir(store_of(machine)) if p.startswith("root_")}
    assert len(roots) == (1 if machine.layout == "top-level" else 0)
    kept = {name, f"{name}.json", trial_name(name)}
    assert set(os.listdir(store_of(machine))) - {"boot", LOG} == {*kept, *roots}
    assert saved_lists(machine) <= {read_record(machine, name)["boot_files"]}
    assert not any("replaced" in path or "deleted" in path for path in machine.subvolume_paths())
    assert manifest(machine.root) == new_root
    machine.reboot()
    assert manifest(machine.root) == new_root
    assert (outside / "precious").read_text() == "the host's"
    if machine.layout == "top-level":
        assert set(os.listdir(machine.top)) == {"fs-snapshots", "boot", "var"}
        assert os.listdir(machine.top / "var") == ["lib"]
        assert os.listdir(machine.top / "var/lib") == ["machines"]
        assert (machine.top / "var/lib/machines/guest").read_text() == "guest 1\n"
    done(machine.root, "rollback", name, "--yes")


def test_list_is_a_table_that_fits(named: Machine) -> None:
    named.upgrade()
    named.take("a rather long description " * 10)
    for columns in (80, 120, 250):
        terminal = on_terminal(named.root, "list", env={"COLUMNS": str(columns)})
        assert terminal.end() == 0
        lines = terminal.text.splitlines()
        assert len(lines) == 4
        assert max(len(line) for line in lines) == columns
    rows = listed(named)
    for line, row in zip(lines[2:], rows.values()):
        assert line.split()[0] == str(row["id"])
    assert "1 upgraded" in lines[2]
    assert "dnf upgrade" in lines[2]


def test_list_and_show_say_what_is_on_disk(named: Machine) -> None:
    name = named.upgrade()
    record = read_record(named, name)
    row = done(named.root, "show", name, "--json").json["snapshot"]
    assert listed(named) == {name: row}
    info = btrfsutil.subvolume_info(str(store_of(named) / name))
    assert (row["id"], row["uuid"]) == (info.id, info.uuid.hex())
    for key in ("name", "kind", "created", "description", "source", "kernels", "transaction"):
        assert row[key] == record[key]
    assert (row["path"], row["marks"], row["problem"]) == (f"/fs-snapshots/{name}", [], None)


def test_package_names_cannot_steer_a_terminal(named: Machine) -> None:
    name = named.upgrade()
    data = read_record(named, name)["transaction"]
    data["packages"][0].update(name="ev\x1b[2Jil\nname", to="1\u202e")
    data.update(command_line=["dnf", "install", "a b\x07"], user="\x1b]0;x")
    edit_record(named, name, transaction=data)
    for command in (("list",), ("show", name), ("rollback", "--dry-run")):
        out = done(named.root, *command).out
        assert all(c.isprintable() or c == "\n" for c in out), repr(out)


def test_a_reader_that_goes_away(named: Machine) -> None:
    for number in range(3):
        named.take("x" * 60_000 + str(number))
    for command in (("list", "--json"), ("status",), ("show", "latest")):
        process = start(named.root, *command)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        assert process.communicate(timeout=30)[1] == ""


def _healthy(machine: Machine) -> Machine:
    machine.write(
        machine.root, "usr/lib/python3.9/site-packages/dnf-plugins/fs_snapshot.py", "# plugin\n"
    )
    return machine


def test_status_tells_the_truth_in_every_window(machine: Machine) -> None:
    _healthy(machine)
    name = machine.upgrade()
    old = btrfsutil.subvolume_id(str(machine.root))

    def told() -> tuple[int, str, int, int]:
        ended = fs_rollback(machine.root, "status", "--json")
        assert bool(ended.json["attention"]) == bool(ended.code)
        running, following = ended.json["running"]["id"], ended.json["next"]["id"]
        assert following == btrfsutil.subvolume_id(str(machine.next_root()))
        assert running == btrfsutil.subvolume_id(str(machine.root))
        return ended.code, ended.json["waiting"], running, following

    assert told() == (0, "nothing", old, old)
    cut = faulty(2, Fault.KILL_AFTER)
    assert in_child(lambda: machine.roll_back(name, cut)) == 9
    assert told() == (1, "interrupted", old, old)
    done(machine.root, "rollback", name, "--yes")
    new = btrfsutil.subvolume_id(str(machine.next_root()))
    assert told() == (1, "reboot", old, new)
    journal = store_of(machine) / "pending.json"
    begin_boot(machine.root)
    assert told() == (1, "elsewhere", old, new)
    assert fs_rollback(machine.root, "rollback", name, "--yes").code == 3
    machine.reboot()
    assert told() == (0, "nothing", new, new)
    done(machine.root, "create")
    assert not journal.exists()
    assert told() == (0, "nothing", new, new)


def test_status_says_what_is_wrong(named: Machine) -> None:
    _healthy(named)
    assert done(named.root, "status").out.count("Attention") == 0
    faults = {
        "etc/fs-rollback.conf": ("keep_lost = 3\n", "keep_lost"),
        "etc/dnf/plugins/fs-snapshot.conf": ("[main]\nenabled = 0\n", "switched off"),
    }
    for path, (text, word) in faults.items():
        named.write(named.root, path, text)
        ended = fs_rollback(named.root, "status")
        (line,) = (ln for ln in ended.out.splitlines() if ln.startswith("Attention"))
        assert (ended.code, word in line) == (1, True)
        (named.root / path).unlink()
    (store_of(named).parent / "fs-snapshots").mkdir()
    (store_of(named) / "pending.json").write_text("{")
    ended = fs_rollback(named.root, "status", "--json")
    assert (ended.code, ended.json["waiting"]) == (1, "unknown")


@pytest.mark.parametrize("columns", [80, 60])
def test_on_a_terminal_no_line_is_broken_in_a_word(named: Machine, columns: int) -> None:
    """What is said is what a pipe gets, which breaks no line."""
    named.upgrade()
    done(named.root, "rollback", "--yes")
    for words in (["status"], ["check"], ["list"], ["show", "no-such"]):
        terminal = on_terminal(named.root, *words, env={"COLUMNS": str(columns)})
        code = terminal.end()
        lines = terminal.text.splitlines()
        # A word that is longer, as the path of this test, is not broken.
        fitting = [line for line in lines if max(map(len, line.split()), default=0) < 30]
        assert max(map(len, fitting)) <= columns, words
        piped = fs_rollback(named.root, *words)
        assert code == piped.code
        if words != ["list"]:
            assert terminal.text.split() == (piped.out + piped.err).split()
        if words == ["check"]:
            verdict = piped.out.rpartition("\n\n")[2]
            assert verdict == "This machine would not boot as it should: init (see above).\n"
        if words == ["list"]:
            (note,) = [n for n, line in enumerate(lines) if line.startswith("fs-rollback: the r")]
            assert lines[note + 1].startswith("  "), "it is one long line in a pipe"
            assert len(piped.err.splitlines()) == 1


def test_prune_deletes_what_its_dry_run_said(named: Machine) -> None:
    names = [named.take(str(number)) for number in range(6)]
    for place, name in enumerate(names[:5]):
        taken = datetime.now(timezone.utc) - timedelta(days=75 - 15 * place)
        edit_record(named, name, created=taken.strftime("%Y-%m-%dT%H:%M:%SZ"))
    done(named.root, "pin", names[0])
    named.write(named.root, "etc/fs-rollback.conf", "keep_last = 2\nkeep_days = 30\n")
    before = state(named)
    answer = done(named.root, "prune", "--dry-run", "--json").json
    planned = answer["verdicts"]
    assert answer["gives_back_bytes"] == 0  # no data that is large enough has changed
    table = done(named.root, "prune", "--dry-run").out
    assert state(named) == before
    assert {r["name"]: r["verdict"] for r in planned} == {
        n: "keep" if n in (names[0], names[4], names[5]) else "delete" for n in names
    }
    assert all(row["reason"] in table for row in planned)
    assert "pinned" in planned[0]["reason"]
    assert done(named.root, "prune", "--json").json == {
        "version": 1, "verdicts": planned, "totals": {"keep": 3, "delete": 3}, "shortage": None,
        "failures": [],
    }  # fmt: skip
    assert list(listed(named)) == [names[0], names[4], names[5]]
