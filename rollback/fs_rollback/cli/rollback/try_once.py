# SPDX-License-Identifier: GPL-2.0-or-later
"""`try`: a boot of a snapshot, without giving up the root that is there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_NO_LOADER = "this machine has no boot loader that reads boot entries"


def arguments(parser: ArgumentParser) -> None:
    """Add what `try` takes."""
    command.json(parser)
    command.snapshot(parser)


def run(args: Namespace) -> int:
    """`try`: give a snapshot an entry in the boot menu, and have the next boot use it."""
    from ... import report
    from ...core.snapshots.names import label, resolve
    from ...errors import RefusedError
    from ...system.guard import arm
    from ...system.loader import settings
    from ...system.root import root_lines
    from ...system.snapshots import menu
    from ...system.store import trace
    from .. import session

    with session.writing(args.root) as (host, store):
        snapshot = resolve(args.snapshot, store.load())
        if not snapshot.exists or snapshot.is_replaced:
            raise RefusedError(
                f"{label(snapshot)} cannot be tried: it is not a snapshot",
                hint="'fs-rollback list' shows all snapshots.",
            )
        if arm.disarm(host, store) is not None:
            session.note("the next boot is no longer guarded")
        layout = root_lines.read_layout(host)
        count = session.usable_configuration(host).boot_entries
        updated = menu.update(host, store, count, also=(snapshot.name,))
        found, entry = menu.entry_of(host, layout, snapshot)
        if entry is None:
            why = updated.why_none(snapshot.name) or _NO_LOADER
            raise RefusedError(
                f"{label(snapshot)} cannot be tried: {why}",
                hint="'fs-rollback check' shows how this machine boots.",
            )
        reason = settings.set_once(host, found.places, found.choice, found.setting, entry.entry)
        why = reason or entry.entry.title
        trace.tell(host, trace.Event("tried", snapshot.name, snapshot.id, reason=why))
    title = report.clean(entry.entry.title)
    answer = {
        "id": snapshot.id,
        "name": snapshot.name,
        "entry": entry.entry.title,
        "chosen": not reason,
        "reason": reason or None,
    }
    if reason:
        session.note(f"cannot set the next boot: {reason}")
        return session.reply(args, answer, f"Choose this in the boot menu: {title}", code=1)
    return session.reply(
        args, answer, f"The next boot, and only that one, uses: {title}\nNow: reboot"
    )


_HELP = "boot a copy of a snapshot once, at the next reboot"
COMMAND = command.Command(_HELP, arguments, run)
