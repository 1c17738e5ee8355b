# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the command is run: in a chroot, without a terminal, in pipes that end, in any locale."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

from tests.kernel.commands import Done, arguments, done, environment, fs_rollback, on_terminal
from tests.kernel.machine import Machine

# Every command that only looks, and the two other things that are printed.
_LOOKING = (
    "status", "check", "list", "list --size", "show latest", "diff latest", "log", "guard status",
    "prune --dry-run", "delete latest --dry-run", "rollback latest --dry-run", "convert check",
    "restore latest /etc/app.conf --dry-run",
)  # fmt: skip
_WITH_JSON = [line for line in _LOOKING if line != "list --size"]
_EVERY = [*_LOOKING, *(f"{line} --json" for line in _WITH_JSON), "list --help", "--help", "help"]


def _in_shell(machine: Machine, line: str, rest: str = "", before: str = "", **env: str) -> Done:
    """Run a command line with redirections, in a mount table of its own that `before` changes."""
    words = arguments(machine.root, line.split())
    if line in ("--help", "help", "--version"):  # without --root
        words = [*words[: words.index("--root") - 1], line]
    text = f"{before}\n{shlex.join(words)} {rest}"
    ended = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "bash", "-c", text],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/", timeout=120,
        env=environment(**env),
    )  # fmt: skip
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "Exception ignored" not in ended.stderr, ended.stderr
    return Done(ended.returncode, ended.stdout, ended.stderr)


def _plain(machine: Machine, line: str) -> Done:
    return _in_shell(machine, line)


@pytest.mark.parametrize("line", [*_EVERY, "--version"])
def test_a_full_disk_is_said_in_one_line(named: Machine, line: str) -> None:
    done(named.root, "delete", named.take("first"))  # `log` has something to tell
    named.take("second")
    usual = _plain(named, line)
    full = _in_shell(named, line, ">/dev/full")
    assert full.code == (usual.code or 1)
    assert full.err.splitlines()[-1] == (
        "fs-rollback: cannot write the answer: No space left on device"
    )
    assert full.err.count("cannot write") == 1


@pytest.mark.parametrize(
    "rest", [">&-", "2>&-", "<&-", "<&- >&- 2>&-", "2>/dev/full", "2>&1 | true"]
)
def test_streams_that_are_closed_or_full_change_no_code(named: Machine, rest: str) -> None:
    named.take("first")
    for line in ("list", "status --json", "check", "show nothing", "list --bogus", "--help"):
        end = "" if "|" not in rest else "; exit ${PIPESTATUS[0]}"
        assert _in_shell(named, line, rest + end).code == _plain(named, line).code, line


def test_a_change_whose_reader_has_gone_has_its_own_code(named: Machine) -> None:
    for line in ("create", "settle", "prune", "umount"):
        assert _in_shell(named, line, "2>&1 | true; exit ${PIPESTATUS[0]}").code == 0, line


def test_a_long_answer_whose_reader_goes_ends_without_a_word(named: Machine) -> None:
    named.take("first")
    for number in range(3000):
        (named.root / f"etc/{number:0100}").touch()
    ended = _in_shell(named, "diff latest --all", "| head -1; exit ${PIPESTATUS[0]}")
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("From ")


_NO_PROC = "umount --lazy /proc"
_EMPTY_PROC = "mount -t tmpfs none /proc"


@pytest.mark.parametrize("before", [_NO_PROC, _EMPTY_PROC])
@pytest.mark.parametrize("line", [*_LOOKING, "create", "mount latest", "umount", "settle", "undo"])
def test_a_chroot_without_proc_is_told_what_to_mount(
    named: Machine, line: str, before: str
) -> None:
    name = named.take("first")
    ended = _in_shell(named, line, before=before)
    ended.expect_refusal("/proc is not mounted here. Run: mount -t proc proc /proc", code=1)
    assert [taken.name for taken in named.snapshots()] == [name]


def test_the_help_needs_neither_proc_nor_dev(named: Machine) -> None:
    for line in ("--help", "help", "--version", "list --help"):
        for rest in ("", ">&-", "<&-"):
            gone = _in_shell(named, line, rest, f"{_NO_PROC}; mount -t tmpfs none /dev")
            assert (gone.code, gone.err) == (0, ""), (line, rest)


