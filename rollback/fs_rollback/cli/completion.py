# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell offers when Tab is pressed; argcomplete reads the rest from the parser itself.

Nothing is ever done here but read: the words on the line are not a command yet.
"""

from __future__ import annotations

import argparse
from contextlib import suppress
from typing import Any

from ..core.snapshots.snapshot import STORE
from ..errors import Error


def complete(parser: argparse.ArgumentParser) -> int:
    """Answer the shell and end the process; returns an exit code where argcomplete is missing."""
    try:
        import argcomplete
        from argcomplete.completers import DirectoriesCompleter, SuppressCompleter
    except ImportError:  # nothing can be offered, and nobody reads a message
        return 1
    completers = {
        "snapshot": snapshots,
        "look": snapshots,
        "root": DirectoriesCompleter(),
        "aside": DirectoriesCompleter(),
        "directory": DirectoriesCompleter(),
        "message": SuppressCompleter(),
    }
    for command in _commands(parser):
        for action in command._actions:  # noqa: SLF001 - argcomplete looks for the attribute there
            if action.dest in completers:
                setattr(action, "completer", completers[action.dest])  # noqa: B010
    with suppress(OSError):  # the shell went away
        argcomplete.autocomplete(parser, always_complete_options=False)
    return 1


def snapshots(parsed_args: argparse.Namespace, prefix: str = "", **_: Any) -> dict[str, str]:
    """Return names, IDs and `latest`, each with what it is for; nothing where that is not known.

    Paths, as dnf prints them, where a path was begun.

    Without root's rights, for one: a shell offers nothing then, and says nothing.
    """
    from .. import report
    from . import session

    found: dict[str, str] = {}
    if parsed_args.device is not None:
        return found  # nothing is mounted for a Tab
    # See above.
    with suppress(Error, OSError), session.reading(parsed_args.root) as (_host, store):
        for snapshot in store.load() if store else ():
            if snapshot.exists:
                text = f"{report.local_time(snapshot.created)} {report.what(snapshot)}".rstrip()
                if prefix.startswith("/"):
                    found[f"/{STORE}/{snapshot.name}"] = text
                found[snapshot.name] = text
                found[str(snapshot.id)] = f"{snapshot.name}, {text}"
        if found:
            found["latest"] = "the newest"
    return found


def _commands(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public way to its subparsers
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return list(action.choices.values())
    return []
