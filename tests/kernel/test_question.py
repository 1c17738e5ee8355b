# SPDX-License-Identifier: GPL-2.0-or-later
"""The question of `rollback` and `undo`: each line of it is true, and it fits a console."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.comparison.upkeep import BEFORE_RESTORE
from tests.kernel import upgrades
from tests.kernel.commands import done, fs_rollback, on_terminal
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import listed
from tests.need import need

_ROWS = 24


@pytest.fixture
def upgraded(named: Machine, tmp_path: Path) -> tuple[Machine, str]:
    """Give a machine after an upgrade of 61 packages and some work, and the snapshot's name."""
    need("rpmbuild", "rpm")
    upgrades.install(named, tmp_path)
    name = upgrades.upgrade(named, tmp_path)
    upgrades.work(named)
    return named, name


def _screen(machine: Machine, *words: str, columns: int = 80) -> list[str]:
    """Return the lines on a terminal up to the question, which is answered with no."""
    terminal = on_terminal(machine.root, *words, env={"COLUMNS": str(columns)})
    terminal.read_until(r"\[y/N\] $")
    lines = terminal.text.splitlines()
    terminal.type("n\n")
    assert terminal.end() == 1
    return lines


def _joined(lines: list[str]) -> str:
    return " ".join(line.strip() for line in lines)


@pytest.mark.parametrize("columns", [80, 60])
def test_a_usual_upgrade_on_one_screen(upgraded: tuple[Machine, str], columns: int) -> None:
    machine, name = upgraded
    lines = _screen(machine, "rollback", columns=columns)
    assert len(lines) <= _ROWS
    # Of a command that is told, the path of this test's root is one long word.
    assert max(len(line) for line in lines if str(machine.root) not in line) <= columns
    text = _joined(lines)
    label = f"{listed(machine)[name]['id']} ({name})"
    assert text.startswith(f"Roll back to snapshot {label}, taken ")
    assert "before: dnf upgrade --refresh" in text
    assert text.endswith(f"Roll back to {label}? [y/N]")
    assert text.index("What reverts") < text.index("What stays as it is")
    reverts, _, stays = text.partition("What stays as it is")
    first = "kernel-core 6.2-1 is removed, glibc 2.42-7.fc44 to 2.41-7.fc44, systemd 258.2-1.fc44"
    assert f"1 removed, 60 reverted: {first if columns == 80 else first[:28]}" in reverts
    edited = " ".join(reverts.split())
    for path, how in upgrades.EDITED.items():
        assert f"{path}{how}" in edited
    in_usr = ", ".join(f"{path}{how}" for path, how in upgrades.IN_USR.items())
    assert f"/usr changed by hand: {in_usr} Data" in edited
    assert "/etc/app/app.conf" not in reverts, "the package update did that"
    assert "--keep /var/lib/mysql mariadb-server: 3.0 MiB, written until" in edited
    assert "/home (a subvolume of its own)" in stays
    assert "/root, /srv, /var/log (kept: copied from the current root)" in stays
    assert "/var/lib/machines" in stays
    assert "Make a writable snapshot" not in text, "that is a step"


