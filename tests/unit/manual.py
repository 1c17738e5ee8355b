# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the manual pages, as far as tests need it: chapters, terms, and the answers in JSON."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Union

from jsonschema.validators import validator_for

from fs_rollback.cli.arguments import parser
from fs_rollback.core.boot.findings import Finding, Grade
from fs_rollback.report import Wording, findings_json

sys.path.append(str(Path(__file__).parents[2] / "packaging"))
from answer_schemas import (  # the build makes the installed schemas with it
    CONVERSION,
    DIALECT,
    PAGES,
    Key,
    answers,
    chapter,
    commands,
    definitions,
    documented_keys,
    parts,
    schema,
    values,
)

__all__ = (
    "CONVERSION",
    "DIALECT",
    "PAGES",
    "Key",
    "answers",
    "chapter",
    "commands",
    "definitions",
    "documented_keys",
    "parts",
    "schema",
    "values",
)

OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def plain(text: str) -> str:
    return re.sub(r"[*`\\]", "", text)


def differences(command: str, answer: Any, rows: str = "") -> list[str]:
    """Return where an answer in JSON and its schema disagree, in words; or one of its `rows`."""
    wanted = schema(command, strict=True)
    wanted = wanted["properties"][rows]["items"] if rows else wanted
    errors = validator_for(wanted)(wanted).iter_errors(answer)
    return [f"{_path(error.absolute_path)}: {error.message}" for error in errors]


def _path(steps: Iterable[Union[str, int]]) -> str:
    return "".join("[]" if isinstance(step, int) else f".{step}" for step in steps).lstrip(".")


def subparsers() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each command of the program, but for `convert`, which has actions."""
    return {name: found for name, found in _choices(parser()).items() if name != "convert"}


def conversion() -> dict[str, argparse.ArgumentParser]:
    """Return the parser of each action of `convert`."""
    return _choices(_choices(parser())["convert"])


def _choices(found: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    (action,) = (a for a in found._actions if isinstance(a, argparse._SubParsersAction))
    return dict(action.choices)


def options(found: argparse.ArgumentParser) -> set[str]:
    """Return every way to write an option of a command."""
    return {option for action in found._actions for option in action.option_strings}


def defined_options(text: str) -> set[str]:
    """Return the options that are terms of a definition list, bold as manual pages have them."""
    terms = [term for term, _ in definitions(text)]
    return {
        option for term in terms for option in re.findall(r"\*\*(--?[a-z][a-z0-9-]*)\*\*", term)
    }


def common_options() -> set[str]:
    """Return the options that the manual has for every command."""
    return defined_options(chapter("fs-rollback.8", "OPTIONS"))


def expect_whole(command: str) -> None:
    """Check that what the manual says of an answer hangs together."""
    keys = documented_keys(command)
    for path, key in keys.items():
        parent = path.rpartition(".")[0]
        if parent.endswith("[]"):
            assert keys[parent[:-2]].type == "array of objects", path
        elif parent:
            assert keys[parent].type == "object", path
        if key.type in ("object", "array of objects"):
            inside = path + ("." if key.type == "object" else "[].")
            assert any(other.startswith(inside) for other in keys), f"{path} has no keys"


def wrongly_worded(command: str, wording: Wording, found: Sequence[Finding]) -> list[str]:
    """Return where the page has other keys or words for what a command finds than the program."""
    wrong = differences(command, {"version": 1, **findings_json(found, wording)})
    keys = documented_keys(command)
    for path in ("verdict", f"{wording.rows}[].{wording.grade}"):
        if values(keys[path]) != {wording.words[grade] for grade in Grade}:
            wrong.append(path)
    return wrong
