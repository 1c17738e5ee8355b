# SPDX-License-Identifier: GPL-2.0-or-later
"""The snapshots as the reading commands show them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...core.snapshots.snapshot import Snapshot
    from ...system.machine.host import Host
    from ...system.store.store import Store


def load(host: Host, store: Store | None) -> list[Snapshot]:
    """Return the snapshots; shows how a transaction ended even if its record lacks that so far."""
    if store is None:
        return []
    snapshots = store.load()
    if not any(s.pending for s in snapshots) or store.is_busy():
        return snapshots
    from ...system.packages import settle_records

    settled = {record.name: record for record in settle_records.settle(host, snapshots)}
    return [s._replace(record=settled.get(s.name, s.record)) for s in snapshots]
