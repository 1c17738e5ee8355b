# SPDX-License-Identifier: GPL-2.0-or-later
"""`rollback`: a snapshot as the root of the next boot."""

from __future__ import annotations

from typing import TYPE_CHECKING, Optional

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...system.machine.host import Host
    from ...system.store.store import Store
    from .proposal import GoBack

_DEFAULT = (
    "; default: in a trial, the snapshot of that trial, otherwise the newest from before a"
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
    parser.add_argument("--plan", action="store_true", help="also show the steps")
    parser.add_argument(
        "--all", action="store_true", help="list every package and file that reverts"
    )
    parser.add_argument(
        "--keep",
        metavar="PATH",
        action="append",
        default=[],
        help="keep this path, too: copy it from the current root, like those in the configuration",
    )
    parser.add_argument(
        "--no-keep",
        action="store_true",
        help="also revert the paths that the configuration keeps; their current state stays in the"
        " old root",
    )


def run(args: Namespace) -> int:
    """`rollback`: make a snapshot the root of the next boot."""
    from .ask import ask_and_do

    def decide(host: Host, store: Store, shown: Optional[GoBack]) -> GoBack:
        from ...system.machine import usable
        from ...system.pending import state
        from .proposal import go_back
        from .target import same_again, wished

        usable.refuse_unsupported(host)  # the reason why there is no snapshot, too
        snapshots = store.load()
        wish = same_again(shown.wish, snapshots) if shown else wished(args, host, snapshots)
        found = state.look(host, store)
        state.refuse_while_waiting(host, found)
        return go_back(args, host, store, wish, found, shown)

    return ask_and_do(args, decide)


_HELP = "go back to a snapshot at the next reboot"
COMMAND = command.Command(_HELP, arguments, run, is_undone=True)
