# SPDX-License-Identifier: GPL-2.0-or-later
"""`rollback`: a snapshot as the root of the next boot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from ...core.snapshots.snapshot import Snapshot
    from ...system.machine.host import Host
    from ...system.store.store import Store
    from .proposal import GoBack

_DEFAULT = (
    "; default: the one that this machine runs a trial of, else the newest from before a"
    " transaction"
)


def arguments(parser: ArgumentParser) -> None:
    """Add what `rollback` takes."""
    command.snapshot(parser, "?", _DEFAULT)
    plan_options(parser)


def plan_options(parser: ArgumentParser) -> None:
    """Add what `undo` takes too."""
    command.json(parser)
    command.dry_run(parser)
    command.yes(parser)
    parser.add_argument(
        "--keep",
        metavar="PATH",
        action="append",
        default=[],
        help="take this along from the present root, beside what the configuration keeps",
    )
    parser.add_argument(
        "--no-keep",
        action="store_true",
        help="do not take along what the configuration keeps: it goes back too, and what is newer"
        " stays in the old root",
    )


def run(args: Namespace) -> int:
    """`rollback`: make a snapshot the root of the next boot."""
    from .ask import ask_and_do

    def decide(host: Host, store: Store, shown: Optional[GoBack]) -> GoBack:
        from ...system.machine import usable
        from ...system.pending import state
        from .proposal import go_back, same_again

        usable.refuse_unsupported(host)  # the reason why there is no snapshot, too
        snapshots = store.load()
        # An empty one is a script's mistake, and not the same as none.
        reference = (args.trial or None) if args.snapshot is None else args.snapshot
        target = same_again(shown, snapshots) if shown else _target(reference, host, snapshots)
        found = state.look(host, store)
        state.refuse_while_waiting(host, found)
        return go_back(args, host, store, target, "Roll back", found)

    return ask_and_do(args, decide)


def _target(reference: Optional[str], host: Host, snapshots: Sequence[Snapshot]) -> Snapshot:
    """Return the snapshot that is meant. Raises UsageError."""
    from ...core.snapshots.names import resolve
    from ...errors import UsageError
    from ...system.packages import interrupted

    if reference is not None:
        return resolve(reference, snapshots)
    newest = interrupted.default_target(host, snapshots)
    if newest is None:
        raise UsageError(
            "there is no snapshot from before a transaction",
            hint="'fs-rollback list' shows what there is; name one.",
        )
    return newest


_HELP = "go back to a snapshot with the next reboot"
COMMAND = command.Command(_HELP, arguments, run, is_undone=True)