@pytest.mark.parametrize("line", ["status", "list", "create", "rollback latest --yes"])
def test_a_chroot_without_dev_is_told_what_to_mount(named: Machine, line: str) -> None:
    name = named.take("first")
    elsewhere = f"mount --bind {named.root} /mnt; mount -t tmpfs none /dev"
    words = arguments(named.root, line.split())
    words[words.index("--root") + 1] = "/mnt"  # the machine may lie in /dev/shm
    ended = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-c",
         f"{elsewhere}; exec {shlex.join(words)}"],
        stdin=subprocess.PIPE, capture_output=True, text=True, check=False, cwd="/",
        env=environment(),
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "/dev is not mounted here. Run: mount -t devtmpfs devtmpfs /dev" in ended.stderr
    assert [taken.name for taken in named.snapshots()] == [name]


@pytest.mark.parametrize("line", [*_LOOKING, "create"])
def test_without_sys_everything_is_as_ever(named: Machine, line: str) -> None:
    named.take("first")
    usual = _plain(named, line)
    without = _in_shell(named, line, before="umount --recursive --lazy /sys")
    assert without.code == usual.code
    assert "Errno" not in without.err + without.out


_NAME = "Größe 大"


@pytest.mark.parametrize("locale", ["C", "POSIX", "C.UTF-8", "xx_YY.ISO-8859-1"])
@pytest.mark.parametrize("mode", ["", "0"])
def test_names_in_utf_8_in_any_locale(named: Machine, locale: str, mode: str) -> None:
    """Where Python speaks ASCII alone (mode 0) a name is written out; JSON is the same always."""
    env = {"LC_ALL": locale, **({"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"} if mode else {})}
    named.take(_NAME)
    (named.root / "etc" / _NAME).touch()
    for line in ("list", "show latest", "diff latest", "restore latest /etc --dry-run"):
        assert fs_rollback(named.root, *line.split(), env=env).code in (0, 3), line
    told = fs_rollback(named.root, "show", "latest", "--json", env=env)
    assert told.json["snapshot"]["description"] == _NAME
    if not (mode and locale != "C.UTF-8"):
        assert f"/etc/{_NAME}" in fs_rollback(named.root, "diff", "latest", env=env).out
    rows = map(
        json.loads, fs_rollback(named.root, "diff", "latest", "--json", env=env).out.splitlines()
    )
    (added,) = (row["file"]["path"] for row in rows if "file" in row)
    assert os.fsencode(added) == f"/etc/{_NAME}".encode()


@pytest.mark.parametrize("columns", ["1", "0", "-5", "garbage", "1e3", "99999999999", ""])
def test_any_number_of_columns(named: Machine, columns: str) -> None:
    named.take("a description that is long enough to be cut on a terminal that is not wide")
    for line in ("list", "status", "check", "prune --dry-run", "rollback latest --dry-run"):
        words = line.split()
        terminal = on_terminal(named.root, *words, env={"COLUMNS": columns, "TERM": "xterm"})
        assert terminal.end() == fs_rollback(named.root, *words).code


@pytest.mark.parametrize("rest", ["<&-", "</dev/null", "< <(echo y)"])
def test_a_question_that_nobody_can_answer(named: Machine, rest: str) -> None:
    named.take("first")
    for line in ("rollback latest", "restore latest /etc/app.conf"):
        ended = _in_shell(named, line, rest)
        assert ended.code == 2
        assert ended.err.endswith(
            "fs-rollback: no terminal to ask on\n  Use --yes to proceed without asking.\n"
        )
    assert named.read("etc/app.conf") == "setting 1\n"


@pytest.mark.parametrize("key", ["\x04", "\x03", "n\n", "maybe\n", "\n"])
def test_an_answer_that_is_no_yes(named: Machine, key: str) -> None:
    named.take("first")
    Machine.write(named.root, "etc/app.conf", "setting 2\n")
    terminal = on_terminal(named.root, "restore", "latest", "/etc/app.conf")
    terminal.read_until(r"\[y/N\]")
    terminal.type(key)
    assert terminal.end() == (130 if key == "\x03" else 1)
    assert named.read("etc/app.conf") == "setting 2\n"


def test_a_wrong_time_zone_is_said_and_names_a_snapshot_in_utc(named: Machine) -> None:
    for zone in ("Nowhere/Land", "UTC+99"):
        ended = fs_rollback(named.root, "create", env={"TZ": zone})
        assert (ended.code, ended.err) == (
            0, f"fs-rollback: unknown time zone '{zone}' in TZ: times are in UTC\n",
        )  # fmt: skip
    taken = named.snapshots()[-1]
    assert f"{taken.created:%Y%m%d%H%M}" in taken.name
    shown = fs_rollback(named.root, "show", "latest", env={"TZ": "Nowhere/Land"})
    assert f"Date:        {taken.created:%Y-%m-%d %H:%M}\n" in shown.out
