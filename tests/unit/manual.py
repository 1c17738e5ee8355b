# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the manual pages, as far as tests need it: chapters, terms, and the answers in JSON."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from fs_rollback.cli.arguments import parser
from fs_rollback.core.boot.findings import Finding, Grade
from fs_rollback.report import Wording, findings_json

PAGES = Path(__file__).parents[2] / "packaging/man"
CONVERSION = "fs-rollback-convert.8"
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9-]*")
_TYPES: dict[str, type] = {
    "string": str, "integer": int, "boolean": bool, "object": dict,
    "array of strings": list, "array of objects": list,
}  # fmt: skip
_TYPE = re.compile(rf"\(({'|'.join(_TYPES)})( or null)?(, not always there)?\) ")


class Key(NamedTuple):
    """What the manual says of one key of an answer."""

    type: str
    nullable: bool
    always: bool
    text: str


def read(page: str) -> str:
    return (PAGES / f"{page}.rst").read_text()


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


def chapter(page: str, name: str) -> str:
    return parts(read(page), "=")[name]


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


def plain(text: str) -> str:
    return re.sub(r"[*`\\]", "", text)


def documented_keys(command: str) -> dict[str, Key]:
    """Return what the manual says of the answer of a command, by path ("snapshots[].id").

    "convert check" is an action of `convert`, which has a page of its own.
    """
    text = chapter("fs-rollback.8", "JSON OUTPUT")
    found = _keys(text.partition("\nstatus --json")[0])
    _, _, action = command.rpartition("convert ")
    said = (answers(CONVERSION) if action != command else answers())[action]
    own = _keys(said)
    for other in re.findall(r"has\s+the keys\s+of \*\*([\w ]+)\*\*", said):
        inherited = documented_keys(other).items()
        found.update((path, key._replace(always=False)) for path, key in inherited)
    for path, key in own.items():
        found[path] = key
        for inside, other in re.findall(r"The keys of ``([^`]+)`` of \*\*(\w+)\*\*", key.text):
            for longer, its in documented_keys(other).items():
                if longer.startswith(inside + "."):
                    found[path + longer[len(inside) :]] = its
    found["version"] = found["version"]._replace(always=True)
    return found


def answers(page: str = "fs-rollback.8") -> dict[str, str]:
    """Return what the chapter says of each command, in the order of the page."""
    found = parts(chapter(page, "JSON OUTPUT"), "-")
    assert all(title.endswith(" --json") for title in found)
    return {title.partition(" ")[0]: text for title, text in found.items()}


def _keys(text: str) -> dict[str, Key]:
    found: dict[str, Key] = {}
    for term, body in definitions(text):
        path, match = term.strip("`"), _TYPE.match(body)
        assert term == f"``{path}``", term
        assert match, f"no type: {term}: {body}"
        assert path not in found, f"twice: {path}"
        kind, nullable, optional = match.groups()
        found[path] = Key(kind, bool(nullable), not optional, body[match.end() :])
    return found


def values(key: Key) -> set[str]:
    """Return the values that the manual names."""
    return set(re.findall("``(.+?)``", key.text))


def differences(command: str, answer: Any) -> list[str]:
    """Return where an answer in JSON and the manual disagree, in words."""
    return list(differences_in(documented_keys(command), "", answer))


def differences_in(keys: dict[str, Key], path: str, data: dict[str, Any]) -> Iterator[str]:
    """As `differences`, for the object at a path of an answer."""
    prefix = f"{path}." if path else ""
    documented = {
        longer[len(prefix) :]: key
        for longer, key in keys.items()
        if longer.startswith(prefix) and "." not in longer[len(prefix) :]
    }
    for name, key in documented.items():
        if key.always and name not in data:
            yield f"{prefix}{name} is documented and not there"
    for name, value in data.items():
        if name not in documented:
            yield f"{prefix}{name} is not documented"
            continue
        yield from _of_value(keys, prefix + name, documented[name], value)


def _of_value(keys: dict[str, Key], path: str, key: Key, value: Any) -> Iterator[str]:
    # A bool is an int in Python, and not in JSON.
    fits = isinstance(value, _TYPES[key.type]) and isinstance(value, bool) == (
        key.type == "boolean"
    )
    if value is None:
        if not key.nullable:
            yield f"{path} is null, which is not documented"
    elif not fits:
        yield f"{path} is {value!r}, documented as {key.type}"
    elif key.type == "object":
        yield from differences_in(keys, path, value)
    elif key.type == "array of objects":
        for row in value:
            yield from differences_in(keys, f"{path}[]", row)
    elif path.endswith("].code") and value not in values(key):
        yield f"{path} is {value}, which is not documented"
    elif key.type == "array of strings" and not all(isinstance(row, str) for row in value):
        yield f"{path} holds something else than strings: {value!r}"


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
