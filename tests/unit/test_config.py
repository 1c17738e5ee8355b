# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest

from fs_rollback.config import SETTINGS, BrokenConfigError, Config, parse
from fs_rollback.core.snapshots.retention import Policy
from fs_rollback.core.snapshots.space import Amount

SHIPPED = Path(__file__).parents[2] / "etc/fs-rollback.conf"


def _problem(text: str) -> BrokenConfigError:
    with pytest.raises(BrokenConfigError) as caught:
        parse(text, "/etc/fs-rollback.conf")
    assert caught.value.exit_code == 2
    return caught.value


def test_the_defaults_are_the_safe_choices() -> None:
    defaults = Config()
    assert defaults.on_failure == "abort"
    assert defaults.keep == ("/home", "/root", "/srv", "/var/log")
    assert defaults.policy == Policy(20, 30, keep_replaced_days=14, keep_important=5)
    assert parse("", "x") == defaults


def test_the_shipped_file_changes_nothing() -> None:
    text = SHIPPED.read_text()
    assert parse(text, "x") == Config()
    lines = [line for line in text.splitlines() if line]
    assert all(line.startswith("#") for line in lines)


def test_the_shipped_file_uncommented_is_the_defaults_and_has_every_key() -> None:
    lines = SHIPPED.read_text().splitlines()
    settings = [line[1:] for line in lines if line.startswith("#") and not line.startswith("# ")]
    keys = [line.partition("=")[0].strip() for line in settings if line]
    assert keys == list(SETTINGS)
    assert set(keys) == set(Config._fields)
    assert parse("\n".join(settings), "x") == Config()


def test_every_key_can_be_set() -> None:
    text = (
        "# a comment\n\n  on_failure=warn\npost_snapshot = yes\n\tkeep_last = 0\nkeep_days=1\n"
        "keep_replaced_days =2\nkeep = /home /var//lib/x/ \r\n"
    )
    assert parse(text, "x") == Config("warn", True, 0, 1, 2, ("/home", "/var/lib/x"))


def test_what_keeps_more_and_less() -> None:
    text = "keep_important = 2\nimportant_packages = postgresql* lib[ab]c++\nmin_free = 10%\n"
    policy = parse(text, "x").policy
    assert policy.keep_important == 2
    assert policy.important_packages == ("postgresql*", "lib[ab]c++")
    assert policy.min_free == Amount(10, "%")
    units = ("getty@tty1.service", "dev-sda1.device")
    assert parse(f"health_units = {' '.join(units)}\n", "x").health_units == units
    assert parse("important_packages =\nmin_free = 0G\n", "x") == Config()


def test_keep_may_be_empty() -> None:
    assert parse("keep =\n", "x").keep == ()


@pytest.mark.parametrize(
    ("line", "allowed"),
    [
        ("on_failure = Abort", "abort or warn"),
        ("on_failure =", "abort or warn"),
        ("post_snapshot = true", "yes or no"),
        ("post_snapshot = 1", "yes or no"),
        ("keep_last = -1", "0 or more"),
        ("keep_last = ten", "0 or more"),
        ("keep_last = 1.5", "0 or more"),
        ("keep_last = 20 # twenty", "0 or more. A comment needs a line of its own."),
        ("keep_days = \u0663", "0 or more"),
        ("keep_days = \u00b2", "0 or more"),
        ("keep_replaced_days = 14d", "days, 0 or more"),
        ("keep_important = -5", "0 or more"),
        ("keep_important = all", "0 or more"),
        ("health_units = sshd.service getty@.service", "unit names separated by blanks"),
        ("health_units = getty@", "unit names"),
        ("health_units = --all", "unit names"),
        ("health_units = ssh*", "unit names"),
        ("important_packages = kernel, glibc", "package names or patterns separated by blanks"),
        ("important_packages = kernel;glibc", "package names"),
        ("important_packages = /usr/bin/x", "package names"),
        ("min_free = 10", "a share like 10%, a size like 5G, or 0"),
        ("min_free = 10 %", "a size like 5G"),
        ("min_free = 100%", "a size like 5G"),
        ("min_free = -1G", "a size like 5G"),
        ("min_free = 1.5G", "a size like 5G"),
        ("min_free = 5g", "a size like 5G"),
        ("min_free = 5G # or so", "A comment needs a line of its own."),
        ("min_free =", "a size like 5G"),
        ("min_free = \u0663%", "a size like 5G"),
        ("keep = home", "absolute paths"),
        ("keep = /home, /root", "absolute paths"),
        ("keep = /home,/root", "absolute paths"),
        ("keep = /home;", "absolute paths"),
        ("keep = /a\0b", "absolute paths"),
        ("keep = /home/../etc", "absolute paths"),
        ("keep = ~", "absolute paths"),
    ],
)
def test_a_wrong_value_names_file_line_key_and_what_is_allowed(line: str, allowed: str) -> None:
    text = f"# first\n\n{line}\n"
    error = _problem(text)
    key = line.partition(" ")[0]
    assert f"/etc/fs-rollback.conf line 3: {key} cannot be" in str(error)
    assert allowed in error.hint


def test_an_unknown_key_names_the_known_ones() -> None:
    error = _problem("keep_first = 3\n")
    assert "line 1: unknown key 'keep_first'" in str(error)
    assert all(key in error.hint for key in SETTINGS)


def test_a_line_without_an_equals_sign() -> None:
    assert "line 2 is not 'key = value': 'keep_last 20'" in str(_problem("\nkeep_last 20\n"))
    assert "line 1" in str(_problem("[main]\n"))


def test_lines_are_counted_as_an_editor_does() -> None:
    assert "line 2:" in str(_problem("# one \u2028 line \x0c still\nkeep_last = x\n"))


def test_all_problems_are_told_at_once() -> None:
    error = _problem("keep_last = x\nnonsense\nfoo = 1\n")
    assert [f"line {number}" in str(error) for number in (1, 2, 3)] == [True] * 3
    assert str(_problem("nonsense\n" * 1000)).endswith("; and 995 more lines")


def test_on_failure_survives_an_error_elsewhere() -> None:
    # Who asked for "warn" gets it though another line is wrong, and who asked for "abort" too.
    for choice in ("warn", "abort"):
        for text in (f"keep_last = x\non_failure = {choice}\n", f"on_failure = {choice}\n?\n"):
            assert _problem(text).usable.on_failure == choice
    assert _problem("on_failure = wran\nkeep_days = 3\n").usable == Config(keep_days=3)


def test_a_number_beyond_all_reason_is_a_century() -> None:
    assert parse("keep_days = 99999999999\n", "x").keep_days == 36500
    _problem(f"keep_days = {'9' * 10_000}x\n")
