# SPDX-License-Identifier: GPL-2.0-or-later
# It may be used under the GNU General Public License v3.0+ too, as Ansible itself.
"""The state of a machine in a few words, from the answers of the command. Runs nothing."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any, Optional

_FORMAT = "%Y-%m-%dT%H:%M:%SZ"

Data = dict[str, Any]


def unsupported(reason: str) -> Data:
    """Return the summary of a machine that cannot have snapshots."""
    return {**_EMPTY, "health": "unsupported", "attention": [reason]}


_EMPTY: Data = {
    "running": None,
    "copy_of": None,
    "newest": None,
    "health": "ok",
    "attention": [],
    "links": [],
    "transaction": None,
    "reason": None,
    "log": [],
    "days_since_update": None,
}


def summarize(status: Data, check: Data, rows: list[Data], guard: Optional[Data]) -> Data:
    """Return the state of a machine; `guard` is None for a version of the command without it."""
    failure = guard["failure"] if guard else None
    copy_of = status["copy_of"]
    return {
        "running": status["running"]["path"],
        "copy_of": copy_of["name"] if copy_of else None,
        "newest": status["newest"],
        "health": _health(status, check, failure),
        "attention": status["attention"],
        "links": [link for link in check["links"] if link["grade"] != "ok"],
        "transaction": failure["since"] if failure else None,
        "reason": failure["reason"] if failure else None,
        "log": failure["log"] if failure else [],
        "days_since_update": days_since_update(status, rows, datetime.now(timezone.utc)),
    }


def _health(status: Data, check: Data, failure: Optional[Data]) -> str:
    """Return the worst of what is known, in one word."""
    if check["verdict"] == "broken":
        return "broken"
    if status["trial"]:
        return "in_snapshot"
    if failure and not failure["acknowledged"]:
        return "fell_back"
    if status["waiting"] != "nothing":
        return "waiting"
    return "attention" if status["attention"] or check["verdict"] == "warning" else "ok"


def days_since_update(status: Data, rows: list[Data], now: datetime) -> Optional[int]:
    """Return the age of the last transaction of the running root in days; None if none is known.

    Transactions that the last rollback reverted do not count.
    """
    first, end = _reverted(status, rows)
    times = [
        datetime.strptime(row["created"], _FORMAT).replace(tzinfo=timezone.utc)
        for number, row in enumerate(rows)
        if row["kind"] == "pre" and row["transaction"] and not first <= number < end
        if row["transaction"]["outcome"] == "done"
    ]
    return max((now - times[-1]).days, 0) if times else None


def _reverted(status: Data, rows: list[Data]) -> tuple[int, int]:
    """Return which rows are of what the last rollback reverted: from this one, up to that."""
    last = status["last_rollback"]
    if not last or not last["target"] or status["waiting"] != "nothing":
        return 0, 0
    numbers = {row["name"]: number for number, row in enumerate(rows)}
    first, end = numbers.get(last["target"]["name"]), numbers.get(last["replaced"])
    if first is None or end is None or rows[first]["kind"] == "replaced":
        return 0, 0
    return first, end


def boot_outcome(
    status: Data, guard: Optional[Data], known: Optional[str], *, is_working: bool
) -> str:
    """Return what a machine runs after a boot that may have been guarded, in one word.

    `known` is the time of a failure from before the boot; `is_working` tells whether the machine
    has yet to decide, or to act on that. The words: `undecided` (ask again), `healthy`,
    `rolled_back` (it has rolled itself back to the snapshot), `in_snapshot` (it stays in a trial of
    the snapshot), `other_root`.
    """
    failure = guard["failure"] if guard else None
    new = failure if failure and failure["time"] != known else None
    if status["waiting"] in ("reboot", "interrupted"):
        return "undecided"  # it goes back by itself
    if status["trial"]:
        return "in_snapshot" if new and not is_working else "undecided"
    if guard and guard["armed"] and guard["next_boot"] == "snapshot":
        return "undecided"  # this is the guarded boot, and it is judged
    if status["waiting"] != "nothing":
        return "other_root"
    if new:
        copy_of = status["copy_of"]
        is_back = bool(copy_of) and copy_of["name"] == new["snapshot"]
        return "rolled_back" if is_back else "other_root"
    return "healthy"