def test_long_lists_are_cut_to_the_screen(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    for number in range(12):
        machine.write(machine.root, f"etc/site/{number}.conf", "by hand\n")
        machine.write(machine.root, f"var/lib/service-{number}/data", "x" * (1000 + number))
        machine.write(machine.root, f"opt/product-{number}/data", "x")
    lines = _screen(machine, "rollback")
    assert len(lines) <= _ROWS
    text = _joined(lines)
    assert text.index("--keep /var/lib/mysql") < text.index("--keep /var/lib/service-11")
    assert len([line for line in lines if "(--all lists them)" in line]) >= 2
    everything = done(machine.root, "rollback", "--dry-run", "--all").out
    for number in range(12):
        assert f"/etc/site/{number}.conf  (by hand)" in everything
        assert f"/opt/product-{number}" in everything


def test_what_is_of_packages_or_kept_by_restore(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    ending = f"{BEFORE_RESTORE}20261129220045"
    for path in (f"etc/motd{ending}", f"var/www{ending}/index.html", "usr/local/bin/mine"):
        machine.write(machine.root, path, "old")
    (machine.root / upgrades.TOOL_DATA.strip("/")).write_text("edited\n")
    text = done(machine.root, "rollback", "--dry-run").out
    assert f"/etc/motd{ending} (kept by restore)" in text
    assert f"  /usr        changed by hand: /usr/bin/tool (deleted), {upgrades.TOOL_DATA}\n" in text
    assert re.search(rf"--keep /var/www{ending}  kept by restore: 3 B, written until \S+\n", text)
    assert re.search(r"    /usr/local +3 B, written until \S+; cannot be kept\n", text)
    text = done(machine.root, "rollback", "--dry-run", "--all").out
    assert f"changed  {upgrades.TOOL_DATA}  (by hand)" in text
    assert f"new      /etc/motd{ending}  (kept by restore)" in text


def test_in_a_pipe_nothing_is_cut_or_broken(upgraded: tuple[Machine, str]) -> None:
    machine, name = upgraded
    lines = done(machine.root, "rollback", "--dry-run").out.splitlines()
    (edits,) = [line for line in lines if line.startswith("  /etc ")]
    assert all(path in edits for path in upgrades.EDITED)
    assert any(name in line and "dnf upgrade --refresh" in line for line in lines)


def test_steps_are_shown_on_request(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    assert "Steps" in _screen(machine, "rollback", "--plan")
    assert "Steps\n" in done(machine.root, "rollback", "--dry-run").out
    assert "Steps" not in _screen(machine, "rollback")


def test_all_is_all(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    reverts = done(machine.root, "rollback", "--dry-run", "--json").json["reverts"]
    text = done(machine.root, "rollback", "--dry-run", "--all").out
    assert len(reverts["packages"]) == 61
    for package in reverts["packages"]:
        assert f" {package['name']}.{package['arch']} " in text
    for path in reverts["files"]:
        assert path in text


def test_what_is_said_is_what_happens(upgraded: tuple[Machine, str]) -> None:
    """Each file that is named is another one after the rollback, and no other of the root is."""
    machine, _ = upgraded
    answer = done(machine.root, "rollback", "--yes", "--json").json
    old = machine.top / "fs-snapshots" / answer["replaced"]
    differing = _differing(old, machine.next_root())
    left_out = {"/boot", *answer["reverts"]["kept"], *answer["reverts"]["carried"]}
    counted = {p for p in differing if not any(f"{p}/".startswith(f"{o}/") for o in left_out)}
    told = {p for p in answer["reverts"]["files"] if not p.startswith("/boot/")}
    assert told == counted
    edited = {row["path"] for row in answer["reverts"]["edits"]}
    assert edited == {*upgrades.EDITED, *upgrades.IN_USR}
    query = ("rpm", "--dbpath", str(machine.next_root() / upgrades.RPMDB), "-qa", "--qf")
    there = set(run(*query, "%{NAME} %{VERSION}-%{RELEASE}\\n").splitlines())
    for package in answer["reverts"]["packages"]:
        versions = [package["to"], package["from"]]
        has, had = (f"{package['name']} {str(v).rpartition(':')[2]}" in there for v in versions)
        assert (has, had) == (package["to"] is not None, False), package


def _differing(old: Path, new: Path) -> set[str]:
    """Return what rsync would copy or delete to make one tree the other, without directories."""
    command = ("diff", "--recursive", "--brief", "--no-dereference", "--new-file", old, new)
    text = subprocess.run(command, check=False, capture_output=True, text=True).stdout
    return {line.split()[1][len(str(old)) :] for line in text.splitlines() if "differ" in line}


def test_data_can_be_kept_with_the_option_that_is_shown(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    data = done(machine.root, "rollback", "--dry-run", "--json").json["reverts"]["data"]
    (mysql,) = [row for row in data if row["path"] == "/var/lib/mysql"]
    written = (machine.root / "var/lib/mysql/ibdata1").stat()
    assert (mysql["bytes"], mysql["owner"]) == (written.st_size, "mariadb-server")
    words = ("rollback", "--yes", "--json", *mysql["option"].split())
    answer = done(machine.root, *words).json
    assert not [row for row in answer["reverts"]["data"] if row["path"] == "/var/lib/mysql"]
    assert (machine.next_root() / "var/lib/mysql/ibdata1").stat().st_size == written.st_size


def test_home_is_named_whatever_becomes_of_it(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    fstab = machine.root / "etc/fstab"
    fstab.write_text(
        "".join(line for line in fstab.read_text().splitlines(True) if "/home" not in line)
    )
    (machine.root / "home").mkdir(exist_ok=True)
    kept = _joined(_screen(machine, "rollback"))
    assert "/home (kept: copied from the current root)" in kept.partition("What stays")[2]
    lost = _joined(_screen(machine, "rollback", "--no-keep")).partition("What stays")
    why = "/home part of the root, and not among the kept paths; to keep it: --keep /home"
    assert why in " ".join(lost[0].split())
    assert "/home (" not in lost[2]


@pytest.mark.parametrize("how", ["nested", "link", "another filesystem"])
def test_home_elsewhere(named: Machine, how: str) -> None:
    fstab, home = named.root / "etc/fstab", named.root / "home"
    lines = [line for line in fstab.read_text().splitlines() if "/home" not in line]
    shutil.rmtree(home)
    if how == "nested":
        btrfsutil.create_subvolume(str(home))
        wanted = "/home (a nested subvolume)"
    elif how == "link":
        (named.root / "var/home/user").mkdir(parents=True)
        home.symlink_to("var/home")
        wanted = "/var/home (kept: copied from the current root)"
    else:
        lines.append("LABEL=people /home xfs defaults 0 0")
        wanted = "/home (on another filesystem (xfs))"
    fstab.write_text("\n".join([*lines, ""]))
    named.upgrade()
    words = ["--no-keep"] if how == "nested" else []
    lines = done(named.root, "rollback", "--dry-run", *words).out.splitlines()
    assert f"  {wanted}" == lines[lines.index("What stays as it is") + 1]


def test_undo_says_first_which_of_the_two_it_is(upgraded: tuple[Machine, str]) -> None:
    machine, name = upgraded
    label = f"{listed(machine)[name]['id']} ({name})"
    done(machine.root, "rollback", "--yes")
    text = _joined(_screen(machine, "undo"))
    assert text.startswith(f"The rollback to {label} waits for its reboot. This cancels it")
    assert text.endswith(f"Cancel the rollback to {label}? [y/N]")
    ended = fs_rollback(machine.root, "undo", "--yes", "--to-replaced")
    ended.expect_refusal(f"the rollback to {label} waits for its reboot")
    machine.reboot()
    before = machine.subvolume_paths()
    ended = fs_rollback(machine.root, "undo", "--yes")
    ended.expect_refusal("no rollback is waiting for a reboot", "--to-replaced")
    lines = _screen(machine, "undo")
    text = _joined(lines)
    assert text.startswith(
        "The rollback was already booted, so this goes back to the root from before it."
    )
    replaced = next(n for n, row in listed(machine).items() if row["kind"] == "replaced")
    assert f"({replaced}), the system until " in text
    assert f", set aside by the rollback to {label}" in text
    assert "1 restored" in text
    assert "nothing that was changed by hand" in text, "the rollback did that"
    assert len(lines) <= _ROWS
    assert machine.subvolume_paths() == before
    done(machine.root, "undo", "--yes", "--to-replaced")
    assert (machine.next_root() / "etc/hosts").read_text() == "edited\n"


def test_a_copy_of_the_target_runs_already(upgraded: tuple[Machine, str], tmp_path: Path) -> None:
    machine, first = upgraded
    second = machine.upgrade(9)
    ids = {name: row["id"] for name, row in listed(machine).items()}
    done(machine.root, "rollback", "--yes")
    machine.reboot()
    text = _joined(_screen(machine, "rollback"))
    already = f"runs a copy of {ids[second]} ({second})"
    assert text.startswith(f"This machine already {already}, so this goes back to the next older")
    assert text.endswith(f"Roll back to {ids[first]} ({first})? [y/N]")
    ended = fs_rollback(machine.root, "rollback", "--yes")
    ended.expect_refusal(already, f"--yes {ids[first]}", f"--yes {ids[second]}")
    text = _joined(_screen(machine, "rollback", second))
    assert f"This machine already {already}: only changes made since then revert." in text
    assert "Packages none" in " ".join(text.split())
    done(machine.root, "rollback", "--yes", second)


def test_latest_and_no_argument(named: Machine) -> None:
    name = named.upgrade()
    words = ("rollback", "--dry-run", "--json")
    both = done(named.root, *words).json, done(named.root, *words, "latest").json
    assert [(a["target"], a["notes"]) for a in both] == [(name, [])] * 2
    taken = named.take("by hand")
    usual, latest = done(named.root, *words).json, done(named.root, *words, "latest").json
    assert (usual["target"], latest["target"]) == (name, taken)
    assert taken in usual["notes"][0]
    assert name in latest["notes"][0]


def test_what_takes_long_is_shown_and_may_be_left_out(upgraded: tuple[Machine, str]) -> None:
    machine, _ = upgraded
    many = machine.root / "var/lib/many"
    many.mkdir()
    for number in range(80_000):
        os.mknod(many / str(number))
    terminal = on_terminal(machine.root, "rollback")
    terminal.read_until(r"comparing files: \d+ %, \d s; Ctrl-C skips it")
    # It does not come to its end while the key is on its way.
    os.kill(terminal.process, signal.SIGSTOP)
    terminal.type("\x03")
    os.kill(terminal.process, signal.SIGCONT)
    terminal.read_until(r"\[y/N\] $")
    text = _joined(terminal.text.splitlines())
    assert "Warning: files could not be compared: interrupted" in text
    assert "1 removed, 60 reverted" in text, "the rest is known"
    terminal.type("y\n")
    assert (terminal.end(), terminal.text.count("[y/N]")) == (0, 1), terminal.text
    assert not (machine.next_root() / "var/lib/many").exists()
