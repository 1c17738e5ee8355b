# SPDX-License-Identifier: GPL-2.0-or-later
"""guard.state, JSON: what the boot loader was told for a guarded boot, and the boot that failed.

It does not say whether the guard is on: the boot loader's default entry does. It has what is needed
to end the guard, and to tell what happened.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple, Optional

from ..snapshots.names import trial_name

VERSION = 1


class GuardError(ValueError):
    """The text is not the state of a guard, or a newer program wrote it."""


class Armed(NamedTuple):
    """What the boot loader was told, and what it had been told before.

    `snapshot` is the name of the snapshot whose entry is the default, `uuid` its UUID. `file` and
    `key` say where the default is stored ("" for a firmware variable), `value` what it is now, and
    `old` what it was before, None for nothing. `once_file`, `once_key` and `once_value` say the
    same about the entry for the next boot only. Its file is `entry`, a LoaderPath: a copy of the
    entry with this `title`. `boot_id` is the boot in which this was done. `is_unproven`: packages
    were changed since the last healthy boot. `reason` is why the guarded boot was not healthy, if
    it could still record that.
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

    `since` is the command that the snapshot was taken before, in short, "" if there was none.
    `reason` is why the boot failed, as far as known, `log` the last lines of its journal. `boot_id`
    is that of its Armed. `is_acknowledged`: a person knows of it.
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
    """The whole state; None for a part that does not exist."""

    armed: Optional[Armed] = None
    failure: Optional[Failure] = None

    def leads_back_to(self, copy: str) -> bool:
        """Whether a guarded boot that fails goes back to the writable copy of this name."""
        return self.armed is not None and copy == trial_name(self.armed.snapshot)

    @property
    def unacknowledged(self) -> Optional[Failure]:
        """The failure that no person knows of: until then unattended updates are refused."""
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
            version = data["version"]
            raise GuardError(f"format version {version} is newer than this program supports")
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
        raise TypeError(f"expected a text, found {type(value).__name__}")
    return value
