# SPDX-License-Identifier: GPL-2.0-or-later
"""The entry point, and the one place where an error becomes a message and a code.

Commands are imported when they are called: start-up time is a feature.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from types import FrameType
from typing import TYPE_CHECKING

from .. import __version__
from ..errors import Error, InterruptedRunError, UndoFailedError
from . import streams
from .advice import addressed, remember

if TYPE_CHECKING:
    import argparse

_WING = {"converting": "convert.commands.convert", "finishing": "convert.commands.finish"}
_READING = (
    ("looking", "status"),
    ("looking", "list_snapshots"),
    ("looking", "show"),
    ("checking", "check"),
    ("converting", "check"),
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    streams.prepare()
    reads, code = True, 1
    try:
        reads, code = _main(sys.argv[1:] if arguments is None else arguments)
    except SystemExit as end:  # argparse has printed a help, or what is wrong
        if not streams.finish():
            raise
        code = end.code if isinstance(end.code, int) else 1
    except BrokenPipeError:
        pass
    problem = streams.finish()
    if not problem:
        return code
    _complain(Error(f"cannot write the answer: {problem}"))
    streams.finish()
    # What was done is done: that code stays.
    return code or (1 if reads else 0)


def _main(given: Sequence[str]) -> tuple[bool, int]:
    """Run the command line; returns whether it only reads, and the exit code."""
    if list(given) == ["--version"]:
        # Before the parser is made, which takes longer than all the rest.
        print(f"fs-rollback {__version__}")
        return True, 0
    from .arguments import parser

    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        return True, complete(parser())
    args = parser().parse_args(given)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) sets it
            signal.signal(number, _interrupt)
    reads = args.command in _READING or getattr(args, "dry_run", False)
    return reads, _run(args)


def _run(args: argparse.Namespace) -> int:
    module, function = args.command
    remember(args)
    try:
        with _on_device(args):
            where = _WING.get(module, f"cli.{module}")
            return int(getattr(import_module(f"fs_rollback.{where}"), function)(args))
    except KeyboardInterrupt:
        if args.debug:
            raise
        undone = "; the machine is as before" if module == "rolling" else ""
        return _complain(InterruptedRunError(f"interrupted{undone}"), args)
    except Error as error:
        if args.debug:
            raise
        return _complain(error, args)
    except OSError as error:
        if args.debug or isinstance(error, BrokenPipeError):
            raise
        return _complain(Error(f"{error}", hint="--debug shows where this happened."), args)


@contextmanager
def _on_device(args: argparse.Namespace) -> Iterator[None]:
    """Mount what is to be worked on where it does not run, and make it the --root.

    That is the system that --device names, or this machine's own root if it runs a trial.
    """
    args.trial = ""
    # Settling is early at boot, and about the boot that this is: nothing to mount for it.
    if args.device is None and args.root == "/" and args.command[0] != "settling":
        from ..system.root import trial

        args.trial = trial.of_snapshot()
    # No btrfs yet, or one that must not be mounted, or that has to come up first.
    if args.command[0] == "converting" or (args.command[0] == "finishing" and args.device):
        yield
        return
    if args.device is None and (not args.trial or os.geteuid() != 0):
        yield
        return
    from ..system.root import offline
    from .session import note

    with offline.mounted_own(note) if args.trial else offline.mounted(args.device, note) as root:
        args.root = root
        yield


def _complain(error: Error, args: argparse.Namespace | None = None) -> int:
    from ..report import clean

    hint = addressed(error.hint, args) if args else error.hint
    lines = error.message.splitlines() or [""]
    print("fs-rollback: " + "\n".join(clean(line) for line in lines), file=sys.stderr)
    if hint:
        if isinstance(error, UndoFailedError):
            print(hint, file=sys.stderr)
        else:
            print(f"  {clean(hint)}", file=sys.stderr)
    return error.exit_code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
