# SPDX-License-Identifier: GPL-2.0-or-later
"""What each command's file defines, and the options that several commands share.

Such a file has a function `arguments`, a function `run` and, last, the `COMMAND` made of them. The
help imports all of these files, so a command imports what it works with only when it runs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_WHICH = "an ID, a name, the beginning of a name, a path as dnf prints it, or 'latest'"


class Command(NamedTuple):
    """One command: its line in the help, what adds its options, and what returns its exit code."""

    help: str
    arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], int]
    # It changes nothing, so it has failed if its answer could not be written.
    reads: bool = False
    # The same, for some of its actions.
    reading_actions: tuple[str, ...] = ()
    # Ctrl-C undoes what it did so far.
    is_undone: bool = False
    # --device works: that system is mounted for it.
    on_device: bool = True
    # On a machine that runs a trial, it works on the machine's own root.
    on_own_root: bool = True


def snapshot(
    parser: ArgumentParser, nargs: Optional[str] = None, more: str = "", first: str = ""
) -> None:
    """Add the SNAPSHOT argument; its help is `first`, then what one may write, then `more`."""
    parser.add_argument("snapshot", metavar="SNAPSHOT", nargs=nargs, help=first + _WHICH + more)


def json(parser: ArgumentParser) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="answer in JSON, for scripts")


def dry_run(parser: ArgumentParser, text: str = "show the plan, change nothing") -> None:
    """Add --dry-run; `text` is its help."""
    parser.add_argument("--dry-run", action="store_true", help=text)


def yes(parser: ArgumentParser) -> None:
    """Add --yes."""
    parser.add_argument("-y", "--yes", action="store_true", help="proceed without asking")
