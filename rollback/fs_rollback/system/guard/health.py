# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether a boot is healthy: the services that must be active, and programs that must succeed.

The programs are an administrator's, in /etc/fs-rollback/health.d, and those of greenboot where they
are: https://github.com/fedora-iot/greenboot, "Health checks".
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import NamedTuple

from ...core.guard import units
from ...core.guard.units import Unit
from ...errors import ProcessError
from ..linux import process
from ..linux.process import Say
from ..machine.configuration import others_write
from ..machine.host import Host

_OURS = "/etc/fs-rollback/health.d"
_GREENBOOT = ("/etc/greenboot/check", "/usr/lib/greenboot/check")
_NEVER = ("not-found", "masked")  # org.freedesktop.systemd1(5), LoadState
_REQUIRED, _WANTED = "required.d", "wanted.d"
_LEFT_BEHIND = ("~", ".rpmnew", ".rpmsave", ".rpmorig", ".bak", ".swp")
_NAMED = 5
_MOST_CHARACTERS = 200
_ON_THE_WAY_S, _AGAIN_S, _ASKED_S = 60.0, 5.0, 30.0


class Check(NamedTuple):
    """A program, the words that start it, and whether it has to succeed."""

    path: str
    words: tuple[str, ...]
    is_required: bool = True


def checks(ours: str = _OURS, greenboot: Sequence[str] = _GREENBOOT) -> list[Check]:
    """Return the programs in the order in which they run: one directory after the other, by name.

    In our directory, executable files are run; in those of greenboot, *.sh files, by bash.
    """
    found = [Check(path, (path,)) for path in _files(ours) if os.access(path, os.X_OK)]
    for kind in (_REQUIRED, _WANTED):
        for place in greenboot:
            scripts = (p for p in _files(f"{place}/{kind}") if p.endswith(".sh"))
            found += [Check(p, ("bash", p), kind == _REQUIRED) for p in scripts]
    return found


def _files(directory: str) -> Iterator[str]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):  # there are none
        return
    for name in names:
        path = f"{directory}/{name}"
        if os.path.isfile(path) and not name.startswith(".") and not name.endswith(_LEFT_BEHIND):
            yield path


def why_not(path: str) -> str:
    """Return why a program is not run, "" if it is: others than root can change or replace it."""
    for place in (path, os.path.dirname(path), os.path.dirname(os.path.realpath(path))):
        with suppress(OSError):  # it has gone, which is told when it is started
            if others_write(os.stat(place)):
                return f"{path} is not run: others than root can change {place}"
    return ""


def trouble(names: Sequence[str], begin: Say, said: Say) -> str:
    """Return why this boot is not healthy, "" if it is.

    `names` are the services that must be active. `begin` is called with what is checked next,
    `said` with each line that a program prints, and with each optional program that failed.
    """
    if names:
        begin(f"the services {', '.join(names)}")
        found = _of_units(names)
        if found:
            return found
    for check in checks():
        if reason := why_not(check.path):
            said(reason)
            continue
        begin(check.path)
        last: list[str] = []

        def heard(line: str, path: str = check.path, last: list[str] = last) -> None:
            last[:] = [line]
            said(f"{os.path.basename(path)}: {line}")

        try:
            code, _ = process.watch(check.words, heard)
        except ProcessError as error:  # said, as if it had failed
            code, last = 1, [error.message]
        if code and check.is_required:
            return f"{check.path} failed: {(last or [f'exit code {code}'])[0][:_MOST_CHARACTERS]}"
        if code:
            said(f"{check.path} failed, but it is optional")
    return ""


def _of_units(names: Sequence[str]) -> str:
    """Return which service is not active, or does not stay so, "" if all are."""
    deadline = time.monotonic() + _ON_THE_WAY_S
    try:
        before = _look(names)
        while units.is_on_the_way(before) and time.monotonic() < deadline:
            time.sleep(1)
            before = _look(names)
        if not units.trouble(before, before):
            time.sleep(_AGAIN_S)
        return units.trouble(before, _look(names))
    except (ProcessError, ValueError) as error:  # what is unknown is not healthy
        return f"the services cannot be checked: {error}"


def never(host: Host, names: Sequence[str]) -> str:
    """Return a service that can never be active in the running system, "" if none is known.

    A misspelled name, or a unit of a removed package, is no reason to roll back.
    """
    if not (names and host.is_running):
        return ""
    try:
        found = [unit for unit in _look(names) if unit.load in _NEVER]
    except (ProcessError, ValueError):  # as promised
        return ""
    return f"{found[0].name} is {found[0].load}" if found else ""


def _look(names: Sequence[str]) -> tuple[Unit, ...]:
    wanted = f"--property={','.join(units.PROPERTIES)}"
    _, shown = process.ask(("systemctl", "show", wanted, "--", *names), timeout_s=_ASKED_S)
    return units.parse(names, shown)


def unfinished() -> str:
    """Return what an unfinished boot is waiting for, and which units have failed."""
    jobs = [row[1] for row in _rows("list-jobs") if row[3:] == ["running"]]
    failed = [row[0] for row in _rows("list-units", "--failed")]
    said = (("waiting for:", jobs), ("failed:", failed))
    return "; ".join(f"{start} {', '.join(names[:_NAMED])}" for start, names in said if names)


def _rows(*words: str) -> list[list[str]]:
    """Return the words of each line that systemctl(1) prints, none where it does not answer."""
    command = ("systemctl", *words, "--no-legend", "--plain")
    try:
        _, printed = process.ask(command, timeout_s=_ASKED_S)
    except ProcessError:  # as promised
        return []
    return [line.split() for line in printed.splitlines() if line.split()]
