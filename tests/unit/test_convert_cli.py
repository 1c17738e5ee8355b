# SPDX-License-Identifier: GPL-2.0-or-later
"""The part of the command line that the wing has."""

from __future__ import annotations

import re

import pytest

from fs_rollback.cli.main import main
from fs_rollback.convert.commands.actions import ACTIONS
from tests.unit.test_cli import COMMON, exit_of
from tests.unit.test_command_files import PACKAGE, expect_convention, holds_command
from tests.unit.test_usage import expect_to_fit, expect_usage, wrong

_CHANGING = {"--yes", "--dry-run", "--json"}
CONVERT: dict[str, set[str]] = {
    "check": {"--json", "--have-backup"},
    "prepare": _CHANGING | {"--at-next-boot", "--have-backup"},
    "run": {"--yes", "--back", "--have-backup"},
    "finish": _CHANGING
    | {"--remove-ext4", "--defragment", "--balance", "--free-space-tree", "--layout"},
    "abort": _CHANGING,
}


@pytest.mark.parametrize("action", CONVERT)
def test_help_of_an_action(action: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = exit_of(["convert", action, "--help"], capsys)
    assert (code, err) == (0, "")
    assert set(re.findall(r"--[a-z][a-z0-9-]+", out)) >= COMMON | CONVERT[action]
    assert f"fs-rollback convert {action}" in out


def test_an_option_before_the_action_is_not_taken_for_nothing() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["convert", "--device", "/dev/null", "check"])
    assert caught.value.code == 2


def test_a_root_that_is_not_given(capsys: pytest.CaptureFixture[str]) -> None:
    """As a script does whose variable is not set: not the directory that it runs in."""
    code, out, err = exit_of(["convert", "abort", "--yes", "--root", ""], capsys)
    assert (code, out) == (2, "")
    assert "an argument is empty: fs-rollback convert abort --yes --root ''" in err


def test_an_action_has_a_file_of_its_own() -> None:
    room = PACKAGE / "convert/commands"
    for name in ACTIONS:
        expect_convention(f"convert {name}", room / f"{name}.py")
    assert {path.stem for path in room.glob("*.py") if holds_command(path)} == {*ACTIONS}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_is_wrong_is_said_below_the_usage_of_the_action(
    action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    expect_usage(f"convert {action}", "", capsys)
    usage, said = wrong(f"convert {action} one-more", capsys)
    assert usage.startswith(f"usage: fs-rollback convert {action} ")
    assert said == f"fs-rollback convert {action}: unexpected argument 'one-more'"


@pytest.mark.parametrize("start", ["", "help "])
def test_an_action_that_is_mistyped(start: str, capsys: pytest.CaptureFixture[str]) -> None:
    _, said = wrong(f"{start}convert chek", capsys)
    assert said == "fs-rollback convert: there is no action 'chek'. Did you mean 'check'?"


def test_an_option_before_the_action(capsys: pytest.CaptureFixture[str]) -> None:
    _, said = wrong("convert --device /dev/null check", capsys)
    assert said == "fs-rollback convert: put --device after the action"


@pytest.mark.parametrize("name", ["convert", *(f"convert {action}" for action in ACTIONS)])
def test_help_of_what_is_in_the_wing(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_to_fit(name, capsys, monkeypatch)
    said = exit_of(["help", *name.split()], capsys)
    assert said == exit_of([*name.split(), "--help"], capsys)
