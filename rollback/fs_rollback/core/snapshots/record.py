# SPDX-License-Identifier: GPL-2.0-or-later
"""The record of a snapshot: what is stored beside it, and only what the machine cannot tell.

The JSON on disk has `"version": 1`. Keys that this program does not know are kept as they are; a
record of a newer version is never written. Named tuples, not dataclasses: `list` reads thousands.
"""

from __future__ import annotations

import enum
import json
from datetime import datetime, timezone
from itertools import starmap
from operator import itemgetter
from typing import Any, NamedTuple, Optional, TypeVar

from .replaced_by import ReplacedBy, from_sentence

VERSION = 1
_TRIALS = "fs-snapshots/try_"  # names.py, snapshot.py
_PACKAGE_KEYS = ("action", "name", "arch", "from", "to")
_TEXT, _TEXT_OR_NONE = frozenset((str,)), frozenset((str, type(None)))
_PACKAGE_TYPES = (_TEXT, _TEXT, _TEXT, _TEXT_OR_NONE, _TEXT_OR_NONE)
_T = TypeVar("_T")


class RecordError(ValueError):
    """The text is not a record; the message says why in a few words."""


class Kind(enum.Enum):
    """Why a snapshot exists."""

    PRE = "pre"
    POST = "post"
    MANUAL = "manual"
    REPLACED = "replaced"


class Outcome(enum.Enum):
    """How a transaction ended."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class PackageChange(NamedTuple):
    """One package in a transaction; `old` and `new` are epoch:version-release or None.

    `old_arch` is the architecture that `old` has, if that is another one; it is in no record.
    """

    action: str
    name: str
    arch: str
    old: Optional[str]
    new: Optional[str]
    old_arch: Optional[str] = None

    @property
    def versions(self) -> tuple[Optional[str], Optional[str]]:
        """Both versions for people, with the architectures where these differ."""
        if self.old_arch is None:
            return self.old, self.new
        return f"{self.old}.{self.old_arch}", f"{self.new}.{self.arch}"


class Transaction(NamedTuple):
    """The transaction a snapshot was taken for. `history_id` is dnf's own number."""

    tool: str
    command_line: tuple[str, ...]
    user: str
    packages: tuple[PackageChange, ...] = ()
    outcome: Outcome = Outcome.PENDING
    history_id: Optional[int] = None


class Source(NamedTuple):
    """The subvolume a snapshot was taken of, as it was then (path from the top level)."""

    path: str
    id: int
    uuid: str


class Record(NamedTuple):
    """One snapshot's record. `uuid` is empty until the snapshot exists.

    `replaced_by`: a rollback set this root aside; in place of a description.
    `trial`: it was taken of what the machine ran for a trial, or of another tool's snapshot that it
    ran, and not of the machine's own root.
    """

    name: str
    kind: Kind
    created: datetime
    uuid: str
    source: Source
    description: str = ""
    pinned: bool = False
    kernels: tuple[str, ...] = ()
    boot_files: str = ""  # the name of the list of its saved kernels, saved_files.py
    transaction: Optional[Transaction] = None
    nested: Optional[tuple[str, ...]] = None  # where it has stand-ins of subvolumes; None: unknown
    trial: bool = False
    replaced_by: Optional[ReplacedBy] = None
    version: int = VERSION
    stored: str = ""  # the JSON it was read from, for the keys that we do not know

    @property
    def writable(self) -> bool:
        """Whether this program may write the record: it knows all of its version."""
        return self.version <= VERSION

    @property
    def full_description(self) -> str:
        """What it is for: the description or, without one, a sentence made from its fields."""
        if self.description or self.replaced_by is None:
            return self.description
        return self.replaced_by.sentence()

    @property
    def pending(self) -> bool:
        """Whether the end of the transaction is not known yet."""
        return self.transaction is not None and self.transaction.outcome is Outcome.PENDING


def format_time(moment: datetime) -> str:
    """Return UTC time with whole seconds as RFC 3339, section 5.6, writes it."""
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    # Not strftime(): glibc's %Y writes the year 1 with one digit.
    return utc.isoformat(timespec="seconds") + "Z"


def parse_time(text: str) -> datetime:
    """Read what `format_time` wrote. Raises ValueError."""
    if len(text) != 20 or text[10] != "T" or text[-1] != "Z":
        raise ValueError(f"{text!r} is not a time like 2026-11-23T12:29:57Z")
    # Not strptime(): it takes as long as reading the rest of a record.
    return datetime.fromisoformat(text[:-1]).replace(tzinfo=timezone.utc)


def dump(record: Record) -> str:
    """Return the record as the JSON text that is stored."""
    data: dict[str, Any] = {
        "version": record.version,
        "name": record.name,
        "kind": record.kind.value,
        "created": format_time(record.created),
        "uuid": record.uuid,
        "source": record.source._asdict(),
        # In words too: that is all that version 0.1.0 shows, from a snapshot that has it.
        "description": record.full_description,
        "pinned": record.pinned,
        "kernels": list(record.kernels),
        "boot_files": record.boot_files,
        "transaction": transaction_dict(record.transaction),
    }
    if record.nested is not None:
        data["nested"] = list(record.nested)
    if record.trial:
        data["trial"] = True
    if record.replaced_by is not None:
        data["replaced_by"] = replaced_by_dict(record.replaced_by)
    # Without indentation json uses its C encoder: 7 times as fast for 300 packages.
    stored = json.loads(record.stored) if record.stored else None
    return json.dumps(_with_unknown_keys(data, stored)) + "\n"


