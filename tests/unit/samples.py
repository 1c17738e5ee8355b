# SPDX-License-Identifier: GPL-2.0-or-later
"""Short ways to say what a test is about; everything else gets a plausible value."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Optional

from fs_rollback.core.snapshots.record import Kind, Outcome, Record, Source, Transaction
from fs_rollback.core.snapshots.snapshot import STORE, Snapshot, Subvolume

NOW = datetime(2026, 11, 23, 13, 29, 57, tzinfo=timezone.utc)


def uuid_of(number: int) -> str:
    return f"{number:032x}"


def subvolume(
    number: int,
    path: str,
    *,
    created: datetime = NOW,
    read_only: bool = False,
    parent_uuid: str = "",
) -> Subvolume:
    return Subvolume(number, path, uuid_of(number), 5, parent_uuid, read_only, created, number)


TOP = subvolume(5, "")


def transaction(outcome: Outcome = Outcome.DONE) -> Transaction:
    return Transaction("dnf4", ("dnf", "upgrade"), "admin", outcome=outcome)


def record(
    name: str,
    *,
    kind: Kind = Kind.PRE,
    created: datetime = NOW,
    pinned: bool = False,
    version: int = 1,
    description: str = "",
    outcome: Optional[Outcome] = Outcome.DONE,
) -> Record:
    return Record(
        name=name,
        kind=kind,
        created=created,
        uuid="",
        source=Source("root", 256, uuid_of(256)),
        description=description,
        pinned=pinned,
        transaction=None if outcome is None else transaction(outcome),
        version=version,
    )


def snapshot(
    number: int,
    name: str = "",
    *,
    age: timedelta = timedelta(),
    kind: Kind = Kind.PRE,
    pinned: bool = False,
    version: int = 1,
    outcome: Optional[Outcome] = Outcome.DONE,
    description: str = "",
) -> Snapshot:
    """Return a complete snapshot with the subvolume ID `number`, `age` before NOW."""
    created = NOW - age
    name = name or f"yum_{created:%Y%m%d%H%M%S}"
    return Snapshot(
        name,
        subvolume(number, f"{STORE}/{name}", created=created, read_only=True),
        record(
            name,
            kind=kind,
            created=created,
            pinned=pinned,
            version=version,
            outcome=outcome,
            description=description,
        ),
    )


def incomplete(number: int, name: str, *, age: timedelta = timedelta()) -> Snapshot:
    place = subvolume(number, f"{STORE}/{name}", created=NOW - age, read_only=True)
    return Snapshot(name, place, None, "no record")


def gone(name: str, *, age: timedelta = timedelta(), pinned: bool = False) -> Snapshot:
    return Snapshot(name, None, record(name, created=NOW - age, pinned=pinned))
