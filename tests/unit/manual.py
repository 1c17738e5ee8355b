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
from fs_rollback.cli.screen.findings import Wording, findings_json
from fs_rollback.core.boot.findings import Finding, Grade

sys.path.append(str(Path(__file__).parents[2] / "packaging"))
from answer_schemas import (  # the build makes the installed schemas with it
    DIALECT,
    Key,
    commands,
    documented_keys,
    page,
    schema,
)

__all__ = (
    "DIALECT",
    "Key",
    "commands",
    "documented_keys",
    "page",
    "schema",
)

PAGES = Path(__file__).parents[2] / "packaging" / "man"
CONVERSION = "fs-rollback-convert.8"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")


def read(name: str) -> str:
    """Return the text of a page."""
    return (PAGES / f"{name}.rst").read_text(encoding="utf-8")


def parts(text: str, underline: str) -> dict[str, str]:
    """Return what is below each title with this underline, by the title as it was written."""
    lines = text.splitlines()
    starts = [
        number
        for number, (title, line) in enumerate(zip(lines, lines[1:]))
        if title and not set(title) <= set("=-") and line and set(line) == {underline}
    ]
    ends = [*starts[1:], len(lines)]
    return {lines[a]: "\n".join(lines[a + 2 : b]) for a, b in zip(starts, ends)}


def chapter(name: str, title: str) -> str:
    """Return a chapter of a page."""
    return parts(read(name), "=")[title]


def definitions(text: str) -> list[tuple[str, str]]:
    """Return each term of the definition lists with its definition, a line a paragraph."""
    lines = text.splitlines()
    found: list[tuple[str, str]] = []
    for number, (term, line) in enumerate(zip(lines, lines[1:])):
        if term and not term.startswith(" ") and line.startswith("    "):
            body: list[str] = []
            for following in lines[number + 1 :]:
                if following and not following.startswith("    "):
                    break
                body.append(following.strip())
            paragraphs = "\n".join(body).strip().split("\n\n")
            found.append((term, "\n".join(" ".join(p.split("\n")) for p in paragraphs)))
    return found


def values(key: Key) -> set[str]:
    """Return the values that the schema names."""
    return set(key.values) or set(re.findall("`(.+?)`", key.text))


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
    """Return the parser of each command but `convert`, which has actions, and `help`."""
    return {
        name: found for name, found in _choices(parser()).items() if name not in ("convert", "help")
    }


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
