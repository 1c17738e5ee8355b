# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import io
import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import pytest

from fs_rollback import __version__
from fs_rollback.cli import session, terminal
from fs_rollback.cli.main import main
from fs_rollback.cli.reading.list import COMMAND
from fs_rollback.errors import RefusedError, UndoFailedError, UsageError

PACKAGE = Path(__file__).parents[2] / "rollback"
COMMON = {"--help", "--root", "--debug", "--color"}
_ROLLING = {"--json", "--dry-run", "--yes", "--keep", "--no-keep"}
# The command line is an interface: scripts and fingers know it.
COMMANDS: dict[str, set[str]] = {
    "status": {"--json"},
    "check": {"--json"},
    "list": {"--json", "--size"},
    "show": {"--json"},
    "diff": {"--json", "--etc", "--path", "--patch", "--changelog", "--all"},
    "log": {"--json"},
    "create": {"--json", "--message"},
    "pin": {"--json"},
    "unpin": {"--json"},
    "delete": {"--json", "--dry-run"},
    "prune": {"--json", "--dry-run"},
    "restore": {"--json", "--dry-run", "--yes", "--aside"},
    "mount": {"--json"},
    "umount": {"--json"},
    "shell": set(),
    "rollback": _ROLLING,
    "try": {"--json"},
    "undo": _ROLLING | {"--to-replaced"},
    "settle": {"--json", "--at-boot", "--missed"},
    "guard": {"--json"},
}


def exit_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[object, str, str]:
    with pytest.raises(SystemExit) as caught:
        sys.exit(main(arguments))
    captured = capsys.readouterr()
    return caught.value.code, captured.out, captured.err


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = exit_of([command, "--help"], capsys)
    assert (code, err) == (0, "")
    assert set(re.findall(r"--[a-z-]+", out)) >= COMMON | COMMANDS[command]
    assert f"fs-rollback {command}" in out
    named = command in (
        "show", "diff", "log", "pin", "unpin", "delete", "restore", "mount", "umount", "shell",
        "rollback", "try",
    )  # fmt: skip
    assert ("SNAPSHOT" in out) == named


def test_help_names_every_command_and_every_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = exit_of(["--help"], capsys)
    assert code == 0
    listed = re.findall(r"^    (\w+) ", out, re.MULTILINE)
    assert listed == [*COMMANDS, "convert", "help"]
    codes = out.partition("Exit status:")[2]
    assert re.findall(r"(?:^|[ \n])(\d+) ", codes) == ["0", "1", "2", "3", "4", "130"]


