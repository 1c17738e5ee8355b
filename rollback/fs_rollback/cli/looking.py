# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that only look: status, list, show."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from .. import report
from ..core.boot.layout import Layout
from ..core.snapshots.names import resolve
from ..core.snapshots.record import format_time, parse_time
from ..core.snapshots.snapshot import Snapshot
from ..errors import ConfigError, Error, KernelError, StoreError
from ..system.machine.host import Host
from ..system.packages import settle_records
from ..system.snapshots import take_and_delete
from ..system.store.store import Store
from . import session
from .advice import addressed
from .terminal import columns

_LOW_SPACE = 0.05


def list_snapshots(args: Namespace) -> int:
    """`list`: a row a snapshot, the newest last."""
    with session.reading(args.root) as (host, store):
        snapshots = _load(host, store)
        roots = take_and_delete.roots(host)
        waiting = _waiting(host, store)[1] if store and store.has_journal() else []
        unsupported = "" if snapshots else host.unsupported()
    if args.json:
        rows = [report.snapshot_json(snapshot, roots) for snapshot in snapshots]
        session.print_json({"snapshots": rows})
    elif snapshots:
        print(report.snapshot_table(snapshots, roots, columns()))
        for line in waiting:
            session.note(addressed(line, args))
    elif unsupported:
        session.note(f"no snapshots yet, and transactions take none: {unsupported}")
    else:
        none = "no snapshots yet; the next dnf transaction or 'fs-rollback create' takes one"
        session.note(addressed(none, args))
    return 0


def show(args: Namespace) -> int:
    """`show`: everything about one snapshot."""
    with session.reading(args.root) as (host, store):
        snapshot = resolve(args.snapshot, _load(host, store))
        roots = take_and_delete.roots(host)
    if args.json:
        session.print_json({"snapshot": report.snapshot_json(snapshot, roots)})
    else:
        print(report.snapshot_details(snapshot, roots))
    return 0


def _load(host: Host, store: Store | None) -> list[Snapshot]:
    """Return the snapshots with the truth about their transactions, even if nobody wrote it yet."""
    if store is None:
        return []
    snapshots = store.load()
    if store.is_busy():
        return snapshots
    settled = {record.name: record for record in settle_records.settle(host, snapshots)}
    return [s._replace(record=settled.get(s.name, s.record)) for s in snapshots]


def status(args: Namespace) -> int:
    """`status`: how the machine stands; exit code 1 if something needs attention."""
    with session.reading(args.root) as (host, store):
        facts, attention = _facts(host, store)
    facts["trial"] = args.trial or None
    facts["attention"] = attention = [addressed(line, args) for line in attention]
    if args.json:
        session.print_json(facts)
    else:
        _print_status(facts)
    return 1 if attention else 0


def _facts(host: Host, store: Store | None) -> tuple[dict[str, Any], list[str]]:
    from ..system.check import conversion
    from ..system.packages import coverage
    from ..system.snapshots import make_room

    layout, attention = _layout(host)
    paths = {subvolume.id: "/" + subvolume.path for subvolume in host.subvolumes}
    waiting, said = _waiting(host, store)
    attention += said
    plugin, roads = coverage.of_dnf(host), coverage.roads(host)
    attention += _uncovered([(plugin.problem, plugin.advice), *((r.why, r.advice) for r in roads)])
    is_unfinished = False
    try:
        is_unfinished = conversion.is_unfinished(host)
    except StoreError as error:
        attention.append(error.line)
    snapshots = _load(host, store)
    if waiting != "reboot":
        attention[:0] = _interrupted(host, snapshots)
    changed, said = _changed(host, store)
    attention += said
    attention += [f"{s.name} is incomplete: {s.problem}" for s in snapshots if s.incomplete]
    ordinary = [s for s in snapshots if s.exists and not (s.is_replaced or s.of_trial)]
    total, free = _space(host)
    if free < _LOW_SPACE * total:
        policy = session.usable_configuration(host).policy
        attention.append(
            f"only {report.size(free)} are free. {make_room.on_root(host, store, policy)}"
        )
    return {
        "device": host.mount.source,
        "layout": layout.describe() if layout else None,
        "running": {"id": host.root_id, "path": paths.get(host.root_id)},
        "next": {"id": layout.root.id, "path": "/" + layout.root.path} if layout else None,
        "waiting": waiting,
        "plugin": plugin.state.value,
        "roads": [road.to_json() for road in roads],
        "changed_without_snapshot": changed,
        "last_rollback": _last_rollback(snapshots),
        "snapshots": len(snapshots),
        "newest": ordinary[-1].name if ordinary else None,
        "space": {"total_bytes": total, "free_bytes": free},
        "unfinished_conversion": is_unfinished,
    }, attention


