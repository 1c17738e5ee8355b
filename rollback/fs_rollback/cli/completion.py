# SPDX-License-Identifier: GPL-2.0-or-later
"""What a shell offers when Tab is pressed; argcomplete reads the rest from the parser itself.

Nothing is ever done here but read: the words on the line are not a command yet.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Callable

from ..core.snapshots.snapshot import STORE
from ..errors import Error

if TYPE_CHECKING:
    from ..core.snapshots.snapshot import Snapshot
    from ..system.machine.host import Host
    from .parsers import Parser

# Whether a command takes a snapshot; of a machine, because some ask more of it than the snapshot.
_Taken = Callable[["Host"], Callable[["Snapshot"], bool]]


def _existing(_: Host) -> Callable[[Snapshot], bool]:
    return lambda snapshot: snapshot.exists


def _deletable(host: Host) -> Callable[[Snapshot], bool]:
    from ..core.snapshots.retention import protection
    from ..system.root import roots_in_use

    in_use = roots_in_use.read(host)
    return lambda snapshot: not protection(snapshot, in_use)


# Each other command takes all that exist.
_TAKEN: dict[str, _Taken] = {
    "delete": _deletable,
    "log": lambda _: lambda _: True,
    "mount": lambda _: lambda snapshot: snapshot.exists and not snapshot.is_top_level,
    "pin": lambda _: lambda s: s.exists and s.record is not None and not s.pinned,
    "show": lambda _: lambda _: True,
    "try": lambda _: lambda snapshot: snapshot.exists and not snapshot.is_replaced,
    "unpin": lambda _: lambda snapshot: snapshot.pinned,
}


def complete(parser: Parser) -> int:
    """Answer the shell and end the process; returns an exit code where argcomplete is missing."""
    try:
        import argcomplete
        from argcomplete.completers import DirectoriesCompleter, SuppressCompleter
    except ImportError:  # nothing can be offered, and nobody reads a message
        return 1
    for name, command in _all(parser):
        taken = _TAKEN.get(name, _existing)
        completers = {
            "snapshot": partial(snapshots, taken=taken),
            "other": partial(snapshots, taken=taken),
            "look": looks,
            "path": paths if name == "restore" else None,
            "root": DirectoriesCompleter(),
            "aside": DirectoriesCompleter(),
            "directory": DirectoriesCompleter(),
            "message": SuppressCompleter(),
            "topic": lambda **_: list(parser.below()),
            "action": partial(_actions, parser),
        }
        for action in command._actions:  # noqa: SLF001 - argcomplete looks for the attribute there
            if completers.get(action.dest) is not None:
                setattr(action, "completer", completers[action.dest])  # noqa: B010
    with suppress(OSError):  # the shell went away
        argcomplete.autocomplete(parser, always_complete_options=False)
    return 1


def _all(parser: Parser) -> Iterator[tuple[str, Parser]]:
    """Return all commands and all actions."""
    for name, found in parser.below().items():
        yield name, found
        yield from _all(found)


def _actions(program: Parser, parsed_args: argparse.Namespace, **_: Any) -> Iterable[str]:
    """Return the actions of `guard` that people give, or those of what `help` is about."""
    topic = getattr(parsed_args, "topic", "guard")
    named = program.below().get(topic)
    return (named.get_default("offered") or named.below()) if named else ()


def snapshots(
    parsed_args: argparse.Namespace, prefix: str = "", *, taken: _Taken = _existing, **_: Any
) -> dict[str, str]:
    """Return names, IDs and `latest`, each with what it is for; nothing where that is not known.

    Only those that are `taken`. Paths, as dnf prints them, where a path was begun.

    Without root's rights, for one: a shell offers nothing then, and says nothing.
    """
    from .. import report
    from ..core.snapshots.names import resolve
    from . import session

    found: dict[str, str] = {}
    if parsed_args.device is not None:
        return found  # nothing is mounted for a Tab
    # See above.
    with suppress(Error, OSError), session.reading(parsed_args.root) as (host, store):
        known = store.load() if store else []
        offered = [snapshot for snapshot in known if known and taken(host)(snapshot)]
        for snapshot in offered:
            text = f"{report.local_time(snapshot.created)} {report.what(snapshot)}".rstrip()
            if prefix.startswith("/"):
                found[f"/{STORE}/{snapshot.name}"] = text
            found[snapshot.name] = text
            if snapshot.exists:
                found[str(snapshot.id)] = f"{snapshot.name}, {text}"
        if resolve("latest", known) in offered:
            found["latest"] = "the newest"
    return found


def looks(parsed_args: argparse.Namespace, **_: Any) -> dict[str, str]:
    """Return what is mounted, by its snapshot and by its directory."""
    from ..system.access import looks as mounted
    from . import session

    found: dict[str, str] = {}
    # As above.
    with suppress(Error, OSError), session.reading(parsed_args.root) as (host, _store):
        for look in mounted.find(host):
            found[look.snapshot] = look.point
            found[look.point] = look.snapshot
    return found


def paths(parsed_args: argparse.Namespace, prefix: str = "", **_: Any) -> list[str]:
    """Return what the snapshot has that goes on like a path, which may be gone by now."""
    import os

    from ..core.snapshots.names import resolve
    from ..system.linux import files
    from . import session

    directory = prefix[: prefix.rfind("/") + 1]
    found: list[str] = []
    # As above.
    with suppress(Error, OSError), session.reading(parsed_args.root) as (host, store):
        snapshot = resolve(parsed_args.snapshot, store.load() if store else [])
        with files.opened(host.path(snapshot.path)) as tree:
            place = os.path.join(os.getcwd(), directory).lstrip("/") or "."
            for name in files.list_in_tree(tree, place) or ():
                is_directory = files.list_in_tree(tree, f"{place}/{name}") is not None
                found.append(f"{directory}{name}{'/' if is_directory else ''}")
    return found
