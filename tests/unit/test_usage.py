# SPDX-License-Identifier: GPL-2.0-or-later
"""What a person sees who asks for help, and who has mistyped something."""

from __future__ import annotations

import re
from itertools import chain

import pytest

from fs_rollback.cli.arguments import COMMANDS
from fs_rollback.core.columns import width
from tests.unit.test_cli import exit_of

# What each of them takes so that nothing is missing.
_WORDS = {
    "show": "1", "diff": "1", "pin": "1", "unpin": "1", "delete": "1", "restore": "1 /etc",
    "mount": "1", "shell": "1", "try": "1", "guard": "on",
}  # fmt: skip


def wrong(line: str, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Return the first line of the usage, and what is wrong with a command line."""
    code, out, err = exit_of(line.split(), capsys)
    assert (code, out) == (2, "")
    usage, *more = err.splitlines()
    assert all(line.startswith("  ") for line in more[:-1]), "one line says what is wrong"
    return usage, more[-1]


def expect_usage(name: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Check what is said of options that a command does not have."""
    usage, said = wrong(f"{name} {words} --debgu", capsys)
    assert usage.startswith(f"usage: fs-rollback {name} ")
    assert said == f"fs-rollback {name}: unknown option '--debgu'. Did you mean '--debug'?"
    _, said = wrong(f"{name} {words} --nothing-like-this=1", capsys)
    assert said == f"fs-rollback {name}: unknown option '--nothing-like-this'"


@pytest.mark.parametrize("name", COMMANDS)
def test_what_is_wrong_is_said_below_the_usage_of_the_command(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_usage(name, _WORDS.get(name, ""), capsys)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_argument_too_many(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in ("pin", "unpin", "delete", "restore", "shell"):
        return  # they take any number
    more = {"diff": "2", "mount": "/mnt", "log": "1", "umount": "1", "rollback": "1"}
    words = f"{name} {_WORDS.get(name, '')} {more.get(name, '')} one-more"
    usage, said = wrong(words, capsys)
    assert usage.startswith(f"usage: fs-rollback {name} ")
    assert said == f"fs-rollback {name}: unexpected argument 'one-more'"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("lsit", "fs-rollback: there is no command 'lsit'. Did you mean 'list'?"),
        ("LIST", "fs-rollback: there is no command 'LIST'. Did you mean 'list'?"),
        ("rolback 260", "fs-rollback: there is no command 'rolback'. Did you mean 'rollback'?"),
        ("version", "fs-rollback: there is no command 'version'. Did you mean '--version'?"),
        ("--list", "fs-rollback: unknown option '--list'. Did you mean 'list'?"),
        ("help lsit", "fs-rollback: there is no command 'lsit'. Did you mean 'list'?"),
        ("frob", "fs-rollback: there is no command 'frob'. 'fs-rollback --help' lists all"),
        ("-V", "fs-rollback: unknown option '-V'"),
        ("--json list", "fs-rollback: put --json after the command"),
        ("--root=/mnt list", "fs-rollback: put --root after the command"),
        ("guard of", "fs-rollback guard: there is no action 'of'. Did you mean 'off'?"),
        ("guard", "fs-rollback guard: the following arguments are required: ACTION"),
        ("lis\x1bt", "fs-rollback: there is no command 'lis\\x1bt'. Did you mean 'list'?"),
    ],
)  # fmt: skip
def test_a_guess_is_said_and_never_acted_on(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert wrong(line, capsys)[1] == said


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("help", "--help"),
        ("-h", "--help"),
        ("help list", "list --help"),
        ("help guard on", "guard --help"),
        ("help --help", "--help"),
    ],
)
def test_help_in_every_way_to_ask_for_it(
    line: str, same: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = exit_of(line.split(), capsys)
    assert (code, err) == (0, "")
    assert out == exit_of(same.split(), capsys)[1]
    assert out.startswith("usage: fs-rollback ")


def test_help_of_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = exit_of(["help", "help"], capsys)
    assert (code, out.splitlines()[0]) == (0, "usage: fs-rollback help [-h] [COMMAND] [ACTION]")


def expect_to_fit(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Check that the help of a command fits the screen, whatever $COLUMNS says."""
    for columns in ("80", "garbage", "40", "1", "-7", "99999999999"):
        monkeypatch.setenv("COLUMNS", columns)
        _, out, _ = exit_of([*name.split(), "--help"], capsys)
        assert out.isascii()
        assert "None" not in out
        if columns in ("80", "garbage"):
            assert max(map(width, out.splitlines())) <= 80


@pytest.mark.parametrize("name", ["", *COMMANDS, "help"])
def test_help_fits_the_screen_in_plain_characters(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_to_fit(name, capsys, monkeypatch)


def test_the_help_groups_the_commands_and_names_the_manual_page(
    capsys: pytest.CaptureFixture[str],
) -> None:
    _, out, _ = exit_of(["--help"], capsys)
    groups = re.findall(r"^(\w.*):\n((?:    .*\n)+)", out, re.MULTILINE)
    listed = [re.findall(r"^    (\w+) ", rows, re.MULTILINE) for _, rows in groups]
    assert list(chain(*listed)) == [*COMMANDS, "convert", "help"]
    assert len(groups) > 4
    assert "'man fs-rollback'" in out
    assert "fs-rollback(8)" in out
