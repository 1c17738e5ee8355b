# SPDX-License-Identifier: GPL-2.0-or-later
"""`shell`: the system of a snapshot, tried without a reboot."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `shell` takes."""
    command.snapshot(parser)
    parser.add_argument(
        "words",
        metavar="-- COMMAND",
        nargs="*",
        default=[],  # else argparse calls it required
        help="the command to run; default: a shell",
    )


def run(args: Namespace) -> int:
    """`shell`: run a command in a copy of a snapshot, and return its exit code."""
    from contextlib import ExitStack
    from datetime import datetime

    from ...core.snapshots.names import label, resolve
    from ...errors import RefusedError
    from ...system.access import inside, throw_away
    from ...system.store import trace
    from .. import session

    with ExitStack() as stack:
        with session.writing(args.root) as (host, store):
            snapshot = resolve(args.snapshot, store.load())
            if not snapshot.exists:
                raise RefusedError(
                    f"{snapshot.name} was deleted: only its record is left",
                    hint="'fs-rollback list' shows all snapshots.",
                )
            stack.callback(_delete_copy, args)
            name = throw_away.make(host, store, snapshot, datetime.now().astimezone())
            what = " ".join(args.words) or "a shell"
            event = trace.Event("entered", snapshot.name, snapshot.id, reason=what)
            trace.tell(host, event)
            directory = stack.enter_context(throw_away.mounted(host, name))
        session.note(
            f"running in a copy of {label(snapshot)}, which is deleted afterwards. The copy shares"
            " this machine's network, kernel and clock. Its files, processes and devices are its"
            " own. No services run in it."
        )
        return inside.run(directory, name, args.words)


def _delete_copy(args: Namespace) -> None:
    """Have it deleted, as every command that changes the store does once nobody has it mounted."""
    from ...errors import Error
    from .. import session

    try:
        with session.writing(args.root):
            pass
    except Error as error:  # the exit code is the command's
        session.note(
            f"cannot delete the copy: {error}; the next command that changes snapshots deletes it"
        )


_HELP = "run a shell or a command in a throw-away copy of a snapshot"
COMMAND = command.Command(_HELP, arguments, run)
