# SPDX-License-Identifier: GPL-2.0-or-later
"""`guard`: a next boot that leads back to a snapshot by itself if it is not healthy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

# What people say, and what the units of the guarded boot call.
_ACTIONS = ("on", "off", "status", "acknowledge")
_OF_UNITS = ("check", "confirm", "give-up", "again", "report")


def arguments(parser: ArgumentParser) -> None:
    """Add what `guard` takes."""
    command.json(parser)
    parser.set_defaults(offered=_ACTIONS)  # by a shell that completes
    parser.add_argument(
        "action",
        metavar="ACTION",
        choices=(*_ACTIONS, *_OF_UNITS),
        help="on: guard the next boot; off: cancel that; status: show whether it is guarded;"
        " acknowledge: allow unattended updates again after a guarded boot failed; check, confirm,"
        " give-up, again, report: run by the systemd units of a guarded boot",
    )


def run(args: Namespace) -> int:
    """`guard`: as the action has it; of `status`, exit code 1 if something needs attention."""
    from ...errors import UsageError

    if args.action in _OF_UNITS:
        if args.json or args.device or (args.root != "/" and not args.trial):
            raise UsageError(
                f"'guard {args.action}' is only for systemd units of the running machine",
                hint="Leave out --json, --device and --root.",
            )
        from . import at_boot

        return at_boot.run(args)
    from . import by_hand

    return by_hand.run(args)


_HELP = "go back automatically if the next boot is not healthy"
COMMAND = command.Command(_HELP, arguments, run, reading_actions=("status",))
