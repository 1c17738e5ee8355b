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
from .advice import addressed, remember

if TYPE_CHECKING:
    import argparse


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    if list(given) == ["--version"]:
        # Before the parser is made, which takes longer than all the rest.
        print(f"fs-rollback {__version__}")
        return 0
    from .arguments import parser

    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        return complete(parser())
    args = parser().parse_args(given)
    _replace_closed_streams()
    for name in ("stdout", "stderr"):
        # A terminal in the C locale must not turn a message into a traceback.
        getattr(sys, name).reconfigure(errors="backslashreplace")
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) sets it
            signal.signal(number, _interrupt)
    try:
        code = _run(args)
    except BrokenPipeError:
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            # The reader went away; nothing more can be said to it, not at exit either. What was
            # done is done all the same: the code stays.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return code


def _replace_closed_streams() -> None:
    """Give a process that was started without standard streams something to write to."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.dup2(os.open(os.devnull, os.O_RDWR), number)
            setattr(sys, name, open(number, "w" if number else "r"))  # noqa: SIM115


def _run(args: argparse.Namespace) -> int:
    module, function = args.command
    remember(args)
    try:
        with _on_device(args):
            return int(getattr(import_module(f"fs_rollback.cli.{module}"), function)(args))
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
    from ..system import host

    args.trial = host.trial_of() if args.device is None and args.root == "/" else ""
    if args.command[0] == "settling" and args.trial:
        args.trial = ""  # early at boot, and about the boot that this is: nothing to mount for it
    # No btrfs yet, or one that must not be mounted, or that has to come up first.
    if args.command[0] == "converting" or (args.command[0] == "finishing" and args.device):
        yield
        return
    if args.device is None and (not args.trial or os.geteuid() != 0):
        yield
        return
    from ..system import rescue, trial
    from .session import note

    with trial.system(note) if args.trial else rescue.mounted(args.device, note) as root:
        args.root = root
        yield


def _complain(error: Error, args: argparse.Namespace) -> int:
    from ..report import clean

    hint = addressed(error.hint, args)
    lines = str(error).splitlines() or [""]
    print("fs-rollback: " + "\n".join(clean(line) for line in lines), file=sys.stderr)
    if hint:
        if isinstance(error, UndoFailedError):
            print(hint, file=sys.stderr)
        else:
            print(f"  {clean(hint)}", file=sys.stderr)
    return error.exit_code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
