# SPDX-License-Identifier: GPL-2.0-or-later
"""`guard on`, `off`, `status` and `acknowledge`: what a person says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...core.snapshots.names import label
from ...core.snapshots.record import Kind
from ...errors import RefusedError
from ...system.guard import arm, health, outcome
from ...system.machine import kernels
from ...system.store import guards
from .. import session
from ..screen import colour
from . import facts

if TYPE_CHECKING:
    from argparse import Namespace

    from ...core.snapshots.snapshot import Snapshot
    from ...report import Paint
    from ...system.machine.host import Host
    from ...system.store.store import Store


def run(args: Namespace) -> int:
    """Do what the action says; returns the exit code."""
    return {"on": _on, "off": _off, "status": _status, "acknowledge": _acknowledge}[args.action](
        args
    )


def _on(args: Namespace) -> int:
    if args.trial:
        raise RefusedError(
            f"cannot guard the next boot while this machine runs a trial of {args.trial}",
            hint="First run 'fs-rollback rollback', or reboot into the usual boot entry.",
        )
    with session.writing(args.root) as (host, store):
        config = session.usable_configuration(host)
        never = health.never(host, config.health_units)
        if never:
            raise RefusedError(
                f"the next boot would not be healthy: {never}",
                hint="Correct health_units in /etc/fs-rollback.conf.",
            )
        back = unproven(host, store)
        is_new = back is None
        back = back or newest(store)
        proof = is_new and not is_unproven(host, back)
        arm.arm(host, store, back, config.boot_entries, is_unproven=not proof)
        told = facts.answer(host, store)
    text = f"The next boot is guarded: if it is not healthy, the boot after it uses {label(back)}."
    return session.reply(args, told, text)


def unproven(host: Host, store: Store) -> Snapshot | None:
    """Return the way back as it is now, where packages were changed since that no boot has proven.

    A newer snapshot has some of them.
    """
    armed = guards.read(store).armed
    if armed is None or not (armed.is_unproven and arm.is_armed(host, armed)):
        return None
    found = store.subvolumes().get(armed.snapshot)
    return store.snapshot_of(found) if found is not None else None


def is_unproven(host: Host, back: Snapshot) -> bool:
    """Whether packages were changed behind a snapshot since this boot has come up.

    What was changed before has come up: then the next transaction has a better way back.
    """
    return not host.is_running or back.created.timestamp() > kernels.boot_began_s()


def newest(store: Store) -> Snapshot:
    """Return the newest snapshot from before a transaction."""
    for snapshot in store.newest_first():
        record = snapshot.record
        is_pre = record is not None and record.kind is Kind.PRE
        if is_pre and snapshot.exists and not snapshot.of_trial:
            return snapshot
    raise RefusedError(
        "there is no snapshot from before a transaction to go back to",
        hint="The next dnf transaction takes one.",
    )


def _off(args: Namespace) -> int:
    with session.writing(args.root) as (host, store):
        was = arm.disarm(host, store)
        told = facts.answer(host, store)
    text = "The next boot is no longer guarded." if was else "No boot was guarded."
    if told["setting"] != "no":
        text += f"\nThe next transaction guards it again: guard = {told['setting']}."
    return session.reply(args, told, text)


def _acknowledge(args: Namespace) -> int:
    with session.writing(args.root) as (host, store):
        found = outcome.acknowledge(host, store)
        if args.root == "/" or args.trial:
            facts.say_at_login("")
        told = facts.answer(host, store)
    said = "Unattended updates may run again."
    text = said if found else "There is nothing to acknowledge: no guarded boot has failed."
    return session.reply(args, told, text)


def _status(args: Namespace) -> int:
    with session.reading(args.root) as (host, store):
        told = facts.answer(host, store)
    text = "\n".join(_lines(told, colour.paint(args.color)))
    return session.reply(args, told, text, code=1 if told["attention"] else 0)


def _lines(told: dict[str, Any], paint: Paint) -> list[str]:
    from ... import report
    from ..terminal import attention, table_width, wrapped

    width = table_width()
    if told["next_boot"] == "guarded":
        back = f"If it fails, the machine goes back to {told['way_back']}."
        first = f"The next boot is guarded: {told['entry']}. {back}"
    elif told["next_boot"] == "snapshot":
        first = f"The next boot goes back to {told['way_back']}."
    elif told["reason"]:
        first = f"The next boot cannot be guarded: {told['reason']}"
    else:
        first = "The next boot is not guarded."
    lines = wrapped("", first, 2, width)
    lines.append(f"Setting: guard = {told['setting']}")
    lines += attention(told["attention"], paint)
    failure = told["failure"]
    if failure is not None and failure["log"]:
        lines.append("The last lines of its journal:")
        lines += [f"  {report.clean(line)}"[:width] for line in failure["log"]]
    return lines
