#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes the JSON Schemas of all answers, and fs-rollback-json(7), from packaging/schemas.

Usage: answer_schemas.py DIRECTORY
       answer_schemas.py --page >PAGE.rst

The sources are JSON Schemas themselves, with one addition: what is beside "$ref" replaces what the
other schema has there. The installed ones have no "$ref", so each can be used by itself. In a
"description", `code` and **bold** are as in Markdown.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

SOURCES = Path(__file__).parent / "schemas"
_PAGE = Path(__file__).parent / "man" / "fs-rollback-json.7.rst"
DIALECT = "http://json-schema.org/draft-07/schema#"  # which all tools know
VERSION = 1  # of all answers: their key "version"
_VERSION_KEY = {"const": VERSION, "description": "The version of this format."}
# Where the page has the answers: a line of its own.
_MARK = ".. answers\n"
_COLUMNS = 78

Schema = dict[str, Any]


class Key(NamedTuple):
    """What a schema says of one key of an answer."""

    type: str
    nullable: bool
    always: bool
    text: str
    values: tuple[str, ...] = ()


def commands() -> list[str]:
    """Return every command that has an answer, by name: "convert check" is an action of convert."""
    return sorted(path.name.partition(".")[0].replace("-", " ") for path in SOURCES.iterdir())


def source(command: str) -> Schema:
    """Return the schema of the answer of a command as it is written."""
    path = SOURCES / f"{command.replace(' ', '-')}.schema.json"
    found: Schema = json.loads(path.read_text(encoding="utf-8"))
    return found


def schema(command: str, *, strict: bool = False) -> Schema:
    """Return the schema of the answer of a command as it is installed.

    Keys may be added without another version of the answers: a `strict` one, for tests, does not
    allow that.
    """
    found = _whole(source(command), strict=strict)
    found["properties"] = {"version": _VERSION_KEY, **found["properties"]}
    found["required"] = ["version", *found["required"]]
    title = f"fs-rollback {command} --json"
    name = f"urn:fs-rollback:{VERSION}:{command.replace(' ', '-')}"
    return {"$schema": DIALECT, "$id": name, "title": title, **found}


def _whole(part: Schema, *, strict: bool) -> Schema:
    """Return a part of a schema with what its "$ref" leads to in it."""
    if "$ref" in part:
        beside = {key: value for key, value in part.items() if key != "$ref"}
        other = _referred(part["$ref"])
        properties = {**other.get("properties", {}), **beside.get("properties", {})}
        part = {**other, **beside, **({"properties": properties} if properties else {})}
        return _whole(part, strict=strict)
    found = dict(part)
    if "properties" in part:
        inside = part["properties"].items()
        found["properties"] = {name: _whole(value, strict=strict) for name, value in inside}
        if strict:
            found["additionalProperties"] = False
    if "items" in part:
        found["items"] = _whole(part["items"], strict=strict)
    return found


def _referred(reference: str) -> Schema:
    file, _, pointer = reference.partition("#/")
    found = source(file.partition(".")[0].replace("-", " "))
    for name in pointer.split("/") if pointer else ():
        found = found[name]
    return found


def documented_keys(command: str) -> dict[str, Key]:
    """Return what the schema says of an answer, by the path of the key ("snapshots[].id")."""
    return dict(_keys(schema(command), ""))


def _keys(part: Schema, prefix: str) -> Iterator[tuple[str, Key]]:
    """Yield the keys of an object, and those of the objects in it, in the order of the schema."""
    for name, value in part.get("properties", {}).items():
        types = value.get("type", "integer")
        types = types if isinstance(types, list) else [types]
        items = value.get("items", {})
        kind = types[0] if types[0] != "array" else f"array of {items['type']}s"
        always = name in part["required"]
        text, allowed = value.get("description", ""), tuple(value.get("enum", ()))
        yield prefix + name, Key(kind, "null" in types, always, text, allowed)
        yield from _keys(value, f"{prefix}{name}.")
        yield from _keys(items, f"{prefix}{name}[].")


def page() -> str:
    """Return the source of fs-rollback-json(7), with the answers in it."""
    text = _PAGE.read_text(encoding="utf-8")
    before, mark, after = text.partition(_MARK)
    assert mark, _MARK
    return before + "\n".join(_section(command) for command in commands()) + after


def _section(command: str) -> str:
    """Return what the page says of one answer. What another answer has as well is there only."""
    found = source(command)
    title = f"{command} --json"
    lines = [title, "-" * len(title), ""]
    if "$ref" in found:
        lines += [f"The keys of {_place(found['$ref'])}.", ""]
    if "description" in found:
        lines += [*_wrapped(found["description"]), ""]
    for path, key in _keys(_named(found), ""):
        what = key.type + " or null" * key.nullable + ", not always there" * (not key.always)
        lines += [f"``{path}``", *_wrapped(f"({what}) {key.text}", "    ")]
        for _, group in groupby(key.values, lambda value: value.partition(".")[0]):
            lines += ["", *_wrapped(", ".join(f"`{value}`" for value in group), "    ")]
        lines.append("")
    return "\n".join(lines)


def _named(part: Schema) -> Schema:
    """Return a part of a schema in which a "$ref" is no more than a sentence."""
    if "$ref" in part:
        whole, properties = _whole(part, strict=False), part.get("properties", {})
        text = f"{part.get('description', '')} The keys of {_place(part['$ref'])}."
        kept = {key: value for key, value in whole.items() if key not in ("properties", "items")}
        part = {**kept, "description": text.strip(), "properties": properties}
    found = dict(part)
    if "properties" in part:
        found["properties"] = {name: _named(value) for name, value in part["properties"].items()}
    if "items" in part:
        found["items"] = _named(part["items"])
    return found


def _place(reference: str) -> str:
    """Return where a "$ref" leads, in words."""
    file, _, pointer = reference.partition(".schema.json#/")
    command = f"**{file.partition('.')[0].replace('-', ' ')}**"
    path = pointer.replace("properties/", "").replace("/items", "[]").replace("/", ".")
    return f"`{path}` of {command}" if path else command


def _wrapped(text: str, indent: str = "") -> list[str]:
    """Return lines of reStructuredText. A literal is not broken."""
    literal = re.sub("`(.+?)`", lambda found: f"``{found[1].replace(' ', chr(0))}``", text)
    literal = literal.replace("**(", "**\\(")  # as in **fs-rollback**\(8)
    lines = textwrap.wrap(
        literal,
        _COLUMNS,
        initial_indent=indent,
        subsequent_indent=indent,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return [line.replace("\0", " ") for line in lines]


def main() -> None:
    """Write what was asked for."""
    if sys.argv[1] == "--page":
        sys.stdout.write(page())
        return
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for command in commands():
        path = directory / f"{command.replace(' ', '-')}.schema.json"
        path.write_text(json.dumps(schema(command), indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
