# SPDX-License-Identifier: GPL-2.0-or-later
"""The rollback that set a root aside, and how it ended, as fields of the record and a sentence."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple, Optional

_BY = "replaced by "
_CAME_UP, _GIVEN_UP = "; came up in the new root ", "; given up"
_UTC = " UTC"


class ReplacedBy(NamedTuple):
    """The rollback that replaced a root; it did so when the record was `created`.

    `name` and `id` are the snapshot that it went back to; a record of version 0.1.0 has no ID.
    `confirmed` is when the machine came up in the new root, None while it has not. `given_up`: it
    never did, and somebody gave up the rollback.
    """

    name: str
    id: Optional[int] = None
    confirmed: Optional[datetime] = None
    given_up: bool = False

    @property
    def is_settled(self) -> bool:
        """Whether it is known how the rollback ended."""
        return self.confirmed is not None or self.given_up

    def sentence(self) -> str:
        """Return a sentence for people, in place of a description."""
        if self.confirmed is not None:
            moment = self.confirmed.astimezone(timezone.utc).replace(tzinfo=None)
            return f"{_BY}{self.name}{_CAME_UP}{moment.isoformat(' ', 'minutes')}{_UTC}"
        return f"{_BY}{self.name}{_GIVEN_UP if self.given_up else ''}"


def from_sentence(text: str) -> Optional[ReplacedBy]:
    """Read a description by version 0.1.0, which had no fields; None if it is any other text.

    After a rollback to that version, it writes such a sentence into newer records, too.
    """
    if not text.startswith(_BY):
        return None
    name, given_up, rest = text[len(_BY) :].rpartition(_GIVEN_UP)
    if given_up and not rest:
        return ReplacedBy(name, given_up=True)
    name, came_up, rest = text[len(_BY) :].rpartition(_CAME_UP)
    if not came_up:
        return ReplacedBy(rest)
    try:
        # Not strptime(), as in record.py.
        moment = datetime.fromisoformat(rest[: -len(_UTC)])
    except ValueError:  # somebody has written another thing behind these words
        return None
    found = ReplacedBy(name, confirmed=moment.replace(tzinfo=timezone.utc))
    return found if found.sentence() == text else None