def _layout(host: Host) -> tuple[Layout | None, list[str]]:
    """Return how the machine finds its root, and what keeps it from snapshots and rollbacks."""
    from ..system.machine import kernels, unprotected, usable
    from ..system.root import root_lines, trial

    attention: list[str] = []
    layout = None
    try:
        layout = root_lines.read_layout(host)
    except Error as error:
        if not host.unsupported():  # that is the first reason
            is_own = trial.aside(host) is None  # else the error tells how one is possible
            attention.append(f"no rollback is possible: {error.line}" if is_own else error.line)
    if host.is_running and (without := unprotected.unprotected()) is not None:
        attention.append(f"{without.reason}: transactions take no snapshot")
    if host.is_running and (running := kernels.running_without_modules(host.root_fd)):
        attention.append(
            f"the root has no modules for the kernel that runs, {running}; 'fs-rollback check'"
            " tells which boot entry fits"
        )
    found = (usable.not_writable(host), usable.devices_missing(host))
    attention += [refusal.line for refusal in found if refusal is not None]
    if reason := host.unsupported():
        attention.append(f"{reason}: transactions take no snapshot, no rollback is possible")
    try:
        session.configuration(host)
    except ConfigError as error:
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
    from ..system.packages import interrupted

    found = interrupted.find(host, snapshots)
    if found is None:
        return []
    is_chosen = found == interrupted.default_target(host, snapshots)
    return [interrupted.sentence(found, "" if is_chosen else str(found.id))]


def _changed(host: Host, store: Store | None) -> tuple[str | None, list[str]]:
    """Return when packages changed without a snapshot, in JSON and in words."""
    from ..system.packages import rpm_changes

    changed = rpm_changes.without_snapshot(host, store) if store is not None else None
    if changed is None:
        return None, []
    said = f"{rpm_changes.sentence(changed)}; 'fs-rollback create' takes one"
    return format_time(changed), [said]


def _menu(host: Host, layout: Layout) -> list[str]:
    """Return what somebody who is about to choose in the boot menu has to know."""
    from ..system.loader import entries as loader_entries
    from ..system.snapshots import snapshot_entries

    try:
        found = loader_entries.read(host, layout)
        entries = snapshot_entries.of_copies(host, found).values()
        troubles = [(entry, snapshot_entries.trouble(host, entry)) for entry in entries]
        saved = snapshot_entries.saved_by_grub(host, found)
    except KernelError as error:
        return [error.line]
    said = []
    if saved is not None:
        said = [
            f"a reboot leads to the copy of a snapshot again: {saved.entry.title}. GRUB saves what"
            " is chosen in its menu (GRUB_SAVEDEFAULT=true); the next transaction, or"
            " 'fs-rollback create', makes the usual entry the default again"
        ]
    return said + [
        f"a boot entry does not boot its snapshot: {entry.entry.title}, {why}; the next"
        " transaction, or 'fs-rollback create', renews it"
        for entry, why in troubles
        if why
    ]