def test_without_a_command_the_help_ends_with_what_helps_at_night(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = exit_of([], capsys)
    _, whole, _ = exit_of(["--help"], capsys)
    assert (code, out) == (2, "")
    assert err == f"{whole}\nAfter a bad upgrade: fs-rollback rollback\n"


def test_shell_needs_no_command(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = exit_of(["shell"], capsys)
    assert (code, "SNAPSHOT [-- COMMAND ...]\n" in err) == (2, True)
    assert err.endswith("the following arguments are required: SNAPSHOT\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = exit_of(["--version"], capsys)
    assert (code, out) == (0, f"fs-rollback {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["frobnicate"],
        ["lis"],
        ["list", "extra"],
        ["list", "--jso"],
        ["list", "--yes"],
        ["show"],
        ["show", "1", "2"],
        ["pin"],
        ["delete"],
        ["create", "-m"],
        ["rollback", "1", "2"],
        ["rollback", "--keep"],
        ["undo", "1"],
        ["prune", "--yes"],
    ],
    ids=" ".join,
)
def test_what_is_no_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = exit_of(arguments, capsys)
    assert (code, out) == (2, "")
    assert "usage: fs-rollback" in err


@pytest.mark.parametrize(
    "words",
    [
        ["mount", "260", ""],
        ["mount", ""],
        ["umount", ""],
        ["restore", "260", "/etc/fstab", "--aside", ""],
        ["restore", "260", "/etc/fstab", ""],
        ["rollback", "--keep", "", "260"],
        ["diff", "260", "--path="],
        ["diff", "260", ""],
        ["list", "--root", ""],
        ["status", "--device", ""],
        ["delete", "260", ""],
        ["shell", ""],
    ],
)
def test_nothing_is_no_path(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """As a script gives it whose variable is not set: it means no working directory."""
    code, out, err = exit_of(words, capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"fs-rollback: an argument is empty: fs-rollback {words[0]} ")
    assert len(err.splitlines()) == 2


@pytest.mark.parametrize("words", [["create", "-m", ""], ["shell", "260", "--", "printf", ""]])
def test_a_text_may_be_empty(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """It goes on to what is wrong besides: with the directory, or with who asks."""
    _, _, err = exit_of([words[0], "--root", "/no/where", *words[1:]], capsys)
    assert err.startswith("fs-rollback: ")
    assert "an argument is empty" not in err


@pytest.mark.parametrize(
    "error",
    [
        UsageError("no such thing", hint="Try another."),
        RefusedError("not this", hint="Do that first."),
        UndoFailedError("so did the way back", commands=["do this by hand"]),
        OSError("the disk is on fire"),
        KeyboardInterrupt(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_debug_hides_nothing_and_leaves_the_exit_code(
    error: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_args: object) -> int:
        raise error

    monkeypatch.setattr("fs_rollback.cli.reading.list.COMMAND", COMMAND._replace(run=fail))
    code, out, plain = exit_of(["list"], capsys)
    assert code in (1, 2, 3, 4, 130)
    told = exit_of(["list", "--debug"], capsys)
    assert told[:2] == (code, out)
    assert "Traceback" in told[2]
    assert "in fail" in told[2]
    said = plain.replace("\n  --debug shows where this happened.", "")
    assert told[2].endswith(said)


_HEAVY = (
    "btrfsutil",
    "ctypes",
    "dnf",
    "libdnf",
    "rpm",
    "subprocess",
    "tabulate",
    "fs_rollback.report",
)


def test_the_command_starts_light() -> None:
    # In a fresh interpreter that sees the site's packages, as the installed command does.
    program = (
        f"import sys; sys.path.insert(0, {str(PACKAGE)!r});"
        " from fs_rollback.cli.main import main\n"
        "try: main(['frobnicate'])\n"
        "except SystemExit: pass\n"
        f"print(*[name for name in {_HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run(
        (sys.executable, "-c", program), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


# As the installed command does it.
_PROGRAM = (
    f"import sys; sys.path.insert(0, {str(PACKAGE)!r});"
    " from fs_rollback.cli.main import program; program()"
)


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["list", "--help"]], ids=" ".join)
def test_help_needs_nothing_but_python(arguments: list[str]) -> None:
    # -S: no installed packages at all, neither btrfsutil nor tabulate.
    command = (sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(("fs-rollback ", "usage: "))


@pytest.mark.parametrize(
    ("arguments", "place", "code"),
    [("--version", "/dev/null", 0), ("--version", "/dev/full", 1), ("frobnicate", "/dev/null", 2)],
)
def test_the_process_ends_with_the_code_of_the_command(
    arguments: str, place: str, code: int
) -> None:
    command = (sys.executable, "-c", _PROGRAM, arguments)
    with open(place, "wb") as out:
        done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, bool(done.stderr)) == (code, code != 0)


class _ReaderGone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


@pytest.mark.parametrize("as_json", [False, True])
def test_a_change_ends_with_its_code_though_nobody_reads(
    as_json: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", _ReaderGone())
    asked = Namespace(json=as_json, dry_run=False)
    assert session.reply(asked, {"done": True}, "Taken back.") == 0
    assert session.unchanged(asked, {"done": False}) == 1


def test_a_change_without_words_ends_without_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert session.reply(Namespace(json=False), {"done": True}, "") == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("said", "command"),
    [
        (
            "this machine's disk is full: 'fs-rollback delete 258 260 261 262 263' deletes the"
            " system's five oldest snapshots and gives back 3.1 GiB",
            "'fs-rollback delete 258 260 261 262 263'",
        ),
        (
            "Look there, or unmount it first: fs-rollback umount yum_20261128202327",
            "fs-rollback umount yum_20261128202327",
        ),
    ],
)
def test_no_line_ends_in_a_command(said: str, command: str) -> None:
    lines = terminal.wrapped("", said, 2, 36)
    assert [line for line in lines if len(line) > 36 and command not in line] == []
    assert " ".join(map(str.strip, lines)) == said
    assert any(command in line for line in lines)
