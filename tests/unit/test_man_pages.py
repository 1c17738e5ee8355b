# SPDX-License-Identifier: GPL-2.0-or-later
"""The manual pages against the program: every command, option, key and exit code, and no other."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import pytest

from fs_rollback import config, errors
from tests.need import withhold
from tests.unit import manual
from tests.unit.manual import (
    OPTION,
    PAGES,
    chapter,
    common_options,
    defined_options,
    definitions,
    options,
    parts,
    plain,
    subparsers,
)

UNITS = PAGES.parent / "systemd"
ALL_PAGES = sorted(PAGES.glob("*.rst"))
# A terminal without a window system: 24 lines, and the last of them is the pager's.
SCREEN_LINES, SCREEN_COLUMNS = 23, 80
_RENDER = (
    "from docutils.core import publish_cmdline; from docutils.writers import manpage;"
    " publish_cmdline(writer=manpage.Writer())"
)
_FORMATTERS = (("man", "--local-file"), ("groff", "-man", "-Tutf8", "-P-cbou", "-rLL=80n"))


def _commands() -> dict[str, str]:
    return {plain(t).partition(" ")[0]: t for t in parts(chapter("fs-rollback.8", "COMMANDS"), "-")}


def _section(command: str) -> str:
    return parts(chapter("fs-rollback.8", "COMMANDS"), "-")[_commands()[command]]


def test_the_commands_are_those_of_the_program() -> None:
    assert list(_commands()) == [*subparsers(), "convert"]
    assert plain(_commands()["convert"]) == "convert ACTION"
    more: dict[object, str] = {None: " {}", "?": " [{}]", "+": " {}...", "*": " [{}...]"}
    for command, found in subparsers().items():
        taken = [a for a in found._actions if not a.option_strings]
        form = "".join(more[a.nargs].format(a.metavar) for a in taken)
        assert plain(_commands()[command]) == command + form


@pytest.mark.parametrize("command", subparsers())
def test_the_options_of_a_command(command: str) -> None:
    section, found = _section(command), subparsers()[command]
    assert defined_options(section) == options(found) - common_options()
    assert common_options() - {"--version"} <= options(found)
    unknown = set(OPTION.findall(section)) - options(found)
    assert not unknown, f"{command} has no such option"
    for action in found._actions:
        if (
            action.metavar
            and action.option_strings
            and not common_options() & {*action.option_strings}
        ):
            for option in action.option_strings:
                assert f"**{option}** *{action.metavar}*" in section


def _exit_codes(found: type[errors.Error]) -> set[int]:
    return {found.exit_code}.union(*map(_exit_codes, found.__subclasses__()))


def test_the_exit_codes() -> None:
    documented = [term for term, _ in definitions(chapter("fs-rollback.8", "EXIT STATUS"))]
    assert documented == [str(code) for code in sorted({0} | _exit_codes(errors.Error))]


def test_the_units() -> None:
    """They are in no command's section, but enabled by what the page says of them."""
    terms = " ".join(term for term, _ in definitions(chapter("fs-rollback.8", "UNITS")))
    units = {path.name for path in UNITS.iterdir() if path.suffix in (".service", ".timer")}
    assert set(re.findall(r"fs-rollback-\w+\.\w+", terms)) == units


# --- the configuration


