# SPDX-License-Identifier: GPL-2.0-or-later
"""How the guard stands, for `guard status`, `status` and the message at login."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ... import report
from ...core.guard.state import Guard
from ...errors import Error, RefusedError
from ...system.guard import arm, health, outcome
from ...system.loader import entries
from ...system.root import root_lines
from ...system.store import guards
from .. import session

if TYPE_CHECKING:
    from ...core.guard.state import Armed, Failure
    from ...system.machine.host import Host
    from ...system.store.store import Store

# motd(5) of Linux-PAM and issue(5) of util-linux 2.35 and later read these directories.
_MESSAGES = ("/run/motd.d/fs-rollback", "/run/issue.d/fs-rollback.issue")


def gather(host: Host, store: Store | None) -> tuple[dict[str, Any], list[str]]:
    """Return how the guard stands, as JSON has it, and what somebody should act on."""
    attention: list[str] = []
    guard, is_armed = Guard(), False
    try:
        guard = guards.read(store) if store is not None else guard
        is_armed = arm.is_armed(host, guard.armed)
        attention += _trouble(host, guard.armed) if is_armed and guard.armed else []
    except Error as error:  # said
        attention.append(error.line)
    armed = guard.armed if is_armed else None
    if guard.unacknowledged is not None:
        attention.append(attention_of(guard.unacknowledged))
    if host.is_running:  # these programs are its own
        attention += _left_out()
    return {
        "setting": session.usable_configuration(host).guard,
        "armed": is_armed,
        "next_boot": _next_boot(host, armed),
        "way_back": armed.snapshot if armed is not None else None,
        "entry": armed.title if armed is not None else None,
        "failure": _failure(guard.failure),
    }, attention


def _left_out() -> list[str]:
    """Return which programs a guarded boot leaves out: without them it may seem healthy."""
    try:
        checks = health.checks()
    except OSError as error:  # said
        return [f"the programs that tell whether a boot is healthy cannot be listed: {error}"]
    told = filter(None, (health.why_not(check.path) for check in checks))
    return [f"{reason}. Make it root's: 'chown root:root' and 'chmod go-w'" for reason in told]


def _trouble(host: Host, armed: Armed) -> list[str]:
    try:
        trouble = arm.trouble(host, armed)
    except RefusedError:  # in the snapshot, which has booted
        return []
    return [f"{trouble}: 'fs-rollback guard on' sets it up again"] if trouble else []


def answer(host: Host, store: Store | None) -> dict[str, Any]:
    """Return what every action answers with in JSON."""
    told, attention = gather(host, store)
    reason = "" if told["armed"] else _why_not(host)
    return {**told, "possible": not reason, "reason": reason or None, "attention": attention}


def _why_not(host: Host) -> str:
    try:
        layout = root_lines.read_layout(host)
        return arm.why_not(host, layout, entries.read(host, layout))
    except RefusedError as error:  # no rollback is possible, and no way back
        return error.line


def _next_boot(host: Host, armed: Armed | None) -> str:
    """Return which entry the next boot uses, in a word."""
    if armed is None:
        return "usual"
    return "guarded" if arm.has_next_boot(host, armed) else "snapshot"


def attention_of(failure: Failure) -> str:
    """Return what a person must know about a guarded boot that failed, and what to do."""
    return (
        f"{outcome.sentence(failure)}. 'fs-rollback guard status' shows details; 'fs-rollback guard"
        " acknowledge' lets unattended updates run again"
    )


def _failure(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {
        "snapshot": failure.snapshot,
        "since": failure.since or None,
        "reason": failure.reason,
        "log": list(failure.log),
        "time": failure.time,
        "acknowledged": failure.is_acknowledged,
    }


def say_at_login(text: str) -> None:
    """Show a text at login, or none if it is ""; errors are ignored."""
    for path in _MESSAGES:
        if text:
            # agetty(8) takes a backslash for one of its escapes.
            shown = report.clean(text)
            shown = shown.replace("\\", "\\\\") if path.endswith(".issue") else shown
            write(path, f"fs-rollback: {shown}")
        else:
            with suppress(OSError):  # there is none
                os.unlink(path)


def write(path: str, text: str) -> None:
    """Write a file in /run that all users can read; errors are ignored."""
    with suppress(OSError):  # no /run: nothing to be done about it
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8", errors="replace") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text + "\n")
