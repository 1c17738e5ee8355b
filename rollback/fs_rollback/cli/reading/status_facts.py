# SPDX-License-Identifier: GPL-2.0-or-later
"""What `status` tells: how the machine stands, and what needs attention."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ...core.snapshots.names import label
from ...core.snapshots.record import format_time, replaced_by_dict
from ...core.snapshots.snapshot import origin
from ...core.space.headroom import only_free
from ...errors import ConfigError, Error, KernelError, StoreError
from ...system.check import conversion, health
from ...system.machine import kernels, unprotected, usable
from ...system.packages import coverage, interrupted, rpm_changes
from ...system.pending import by_difference
from ...system.root import root_lines
from ...system.space import holders, room
from .. import session
from ..guard import facts as guard_facts
from . import snapshots as found_snapshots
from . import waiting as what_waits

if TYPE_CHECKING:
    from ...core.boot.layout import Layout
    from ...core.snapshots.snapshot import Snapshot
    from ...system.machine.host import Host
    from ...system.store.store import Store

_HELD_S = 1.0  # a person waits no longer for it


def gather(host: Host, store: Store | None) -> tuple[dict[str, Any], list[str]]:
    """Return what `status --json` answers with, and what somebody should act on."""
    layout, attention = _layout(host)
    waiting, said = what_waits.waiting(host, store)
    attention += said
    if away := by_difference.away(host, host.root_subvolume.path):
        paths = ", ".join(f"/{path}" for path in away)
        attention.insert(0, f"still moved aside: {paths}. 'fs-rollback settle' puts it back")
    plugin, roads = coverage.of_dnf(host), coverage.roads(host)
    attention += _uncovered([(plugin.problem, plugin.advice), *((r.why, r.advice) for r in roads)])
    guard, said = guard_facts.gather(host, store)
    attention += said
    is_unfinished = False
    try:
        is_unfinished = conversion.is_unfinished(host)
    except StoreError as error:  # said
        attention.append(error.line)
    snapshots = found_snapshots.load(host, store)
    if waiting != "reboot":
        attention[:0] = _interrupted(host, snapshots)
    changed, said = _changed(host, store)
    attention += said
    attention += [f"{label(s)} is incomplete: {s.problem}" for s in snapshots if s.incomplete]
    made_of = origin(host.root_subvolume, host.subvolumes)
    copied = next((s for s in snapshots if made_of and s.id == made_of.id), None)
    ordinary = [s for s in snapshots if s.exists and not (s.is_replaced or s.of_trial)]
    total, free = room.total_and_free(host)
    if (short := room.nearly_full(host)) is not None:
        from ...system.snapshots import make_room

        policy = session.usable_configuration(host).policy
        advice = make_room.for_shortage(host, store, policy, short)
        attention.append(f"{only_free(free, short)}. {advice}")
    return {
        "device": host.mount.source,
        "layout": layout.describe() if layout else None,
        "running": {"id": host.root_id, "path": "/" + host.root_subvolume.path},
        "copy_of": _named(copied),
        "next": {"id": layout.root.id, "path": "/" + layout.root.path} if layout else None,
        "waiting": waiting,
        "plugin": plugin.state.value,
        "roads": [road.to_json() for road in roads],
        "changed_without_snapshot": changed,
        "last_rollback": _last_rollback(snapshots),
        "snapshots": len(snapshots),
        "newest": ordinary[-1].name if ordinary else None,
        "newest_id": ordinary[-1].id if ordinary else None,
        "space": {
            "total_bytes": total,
            "free_bytes": free,
            "held_bytes": _held(host, snapshots),
        },
        "health": health.to_json(host),
        "guard": {
            "setting": guard["setting"],
            "armed": guard["armed"],
            "failed": guard["failure"]["snapshot"] if guard["failure"] else None,
        },
        "unfinished_conversion": is_unfinished,
    }, attention


def _layout(host: Host) -> tuple[Layout | None, list[str]]:
    """Return how the machine finds its root, and what keeps it from snapshots and rollbacks."""
    attention: list[str] = []
    layout = None
    try:
        layout = root_lines.read_layout(host)
    except Error as error:  # said: the layout is unknown
        if not host.unsupported():  # that is the first reason
            from ...system.root import trial

            is_own = trial.aside(host) is None  # else the error tells how one is possible
            attention.append(f"no rollback is possible: {error.line}" if is_own else error.line)
    if host.is_running and (without := unprotected.unprotected()) is not None:
        attention.append(f"{without.reason}: transactions take no snapshot")
    if host.is_running and (running := kernels.running_without_modules(host.root_fd)):
        attention.append(
            f"the root has no modules for the running kernel, {running}; 'fs-rollback check' says"
            " which boot entry fits"
        )
    found = (usable.not_writable(host), usable.devices_missing(host))
    attention += [refusal.line for refusal in found if refusal is not None]
    attention += health.attention(host, datetime.now().astimezone())
    if reason := host.unsupported():
        attention.append(f"{reason}: transactions take no snapshot, no rollback is possible")
    try:
        session.configuration(host)
    except ConfigError as error:  # said
        attention.append(error.line)
    if layout is not None:
        attention += _menu(host, layout)
    return layout, attention


def _uncovered(reasons: Sequence[tuple[str, str]]) -> list[str]:
    """Return what keeps transactions from their snapshot, and what to do; each reason once.

    What nothing can be done about is no reason to act.
    """
    actionable = {why: advice for why, advice in reasons if advice}
    # It is a command, or a sentence.
    return [
        f"{why}. {'Run: ' if advice[0].islower() else ''}{advice}"
        for why, advice in actionable.items()
    ]


def _interrupted(host: Host, snapshots: Sequence[Snapshot]) -> list[str]:
    """Return the way back from a transaction that was cut off in the middle."""
    found = interrupted.find(host, snapshots)
    if found is None:
        return []
    is_chosen = found == interrupted.default_target(host, snapshots)
    return [interrupted.sentence(found, "" if is_chosen else str(found.id))]


def _changed(host: Host, store: Store | None) -> tuple[str | None, list[str]]:
    """Return when packages changed without a snapshot, in JSON and in words."""
    changed = rpm_changes.without_snapshot(host, store) if store is not None else None
    if changed is None:
        return None, []
    said = f"{rpm_changes.sentence(changed)}; 'fs-rollback create' takes one"
    return format_time(changed), [said]


def _menu(host: Host, layout: Layout) -> list[str]:
    """Return what somebody who is about to choose in the boot menu has to know."""
    from ...system.loader import entries as loader_entries
    from ...system.snapshots import snapshot_entries

    try:
        found = loader_entries.read(host, layout)
        entries = snapshot_entries.of_copies(host, found).values()
        troubles = [(entry, snapshot_entries.trouble(host, entry)) for entry in entries]
        saved = snapshot_entries.saved_by_grub(host, found)
    except KernelError as error:  # said
        return [error.line]
    said = []
    if saved is not None:
        said = [
            f"the next boot uses the copy of a snapshot again: {saved.entry.title}. GRUB saved that"
            " choice from its menu (GRUB_SAVEDEFAULT=true). The next transaction, or"
            " 'fs-rollback create', makes the usual entry the default again"
        ]
    return said + [
        f"a boot entry does not boot its snapshot: {entry.entry.title}, {why}; the next"
        " transaction, or 'fs-rollback create', renews it"
        for entry, why in troubles
        if why
    ]


def _last_rollback(snapshots: list[Snapshot]) -> dict[str, Any] | None:
    """Return what the record of the root that was replaced last says; None without one."""
    # Roots are replaced in the order in which they were made; one that is gone has no ID.
    replaced = (s for s in snapshots if s.is_replaced and not s.was_taken_back)
    records = [(s.id, s.record) for s in replaced if s.record is not None]
    number, last = max(records, key=lambda row: (row[0], row[1].created), default=(0, None))
    if last is None:
        return None
    created = format_time(last.created)
    target = last.replaced_by.name if last.replaced_by else ""
    return {
        "replaced": last.name,
        "replaced_id": number or None,
        "created": created,
        "description": last.full_description,
        "target": _named(next((s for s in snapshots if s.exists and s.name == target), None)),
        "replaced_by": replaced_by_dict(last.replaced_by),
    }


def _named(snapshot: Snapshot | None) -> dict[str, Any] | None:
    return {"id": snapshot.id, "name": snapshot.name} if snapshot else None


def _held(host: Host, snapshots: Sequence[Snapshot]) -> int | None:
    """Return what deleting all snapshots would give back; None where it is not known in time."""
    try:
        held = holders.held(host, snapshots, limit_s=_HELD_S)
    except KernelError:  # of no use to who asks how the machine stands: what is wrong is said above
        return None
    return held.together([s.name for s in snapshots]) if held is not None else None