def _waiting(host: Host, store: Store | None) -> tuple[str, list[str]]:
    from ..system.pending import state as pending_state

    try:
        found = pending_state.look(host, store)
    except StoreError as error:
        return "unknown", [error.line]
    if found.journal is None:
        return "nothing", []
    target = found.journal.target
    if found.waiting is pending_state.Waiting.REBOOT:
        said = f"the rollback to {target} waits for a reboot; 'fs-rollback undo' takes it back"
        return "reboot", [said]
    if found.waiting is pending_state.Waiting.DISPLACED:
        why = pending_state.explain(host, found)
        return "displaced", [why.line]
    if found.waiting is pending_state.Waiting.ELSEWHERE:
        why = pending_state.explain(host, found)
        return "elsewhere", [
            f"the machine was rolled back to {target}, but this boot did not use that root:"
            f" {why.sentence}. {why.hint}"
        ]
    if found.journal.state.value == "prepared":
        return "interrupted", [
            f"a rollback to {target} was interrupted; the next command that changes something"
            " takes it back or finishes it"
        ]
    return "nothing", []


def _last_rollback(snapshots: list[Snapshot]) -> dict[str, Any] | None:
    """Return what the record of the root that was replaced last says; None without one."""
    # Roots are replaced in the order in which they were made; one that is gone has no ID.
    replaced = (s for s in snapshots if s.is_replaced and not s.was_taken_back)
    records = [(s.id, s.record) for s in replaced if s.record is not None]
    _, last = max(records, key=lambda row: (row[0], row[1].created), default=(0, None))
    if last is None:
        return None
    created = format_time(last.created)
    return {"replaced": last.name, "created": created, "description": last.description}


def _space(host: Host) -> tuple[int, int]:
    found = os.statvfs(host.top)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def _print_status(facts: dict[str, Any]) -> None:
    if facts["trial"]:
        print(
            f"This machine runs a trial of {facts['trial']}: 'fs-rollback rollback' makes that the"
            " root.\nWhat is written to the trial goes with it."
        )
    following = facts["next"]
    space = facts["space"]
    rows = {
        "Root": f"{facts['device']}, layout {facts['layout'] or 'unknown'}",
        "Running": _root(facts["running"]),
        "Next boot": _root(following) if following else "unknown",
        "Waiting": facts["waiting"],
        **_road_rows(facts["roads"]),
        "Last rollback": _told(facts["last_rollback"]),
        "Snapshots": f"{facts['snapshots']}, newest {facts['newest'] or '-'}",
        "Space": f"{report.size(space['free_bytes'])} free of {report.size(space['total_bytes'])}",
    }
    if facts["unfinished_conversion"]:
        rows["Conversion"] = "from ext4; 'fs-rollback convert finish' does the rest"
    for label, value in rows.items():
        first, *others = value.split("\n")
        print(f"{label + ':':15}{report.clean(first)}")
        for line in others:
            print(f"{'':15}{report.clean(line)}")
    for line in facts["attention"]:
        sys.stdout.write(f"Attention: {report.clean(line)}\n")


def _road_rows(roads: list[dict[str, Any]]) -> dict[str, str]:
    """Return the rows of the roads on which packages change: a state each, a line a reason.

    A reason to act is not here: it has a line of its own below, with what to do.
    """
    order = ("covered", "not covered", "unknown", "not installed")
    states: dict[str, dict[str, list[str]]] = {state: {} for state in order}
    states["covered"][""] = []
    for road in roads:
        why = (not road["advice"] and road["why"]) or ""
        states[road["state"]].setdefault(why, []).append(road["name"])
    return {
        state.capitalize(): "\n".join(
            (", ".join(names) or "nothing") + (why and f": {why}") for why, names in reasons.items()
        )
        for state, reasons in states.items()
        if reasons
    }


def _told(rollback: dict[str, Any] | None) -> str:
    if rollback is None:
        return "-"
    moment = report.local_time(parse_time(rollback["created"]))
    return f"{moment}, {rollback['replaced']} {rollback['description']}"


def _root(place: dict[str, Any]) -> str:
    path = "the top level" if place["path"] == "/" else place["path"]
    return f"{path} (ID {place['id']})"
