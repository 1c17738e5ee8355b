# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual page of the wing against the program, and what all pages and commands share."""

from __future__ import annotations

import re

from fs_rollback.cli.arguments import parser
from tests.unit.manual import (
    CONVERSION,
    OPTION,
    PAGES,
    chapter,
    commands,
    common_options,
    conversion,
    defined_options,
    expect_whole,
    options,
    parts,
    plain,
    subparsers,
)

ALL_PAGES = sorted(PAGES.glob("*.rst"))


def test_the_actions_of_convert() -> None:
    sections = parts(chapter(CONVERSION, "COMMANDS"), "-")
    assert list(sections) == list(conversion())
    synopsis = plain(chapter(CONVERSION, "SYNOPSIS"))
    assert re.findall(r"fs-rollback convert (\w+)", synopsis) == list(conversion())
    for action, found in conversion().items():
        assert common_options() - {"--version"} <= options(found)
        assert defined_options(sections[action]) == options(found) - common_options(), action


def test_the_common_options_are_those_of_every_command() -> None:
    every = (*subparsers().values(), *conversion().values())
    everywhere = set.intersection(*map(options, every))
    assert common_options() == everywhere | options(parser())
    text = chapter("fs-rollback.8", "OPTIONS")
    assert set(OPTION.findall(text)) <= common_options()
    for action in subparsers()["list"]._actions:
        if action.metavar and action.dest in ("root", "device"):
            assert f"**{action.option_strings[0]}** *{action.metavar}*" in text


def test_every_option_on_any_page_exists() -> None:
    """Those of other programs are named here."""
    others = {"--disableplugin", "--disable-plugin", "--noplugins", "--no-plugins",
              "--installroot", "--downloadonly", "--assumeno",
              "--fs", "--now", "--rbind", "--make-rslave", "--recursive",
              "--readonly", "--failed", "--modules", "--kver",
              "--sysroot", "--no-hostonly"}  # fmt: skip
    every = (*subparsers().values(), *conversion().values())
    ours = set.union(common_options(), *map(options, every))
    for page in ALL_PAGES:
        assert set(OPTION.findall(page.read_text())) <= ours | others, page.name


def test_the_answers_of_actions_are_documented() -> None:
    actions = [name for name, found in conversion().items() if "--json" in options(found)]
    documented = [command for command in commands() if command.startswith("convert ")]
    assert documented == sorted(f"convert {action}" for action in actions)
    for command in documented:
        expect_whole(command)
