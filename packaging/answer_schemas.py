#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the JSON Schemas of all answers from the chapters JSON OUTPUT of the manual pages.

Usage: answer_schemas.py DIRECTORY. One file a command, such as list.schema.json.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, NamedTuple

PAGES = Path(__file__).parent / "man"
CONVERSION = "fs-rollback-convert.8"
DIALECT = "http://json-schema.org/draft-07/schema#"  # which all tools know
VERSION = 1  # of all answers: their key "version"
# What the manual calls a type, and what JSON Schema has for it.
_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "integer": {"type": "integer"},
    "boolean": {"type": "boolean"},
    "object": {"type": "object"},
    "array of strings": {"type": "array", "items": {"type": "string"}},
    "array of objects": {"type": "array"},
}
_TYPE = re.compile(rf"\(({'|'.join(_TYPES)})( or null)?(, not always there)?\) ")


class Key(NamedTuple):
    """What the manual says of one key of an answer."""

    type: str
    nullable: bool
    always: bool
    text: str


def read(page: str) -> str:
    """Return the text of a page."""
    return (PAGES / f"{page}.rst").read_text(encoding="utf-8")


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
    """Return a chapter of a page."""
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


def answers(page: str = "fs-rollback.8") -> dict[str, str]:
    """Return what the chapter says of each command, in the order of the page."""
    found = parts(chapter(page, "JSON OUTPUT"), "-")
    assert all(title.endswith(" --json") for title in found)
    return {title.partition(" ")[0]: text for title, text in found.items()}


def commands() -> list[str]:
    """Return every command that has an answer: "convert check" is an action of `convert`."""
    return [*answers(), *(f"convert {action}" for action in answers(CONVERSION))]


def documented_keys(command: str) -> dict[str, Key]:
    """Return what the manual says of the answer of a command, by path ("snapshots[].id")."""
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


def schema(command: str, *, strict: bool = False) -> dict[str, Any]:
    """Return the schema of what a command answers with.

    Keys may be added without another version of the answers: a `strict` one, for tests, does not
    allow that.
    """
    keys = documented_keys(command)
    found = _object(keys, "", strict=strict)
    found["properties"]["version"] = {"const": VERSION}
    title = f"fs-rollback {command} --json"
    name = command.replace(" ", "-")
    return {"$schema": DIALECT, "$id": f"urn:fs-rollback:{VERSION}:{name}", "title": title, **found}


def _object(keys: dict[str, Key], prefix: str, *, strict: bool) -> dict[str, Any]:
    own = {
        path[len(prefix) :]: key
        for path, key in keys.items()
        if path.startswith(prefix) and "." not in path[len(prefix) :]
    }
    found: dict[str, Any] = {
        "type": "object",
        "properties": {n: _value(keys, prefix + n, k, strict=strict) for n, k in own.items()},
        "required": [name for name, key in own.items() if key.always],
    }
    return {**found, "additionalProperties": False} if strict else found


def _value(keys: dict[str, Key], path: str, key: Key, *, strict: bool) -> dict[str, Any]:
    found = dict(_TYPES[key.type])
    if key.type == "object":
        found = _object(keys, path + ".", strict=strict)
    elif key.type == "array of objects":
        found["items"] = _object(keys, path + "[].", strict=strict)
    elif path.endswith("].code"):
        found["enum"] = sorted(values(key))
    if key.nullable:
        found["type"] = [found["type"], "null"]
    return {**found, "description": re.sub(r"[*`\\]", "", key.text)}


def main() -> None:
    """Write them all."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for command in commands():
        path = directory / f"{command.replace(' ', '-')}.schema.json"
        path.write_text(json.dumps(schema(command), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
