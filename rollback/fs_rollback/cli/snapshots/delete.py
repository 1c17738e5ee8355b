# SPDX-License-Identifier: GPL-2.0-or-later
"""`delete`: snapshots, old roots."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `delete` takes."""
    command.snapshot(parser, "+")


def run(args: Namespace) -> int:
    """`delete`: delete snapshots; goes on after a failure and says which failed."""
    from ...core.snapshots.names import label, resolve
    from ...errors import Error
    from ...system.root import roots_in_use
    from ...system.snapshots import saved_kernels, take_and_delete
    from ...system.store import trace
    from .. import session

    failures: list[Error] = []
    with session.writing(args.root) as (host, store):
        snapshots = store.load()
        chosen = list(dict.fromkeys(resolve(ref, snapshots).name for ref in args.snapshot))
        in_use = roots_in_use.read(host)
        by_name = {snapshot.name: snapshot for snapshot in snapshots}
        for name in chosen:
            try:
                take_and_delete.delete(host, store, by_name[name], in_use)
                session.note(f"deleted {label(by_name[name])}")
            except Error as error:  # said, and the exit code has it; the others are tried
                failures.append(error)
                trace.tell_error(host, error, name)
                session.note(error.line)
        host.forget()
        saved_kernels.collect(store, store.load())
    return max((failure.exit_code for failure in failures), default=0)


_HELP = "delete snapshots or old roots without asking, but none that is in use or pinned"
COMMAND = command.Command(_HELP, arguments, run)