def _as_written(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return " ".join(value) if type(value) is tuple else str(value)


def test_the_keys_of_the_configuration_and_their_defaults() -> None:
    found: dict[str, str] = {}
    for term, body in definitions(chapter("fs-rollback.conf.5", "KEYS")):
        key = re.match(r"\*\*(\w+)\*\* = \*", term)
        assert key, term
        (default,) = re.findall(r"^Default: (?:``(.*)``|nothing)$", body, re.MULTILINE)
        found[key[1]] = default
    assert list(found) == list(config.SETTINGS)
    assert found == {k: _as_written(v) for k, v in config.Config()._asdict().items()}


def test_the_values_that_are_allowed_for_a_key() -> None:
    for term, _ in definitions(chapter("fs-rollback.conf.5", "KEYS")):
        key, _, values = plain(term).partition(" = ")
        for value in values.split(" | ") if "|" in values else []:
            config.SETTINGS[key].parse(value)
        if "|" in values:
            assert config.SETTINGS[key].allowed == values.replace(" | ", " or ")


def test_the_example_of_a_configuration_is_one() -> None:
    text = chapter("fs-rollback.conf.5", "EXAMPLE")
    lines = [line for line in text.splitlines() if line.startswith("   ")]
    assert len(lines) > 3
    assert config.parse("\n".join(lines), "the manual") != config.Config()


# --- the pages as people see them


def _rendered(page: Path, place: Path) -> str:
    """Return a page as groff reads it; a warning is an error."""
    python = [sys.executable, "-c", _RENDER]
    program = shutil.which("rst2man") or shutil.which("rst2man.py")
    if importlib.util.find_spec("docutils") is not None:
        start: Sequence[str] = python
    elif program is not None:
        start = (program,)
    else:
        withhold("there is no docutils")
    source, made = place / page.name, place / page.stem
    source.write_text(manual.page() if page.stem == "fs-rollback-json.7" else page.read_text())
    done = subprocess.run(
        (*start, "--strict", os.fspath(source), os.fspath(made)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), f"{page.name}\n{done.stdout}"
    return made.read_text()


def _formatted(made: Path) -> Optional[str]:
    """Return a page as a terminal of 80 columns shows it; None where nothing here can tell."""
    environment = {**os.environ, "MANWIDTH": str(SCREEN_COLUMNS), "LC_ALL": "C.UTF-8"}
    for program, *words in _FORMATTERS:
        if shutil.which(program) is None:
            continue
        done = subprocess.run(
            (program, *words, os.fspath(made)),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if "\nNAME\n" in done.stdout:  # a container may have a man that only apologizes
            return done.stdout
    return None


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_a_page_renders_without_a_warning(page: Path, tmp_path: Path) -> None:
    made = _rendered(page, tmp_path)
    name, section = page.stem.rsplit(".", 1)
    (header,) = re.findall(r"^\.TH .*$", made, re.MULTILINE)
    words = [word.strip('"').lower() for word in header.replace("\\-", "-").split()]
    assert words[1:3] == [name, section]
    summary = made.replace("\\-", "-").partition(".SH NAME\n")[2]
    assert summary.startswith(f"{name} - "), "what whatis(1) and apropos(1) read"


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.name)
def test_no_line_ends_in_the_middle_of_a_word(page: Path, tmp_path: Path) -> None:
    """Half an option, path or code can neither be typed nor found by searching."""
    _rendered(page, tmp_path)
    lines = (_formatted(tmp_path / page.stem) or "").splitlines()
    assert [line for line in lines if line.endswith("\N{HYPHEN}")] == []


def test_the_pages_are_those_that_are_packaged() -> None:
    assert [page.stem for page in ALL_PAGES] == [
        "fs-rollback-convert.8", "fs-rollback-json.7", "fs-rollback.8", "fs-rollback.conf.5",
        "fs-snapshot.8",
    ]  # fmt: skip
    for page in ALL_PAGES:
        assert page.read_text().startswith(".. SPDX-License-Identifier: GPL-2.0-or-later\n")
        assert max(map(len, page.read_text().splitlines())) <= SCREEN_COLUMNS


def test_references_to_our_own_pages_lead_somewhere() -> None:
    ours = {page.stem for page in ALL_PAGES}
    for page in ALL_PAGES:
        found = re.findall(r"\*\*(fs-[\w.-]+)\*\*\\\((\d)\)", page.read_text())
        assert found
        assert {f"{name}.{section}" for name, section in found} <= ours


def test_the_worst_day_is_on_the_first_two_screens(tmp_path: Path) -> None:
    """What to do after a bad upgrade is on one screen, and a machine that does not boot follows."""
    titles = list(parts(manual.read("fs-rollback.8"), "="))
    bad, worse = "AFTER A BAD UPGRADE", "WHEN THE MACHINE DOES NOT COME UP"
    assert titles.index(worse) == titles.index(bad) + 1 < titles.index("COMMANDS")
    page = PAGES / "fs-rollback.8.rst"
    _rendered(page, tmp_path)
    shown = _formatted(tmp_path / page.stem)
    if shown is None:
        return
    lines = shown.splitlines()
    assert max(map(len, lines)) <= SCREEN_COLUMNS
    assert 10 < lines.index(worse) - lines.index(bad) <= SCREEN_LINES
    assert lines.index(worse) < 2 * SCREEN_LINES
