# SPDX-License-Identifier: GPL-2.0-or-later
"""The entry point, and the one place where an error becomes a message and a code.

Commands are imported when they are called: start-up time is a feature.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from .. import __version__
from ..errors import (
    ConfigError,
    Error,
    InterruptedRunError,
    NotRootError,
    UndoFailedError,
    UsageError,
    unmounted,
)
from .advice import addressed, remember
from .screen import streams

if TYPE_CHECKING:
    import argparse

    from .command import Command


# What `create` notes, and what a program in `shell` gets.
_MAY_BE_EMPTY = ("message", "words")


def program() -> NoReturn:
    """Run the command line as the whole of a process, and end it.

    Python would take everything apart piece by piece, which the kernel does at once: a sixth of
    the time of `diff`.
    """
    os._exit(main())


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
        pass  # the reader has gone in the middle: code 1 says so
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
    # A short life, and most of what is made stays: looking for garbage as often as Python does by
    # itself takes a tenth of the time of `list`.
    gc.set_threshold(100_000)
    from .arguments import parser

    if "_ARGCOMPLETE" in os.environ:
        from .completion import complete

        return True, complete(parser())
    if not given:  # somebody has heard of the name
        parser().print_help(sys.stderr)
        print("\nAfter a bad upgrade: fs-rollback rollback", file=sys.stderr)
        return True, UsageError.exit_code
    if given[0] == "help":
        given = [*given[1:], "--help"]
    try:
        args = parser(given).read(given)
        _refuse_empty(args, given)
    except Error as error:
        return True, _complain(error)
    args.given = given
    if "TZ" in os.environ:
        from .screen import zone

        if told := zone.corrected():
            _complain(Error(told))
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup(1) sets it
            signal.signal(number, _interrupt)
    return _reads(args), _run(args)


def _refuse_empty(args: argparse.Namespace, given: Sequence[str]) -> None:
    """Raise UsageError for an empty path or name; as a path it would mean the working directory."""
    for name, value in vars(args).items():
        if name not in _MAY_BE_EMPTY and "" in (value if isinstance(value, list) else [value]):
            import shlex

            raise UsageError(
                f"an argument is empty: fs-rollback {shlex.join(given)}",
                hint="It is a path or a snapshot. Is a variable of a script not set?",
            )


def _run(args: argparse.Namespace) -> int:
    command: Command = args.command
    remember(args)
    try:
        with _debugged(args), _on_device(args):
            return command.run(args)
    except KeyboardInterrupt:
        undone = "; the machine is as before" if command.is_undone else ""
        interrupted = InterruptedRunError(f"interrupted{undone}")
        _trace(interrupted, args)
        return _complain(interrupted, args)
    except NotRootError as error:
        import shlex

        again = shlex.join(("sudo", "fs-rollback", *args.given))
        return _complain(NotRootError(f"{error.message}: {again}"), args)
    except Error as error:
        _trace(error, args)
        return _complain(error, args)
    except OSError as error:
        if isinstance(error, BrokenPipeError):
            raise
        hint = unmounted(str(error.filename)) or "--debug shows where this happened."
        failed = Error(f"{error}", hint="" if args.debug else hint)
        _trace(failed, args)
        return _complain(failed, args)


def _reads(args: argparse.Namespace) -> bool:
    command: Command = args.command
    only_looks = getattr(args, "action", None) in command.reading_actions
    return command.reads or only_looks or getattr(args, "dry_run", False)


def _trace(error: Error, args: argparse.Namespace) -> None:
    """Tell the journal what was refused, and what failed, of what would have changed something."""
    if _reads(args) or isinstance(error, (UsageError, ConfigError)) or os.geteuid() != 0:
        return
    elsewhere = "" if args.root == "/" or args.trial else args.root
    with suppress(ImportError):  # the error is said whatever is missing here
        from ..system.store import trace

        trace.tell_error(None, error, system=args.device or elsewhere)


def _debugged(args: argparse.Namespace) -> AbstractContextManager[None]:
    if not args.debug:
        return nullcontext()
    from . import debug

    return debug.shown()


@contextmanager
def _on_device(args: argparse.Namespace) -> Iterator[None]:
    """Mount what is to be worked on where it does not run, and make it the --root.

    That is the system that --device names, or this machine's own root if it runs a trial.
    """
    command: Command = args.command
    args.trial = ""
    if args.device is None and args.root == "/" and command.on_own_root:
        from ..system.root import trial

        args.trial = trial.of_snapshot()
    if not (args.trial and os.geteuid() == 0 if args.device is None else command.on_device):
        yield
        return
    from ..system.root import offline
    from .session import note

    with offline.mounted_own(note) if args.trial else offline.mounted(args.device, note) as root:
        args.root = root
        yield


def _complain(error: Error, args: argparse.Namespace | None = None) -> int:
    from ..report import clean
    from .terminal import said

    if args and args.debug:
        import traceback

        traceback.print_exc()
    hint = addressed(error.hint, args) if args else error.hint
    # The others are indented: a name with a line in it is no line of ours.
    message = "\n  ".join(clean(line).lstrip() for line in error.message.splitlines())
    print("\n".join(said("fs-rollback: ", message)), file=sys.stderr)
    if hint:
        if isinstance(error, UndoFailedError):
            print(hint, file=sys.stderr)
        else:
            print("\n".join(said("  ", clean(hint))), file=sys.stderr)
    return error.exit_code


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
