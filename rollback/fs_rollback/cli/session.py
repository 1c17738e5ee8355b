# SPDX-License-Identifier: GPL-2.0-or-later
"""What every command needs: the machine and its store, and ways to speak."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import Error, KernelError, PathAwayError, UsageError
from ..report import clean
from ..system.machine import host
from ..system.machine.host import Host
from ..system.store import store
from ..system.store.store import Store
from .advice import addressed
from .screen import streams
from .terminal import ask, said

if TYPE_CHECKING:
    from argparse import Namespace

    from .. import config

JSON_VERSION = 1


class Writing(NamedTuple):
    """A machine whose store is locked, settled and tidy."""

    host: Host
    store: Store


@contextmanager
def reading(root: str) -> Iterator[tuple[Host, Store | None]]:
    """Open a machine to read; the store is None if there is none yet.

    After an error btrfs makes itself read-only, and some reads fail too: then the Error raised says
    that it is read-only.
    """
    with host.opened(root) as machine:
        try:
            with store.opened(machine) as found:
                yield machine, found
        except KernelError as error:
            if not machine.mount.read_only:
                raise
            from ..system.machine import usable

            why = usable.read_only(machine)
            raise Error(f"{why}, and {error}", hint=why.hint) from error


def configuration(machine: Host) -> config.Config:
    """Read the configuration of a machine, running or not. Raises BrokenConfigError."""
    from ..system.machine import configuration as settings

    return settings.read(machine.root_fd)


def usable_configuration(machine: Host) -> config.Config:
    """Return the valid lines of the configuration, for what must not fail over a typing error."""
    from ..system.machine import configuration as settings

    return settings.usable(machine.root)[0]


def no_store(machine: Host) -> Error:
    """Return the error for a machine that has no store yet."""
    from ..system.machine import usable

    return usable.unsupported(machine) or UsageError(
        "there are no snapshots yet, and nothing to go back to",
        hint="The next dnf transaction or 'fs-rollback create' takes the first one.",
    )


@contextmanager
def writing(root: str, *, create: bool = False, makes_room: bool = False) -> Iterator[Writing]:
    """Open a machine to change its store; settles first what an earlier run left.

    A command that `makes_room` continues where a path cannot be put back, as lack of room is the
    usual reason. Raises UsageError if there is no store and `create` is false, RefusedError if the
    filesystem is read-only.
    """
    from ..system.machine import usable
    from ..system.packages import settle_records
    from ..system.pending import settle
    from ..system.snapshots import make_room, menu

    with host.opened(root) as machine:
        if machine.mount.read_only:
            raise usable.read_only(machine)
        with store.opened(machine, create=create) as found:
            if found is None:
                raise no_store(machine)
            advising = make_room.advising(
                machine, found, lambda: usable_configuration(machine).policy
            )
            with found.locked(note), advising:
                try:
                    for line in settle.settle_in_passing(machine, found)[1]:
                        _note_once(line)
                except PathAwayError as error:  # said; the way out may be what comes now
                    if not makes_room:
                        raise
                    _note_once(error.message)
                leftovers = [str(problem) for problem in found.tidy()]
                _settle_access(machine, found)
                for problem in (*leftovers, *menu.mend(machine, found)):
                    _note_once(problem)
                for record in settle_records.settle(machine, found.load()):
                    # 'list' tells the same without it, and a full disk must not stop 'delete'.
                    with suppress(KernelError):
                        found.write(record)
                yield Writing(machine, found)


def _settle_access(machine: Host, found: Store) -> None:
    """Remove what a killed restore, or a killed shell, has left. No command fails for that."""
    from ..system.access import throw_away, workplace

    try:
        for line in workplace.tidy(machine):
            _note_once(f"an earlier restore was interrupted: {line}")
    except Error as error:  # a leftover is in nobody's way; the next restore refuses to go on
        _note_once(error.line)
    for problem in throw_away.tidy(machine, found):
        _note_once(problem.line)


def refuse_device(args: Namespace) -> None:
    """Raise UsageError if --device is given for a command that needs a mounted system."""
    if args.device is not None:
        raise UsageError(
            "this command works only on the running machine, or on --root",
            hint="Leave out --device.",
        )


def print_json(data: dict[str, Any]) -> None:
    """Print the one JSON object that a command answers with."""
    import json

    json.dump({"version": JSON_VERSION, **data}, sys.stdout, indent=1)
    sys.stdout.write("\n")


def reply(args: Namespace, answer: dict[str, Any], text: str, *, code: int = 0) -> int:
    """Print how a change ended, as JSON or as text ("" for none); returns the exit code."""
    # Whether or not anybody reads it, the code says what became of the machine.
    with suppress(OSError):
        if args.json:
            print_json(answer)
        elif text:
            print(addressed("\n".join(map(clean, text.split("\n"))), args))
    return code


def unchanged(args: Namespace, answer: dict[str, Any]) -> int:
    """Say that nothing was changed: it was a dry run, or the answer was no."""
    if args.dry_run:
        return reply(args, answer, "This was a dry run: nothing was changed.")
    return reply(args, answer, "Nothing was changed.", code=1)


def note(text: str) -> None:
    """Say something to people; scripts do not read it."""
    with suppress(BrokenPipeError):  # main() finds that out at the end
        sys.stdout.flush()  # what was said before comes before
    with suppress(OSError):  # a terminal that went away is no reason to stop what is being done
        print("\n".join(said("fs-rollback: ", clean(text))), file=sys.stderr)


@cache
def _note_once(text: str) -> None:
    """Say what an earlier run has left, once however often a command opens the store."""
    note(text)


def confirm(question: str, *, yes: bool) -> bool:
    """Ask, and return whether the answer is yes. Does not ask if `yes`.

    Raises UsageError without a terminal, and Error where the question could not be shown.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise UsageError("no terminal to ask on", hint="Use --yes to proceed without asking.")
    if problem := streams.problem():
        raise Error(
            f"cannot show what the question is about: {problem}", hint="Nothing was changed."
        )
    return ask(f"{question} [y/N] ").lower() in ("y", "yes")