def _with_unknown_keys(data: Any, stored: Any) -> Any:
    """Return `data` with the keys that only `stored` has, at every depth."""
    if isinstance(data, dict) and isinstance(stored, dict):
        known = {key: _with_unknown_keys(value, stored.get(key)) for key, value in data.items()}
        return {**stored, **known}
    if isinstance(data, list) and isinstance(stored, list) and len(data) == len(stored):
        return [_with_unknown_keys(value, old) for value, old in zip(data, stored)]
    return data


def replaced_by_dict(replaced_by: Optional[ReplacedBy]) -> Optional[dict[str, Any]]:
    """Return what replaced a root as JSON has it."""
    if replaced_by is None:
        return None
    moment = replaced_by.confirmed
    return {**replaced_by._asdict(), "confirmed": None if moment is None else format_time(moment)}


def transaction_dict(transaction: Optional[Transaction]) -> Optional[dict[str, Any]]:
    """Return a transaction as JSON has it."""
    if transaction is None:
        return None
    return {
        "tool": transaction.tool,
        "command_line": list(transaction.command_line),
        "user": transaction.user,
        "packages": [package_dict(package) for package in transaction.packages],
        "outcome": transaction.outcome.value,
        "history_id": transaction.history_id,
    }


def package_dict(package: PackageChange) -> dict[str, Optional[str]]:
    """Return the change of one package as JSON has it."""
    found = dict(zip(_PACKAGE_KEYS, package))
    return found if package.old_arch is None else {**found, "from_arch": package.old_arch}


def parse(text: str) -> Record:
    """Read a record. Raises RecordError; a newer version is read as far as it is understood."""
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RecordError(f"not JSON: {error}") from error
    if not isinstance(data, dict):
        raise RecordError("not a JSON object")
    try:
        return _from_dict(data)._replace(stored=text)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise RecordError(f"{type(error).__name__}: {error}") from error


def _from_dict(data: dict[str, Any]) -> Record:
    source = data["source"]
    transaction = data.get("transaction")
    nested = data.get("nested")
    path = _text(source["path"])
    kind = Kind(data["kind"])
    description = _text(data.get("description", ""))
    replaced_by = _replaced_by(data.get("replaced_by"))
    if kind is Kind.REPLACED and (said := from_sentence(description)) is not None:
        description, replaced_by = "", _completed(replaced_by, said)
    return Record(
        name=_text(data["name"]),
        kind=kind,
        created=parse_time(data["created"]),
        uuid=_text(data.get("uuid", "")),
        source=Source(path, _number(source["id"]), _text(source["uuid"])),
        description=description,
        pinned=_typed(data.get("pinned", False), bool),
        kernels=tuple(_text(kernel) for kernel in _typed(data.get("kernels", []), list)),
        boot_files=_text(data.get("boot_files", "")),
        transaction=None if transaction is None else _transaction(transaction),
        nested=None if nested is None else tuple(_text(p) for p in _typed(nested, list)),
        # Earlier versions did not say so; only a trial has such a path.
        trial=_typed(data.get("trial", path.startswith(_TRIALS)), bool),
        replaced_by=replaced_by,
        version=_number(data["version"]),
    )


def _replaced_by(data: Optional[dict[str, Any]]) -> Optional[ReplacedBy]:
    if data is None:
        return None
    number, moment = data.get("id"), data.get("confirmed")
    return ReplacedBy(
        name=_text(data["name"]),
        id=None if number is None else _number(number),
        confirmed=None if moment is None else parse_time(_text(moment)),
        given_up=_typed(data.get("given_up", False), bool),
    )


def _completed(fields: Optional[ReplacedBy], said: ReplacedBy) -> ReplacedBy:
    """Return the fields with what a description of version 0.1.0 says and they do not."""
    if fields is None:
        return said
    if fields.is_settled:
        return fields
    return fields._replace(confirmed=said.confirmed, given_up=said.given_up)


def _transaction(data: dict[str, Any]) -> Transaction:
    history_id = data.get("history_id")
    return Transaction(
        tool=_text(data["tool"]),
        command_line=tuple(_text(word) for word in _typed(data["command_line"], list)),
        user=_text(data.get("user", "")),
        packages=_packages(_typed(data.get("packages", []), list)),
        outcome=Outcome(data["outcome"]),
        history_id=None if history_id is None else _number(history_id),
    )


def _packages(data: list[dict[str, Any]]) -> tuple[PackageChange, ...]:
    """Read all packages and look at their types column by column: a record can have thousands."""
    try:
        rows = list(map(itemgetter(*_PACKAGE_KEYS), data))
    except KeyError:  # what is not said is None, which the types allow or not
        rows = [tuple(map(package.get, _PACKAGE_KEYS)) for package in data]
    for column, allowed in zip(zip(*rows), _PACKAGE_TYPES):
        if not allowed.issuperset(map(type, column)):
            raise TypeError("a package's change has a value that is not a text")
    return tuple(starmap(PackageChange, rows))


def _typed(value: Any, wanted: type[_T]) -> _T:
    if not isinstance(value, wanted):
        raise TypeError(f"expected {wanted.__name__}, found {type(value).__name__}")
    return value


def _text(value: Any) -> str:
    return _typed(value, str)


def _number(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError("expected int, found bool")
    return _typed(value, int)
