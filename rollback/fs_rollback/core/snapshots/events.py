# SPDX-License-Identifier: GPL-2.0-or-later
"""One event of the trace: what was changed, refused or failed, why, and who asked for it.

The same names are keys of the store's log and of `log --json` and, in capitals with FS_ROLLBACK_ in
front, fields of the system's journal.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any, Literal, NamedTuple, Optional, get_args

from .names import labelled
from .record import format_time, parse_time

Name = Literal[
    "taken",
    "deleted",
    "pinned",
    "unpinned",
    "tried",
    "rolled-back",
    "undone",
    "restored",
    "mounted",
    "unmounted",
    "entered",
    "settled",
    "brought-over",
    "forgotten",
    "menu-added",
    "menu-removed",
    "menu-default",
    "guarded",
    "unguarded",
    "unhealthy",
    "fell-back",
    "acknowledged",
    "kernels-saved",
    "kernels-removed",
    "conversion",
    "refused",
    "failed",
]
NAMES: tuple[str, ...] = get_args(Name)
PREFIX = "FS_ROLLBACK_"
MOMENT = "__REALTIME_TIMESTAMP"  # microseconds since 1970, systemd.journal-fields(7)
_MOST_CHARACTERS = 500  # of one value: a datagram, and a line in the store, have their limits
_MOST_OF_MESSAGE = 4000  # as above, for the sentence
# syslog(3); the others are 6, informational.
_PRIORITIES = {"failed": 3, "unhealthy": 3, "fell-back": 3, "refused": 4}
_WORDS = {  # where the name alone would not lead to the snapshot
    "rolled-back": "rolled back to",
    "restored": "restored files from",
    "undone": "undid the rollback to",
    "settled": "settled the rollback to",
    "forgotten": "gave up the rollback to",
    "menu-added": "boot entry added for",
    "menu-removed": "boot entry removed for",
    "guarded": "guarded the next boot; if it fails, back to",
    "unguarded": "ended the guard that would have gone back to",
    "unhealthy": "the guarded boot was not healthy; the next boot uses",
    "fell-back": "a guarded boot failed; the machine went back to",
    "acknowledged": "acknowledged the failed guarded boot that went back to",
}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


class Event(NamedTuple):
    """An event. `system` is what --root or --device names, "" for the running system.

    `replaced` is the name that a rollback gave the old root. "" and 0 stand for nothing.
    """

    event: Name
    snapshot: str = ""
    snapshot_id: int = 0
    snapshot_uuid: str = ""
    replaced: str = ""
    reason: str = ""
    exit_code: int = 0
    user: str = ""
    command: str = ""
    system: str = ""
    time: Optional[datetime] = None

    @property
    def message(self) -> str:
        """The event as one sentence."""
        words = _WORDS.get(self.event, self.event.replace("-", " "))
        text = " ".join(filter(None, (words, labelled(self.snapshot, self.snapshot_id))))
        text += f", the old root is {self.replaced}" if self.replaced else ""
        text += f" on {self.system}" if self.system else ""
        text += f": {self.reason}" if self.reason else ""
        asked = ": ".join(filter(None, (self.user, self.command)))
        text = f"{text} [{asked}]" if asked else text
        return " ".join(text.split("\n"))[:_MOST_OF_MESSAGE]

    @property
    def priority(self) -> int:
        """How much it matters, as syslog(3) counts."""
        return _PRIORITIES.get(self.event, 6)

    def concerns(self, name: str) -> bool:
        """Whether it is about the snapshot, or the replaced root, of this name."""
        return name in (self.snapshot, self.replaced)


def values(event: Event) -> dict[str, str]:
    """Return the fields of an event, except its time, as texts of limited length."""
    found = {key: value for key, value in event._asdict().items() if value and key != "time"}
    return {key: str(value)[:_MOST_CHARACTERS] for key, value in found.items()}


def dump(event: Event) -> str:
    """Return an event as one line of JSON; it has a time."""
    assert event.time is not None
    return json.dumps({"time": format_time(event.time), **values(event)})


def parse(text: str) -> list[Event]:
    """Read the lines that `dump` wrote; skips others, as a crash may have cut one off."""
    found = []
    for line in text.split("\n"):
        try:
            data = json.loads(line)
            found.append(_event(data, parse_time(data["time"])))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            continue  # cut off, or of another program
    return found


def of_journal(text: str) -> list[Event]:
    """Read the JSON output of journalctl(1); skips lines without our fields."""
    found = []
    for line in text.split("\n"):
        try:
            data = json.loads(line)
            ours = {
                key[len(PREFIX) :].lower(): _journal_text(value)
                for key, value in data.items()
                if key.startswith(PREFIX)
            }
            time = _EPOCH + timedelta(microseconds=int(data[MOMENT]))
            found.append(_event(ours, time))
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            continue  # a line that is none of ours
    return found


def _journal_text(value: Any) -> str:
    """Return a field: what is not printable comes as a list of bytes."""
    return bytes(value).decode("utf-8", "replace") if isinstance(value, list) else str(value)


def _event(data: Mapping[str, Any], time: datetime) -> Event:
    """Return the event in a mapping, whose values may all be texts. Raises ValueError, KeyError."""
    if data["event"] not in NAMES:
        raise ValueError(f"no such event: {data['event']}")
    texts = {key: str(data.get(key, "")) for key in Event._fields if key not in ("event", "time")}
    numbers = {key: int(texts.pop(key) or 0) for key in ("snapshot_id", "exit_code")}
    return Event(data["event"], time=time, **numbers, **texts)  # type: ignore[arg-type]


def merged(journal: Iterable[Event], store: Iterable[Event]) -> list[Event]:
    """Return the events of both in the order of time, each once: the store repeats deletions."""
    found = list(journal)
    known = {(e.event, e.snapshot, e.snapshot_uuid) for e in found}
    for event in store:
        key = (event.event, event.snapshot, event.snapshot_uuid)
        if key not in known:
            found.append(event)
    return sorted(found, key=lambda event: event.time or _EPOCH)
