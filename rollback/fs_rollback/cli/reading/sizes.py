# SPDX-License-Identifier: GPL-2.0-or-later
"""What snapshots hold: found out while a person waits, and shown by `list --size`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ...core.snapshots.space import size

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ...core.snapshots.snapshot import Snapshot
    from ...core.space.held import Held
    from ...system.machine.host import Host


def held(host: Host, snapshots: Sequence[Snapshot]) -> Held | None:
    """Return what the snapshots hold; shows progress on a terminal."""
    from ...system.space import holders
    from ..terminal import progress

    with progress("reading sizes", "B") as bar:
        return holders.held(host, snapshots, progress=bar)


class _Size(NamedTuple):
    """What deleting a snapshot gives back, and what if all older ones go too."""

    alone_bytes: int
    with_older_bytes: int


def _sizes(snapshots: Sequence[Snapshot], held: Held) -> dict[str, _Size]:
    """Return the sizes of the snapshots, oldest first, by name."""
    names = [s.name for s in snapshots if s.exists]
    return {
        name: _Size(held.alone(name), held.together(names[: place + 1]))
        for place, name in enumerate(names)
    }


def table(snapshots: Sequence[Snapshot], held: Held) -> str:
    """Return a table with a row for each snapshot, the newest last; no column is shortened."""
    from ... import report

    sizes = _sizes(snapshots, held)
    rows = [
        [
            str(s.id),
            report.local_time(s.created),
            size(sizes[s.name].alone_bytes),
            size(sizes[s.name].with_older_bytes),
            report.clean(s.name),
        ]
        for s in snapshots
        if s.exists
    ]
    return report.plain_table(rows, ["ID", "Date", "Alone", "With all older", "Name"])


def by_name(snapshots: Sequence[Snapshot], held: Held) -> dict[str, dict[str, int]]:
    """Return what is added to the JSON data of each snapshot."""
    return {name: found._asdict() for name, found in _sizes(snapshots, held).items()}
