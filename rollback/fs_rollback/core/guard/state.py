# SPDX-License-Identifier: GPL-2.0-or-later
"""guard.state, JSON: how the boot loader was told of the way back, and the boot that ended there.

Whether the guard is on is not in here: the boot loader's default entry says it. What is written is
what it takes to end it, and to tell what happened.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional

from ..snapshots.names import trial_name

VERSION = 1


class GuardError(ValueError):
    """The text is no state of a guard, or a newer program's."""


class Armed(NamedTuple):
    """What the boot loader was told, and what it had been told before.

    `snapshot` is the name of the one whose entry is the default, `uuid` that snapshot's. `file` and
    `key` say where the default is written down, "" for a variable of the firmware, `value` what is
    there now and `old` what was, None for nothing; `once_file`, `once_key` and `once_value` the
    same of the entry for the next boot only, whose file is `entry`, a LoaderPath, and a copy of the
    one with this `title`. `boot_id` is the boot in which that was done. `is_unproven`: packages
    were changed since a boot was healthy. `reason` is why the guarded boot was not, where it could
    still write that down.
    """

    snapshot: str
    uuid: str
    file: str
    key: str
    value: str
    old: Optional[str]
    once_file: str
    once_key: str
    once_value: str
    entry: str
    title: str
    boot_id: str
    is_unproven: bool
    time: str
    reason: str = ""


class Failure(NamedTuple):
    """A guarded boot that ended in the snapshot.

    `since` is what matters of the command line that the snapshot was taken before, "" where
    there was none; `reason` what is known of why, `log` the last lines of that boot's journal.
    `boot_id` is that of the Armed that it is of. `is_acknowledged`: a person knows of it.
    """

    snapshot: str
    uuid: str
    since: str
    reason: str
    log: tuple[str, ...]
    time: str
    boot_id: str
    is_acknowledged: bool = False


class Guard(NamedTuple):
    """All of it; None for what there is not."""

    armed: Optional[Armed] = None
    failure: Optional[Failure] = None

    def leads_back_to(self, copy: str) -> bool:
        """Whether the writable copy of this name is what the way back boots."""
        return self.armed is not None and copy == trial_name(self.armed.snapshot)

    @property
    def unacknowledged(self) -> Optional[Failure]:
        """The failure that no person knows of: packages are not to be changed where nobody sits."""
        is_known = self.failure is None or self.failure.is_acknowledged
        return None if is_known else self.failure


def dump(guard: Guard) -> str:
    """Return the state as JSON."""
    parts = {"armed": guard.armed, "failure": guard.failure}
    data = {name: part._asdict() if part else None for name, part in parts.items()}
    return json.dumps({"version": VERSION, **data}, indent=1) + "\n"


def parse(text: str) -> Guard:
    """Read a state. Raises GuardError."""
    try:
        data = json.loads(text)
        if data["version"] > VERSION:
            raise GuardError(f"version {data['version']} is of a newer program")
        armed = _fields(Armed, data["armed"])
        failure = _fields(Failure, data["failure"])
        if failure is not None:
            failure["log"] = tuple(map(_text, failure["log"]))
        return Guard(
            Armed(**armed) if armed is not None else None,
            Failure(**failure) if failure is not None else None,
        )
    except (LookupError, TypeError, AttributeError, RecursionError, ValueError) as error:
        if isinstance(error, GuardError):
            raise
        raise GuardError(f"{type(error).__name__}: {error}") from error


_KINDS: dict[str, Any] = {
    "is_unproven": bool,
    "is_acknowledged": bool,
    "log": list,
    "old": (str, type(None)),
}


def _fields(kind: Any, data: Optional[dict[str, Any]]) -> Optional[dict[str, Any]]:
    """Return the values of a part that are known; of a wrong kind is none of them."""
    if data is None:
        return None
    found = {name: data[name] for name in kind._fields if name in data}
    for name, value in found.items():
        if not isinstance(value, _KINDS.get(name, str)):
            raise TypeError(f"{name} cannot be {value!r}")
    return found


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} where a text belongs")
    return value
