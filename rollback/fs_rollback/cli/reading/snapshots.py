# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshots as the reading commands show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...system.packages import settle_records

if TYPE_CHECKING:
    from ...core.snapshots.snapshot import Snapshot
    from ...system.machine.host import Host
    from ...system.store.store import Store


def load(host: Host, store: Store | None) -> list[Snapshot]:
    """Return the snapshots with the truth about their transactions, even if nobody wrote it yet."""
    if store is None:
        return []
    snapshots = store.load()
    if store.is_busy():
        return snapshots
    settled = {record.name: record for record in settle_records.settle(host, snapshots)}
    return [s._replace(record=settled.get(s.name, s.record)) for s in snapshots]
