# SPDX-License-Identifier: GPL-2.0-or-later
"""fs-snapshot for dnf 5: a snapshot of the btrfs root before each transaction.

A thin adapter, as that for dnf 4 is: it translates dnf 5's transaction, answers and errors. stdout
and stdin are the protocol of the Actions plugin (libdnf5-actions(8)), people are told on stderr.
"""

from __future__ import annotations

import json
import os
import sqlite3  # noqa: F401 - loaded now: gone perhaps when the child needs it
import sys
from contextlib import suppress
from typing import NoReturn

from fs_rollback.core.packages.changes import Item, changes
from fs_rollback.core.snapshots.record import Transaction
from fs_rollback.errors import Error
from fs_rollback.report import clean
from fs_rollback.system.hooks import keeper, protection, transaction
from fs_rollback.system.store import trace

_WAY_OUT = (
    "Nothing was changed. To go on without a snapshot: --disable-plugin=actions (turns off the"
    " actions of all packages), or on_failure = warn in /etc/fs-rollback.conf."
)
# libdnf5/transaction/transaction_item_action.hpp; O is what each of U, D and R replaces.
_COMING = {"I": "install", "U": "upgrade", "D": "downgrade", "R": "reinstall"}
_GOING = {"U": "upgraded", "D": "downgraded", "R": "reinstalled"}
_OTHERS = {"E": "remove", "?": "reason_change"}


def run(pid: int) -> NoReturn:
    """Answer the hook of the dnf 5 with this PID; its packages have been asked for."""
    code = 1
    try:
        _protect(pid, sys.stdin.readline())
        code = 0
    except KeyboardInterrupt:  # said by its code; dnf 5 has the same signal
        code = 130
    except Exception as error:  # noqa: BLE001 - dnf 5 is gone, mostly
        _say(str(error))
    finally:
        # Not through atexit: the store's lock is the child's now.
        os._exit(code)


def _protect(pid: int, answer: str) -> None:
    def describe() -> protection.Described | None:
        packages = _packages(answer)
        found = _describe(pid, packages)
        return protection.Described(found, _coming(packages)) if found is not None else None

    found = protection.protect(describe, _WAY_OUT, _say, reads_switch=True)
    if found.stop:
        _stop(f"fs-snapshot: {found.stop}")
        return
    if found.taken is not None:
        try:
            _leave_child(pid, found.taken)
        except (Error, OSError) as error:  # on_failure decides
            sentence = f"cannot watch the transaction: {error}"
            event = trace.Event("failed", found.taken.record.name, reason=sentence)
            trace.tell(found.taken.machine, event)
            if found.taken.config.on_failure == "abort":
                _stop(f"fs-snapshot: {sentence}. {_WAY_OUT}")
                return
            _say(sentence)
    if found.line and not _is_quiet(_command_line(pid)):
        _say(found.line)
    for warning in found.warnings:
        _say(warning)


def _leave_child(pid: int, taken: transaction.Taken) -> None:
    """Leave a child that has the store until dnf 5 has ended. Raises Error and OSError."""
    watched = keeper.watch(pid, taken)
    if os.fork() == 0:
        try:
            keeper.keep(taken, watched)
        finally:
            os._exit(0)


def _packages(answer: str) -> list[dict[str, str]]:
    """Read what dnf 5 answers to the request for its packages. Raises OSError."""
    found = json.loads(answer) if answer else {"message": "dnf 5 has ended"}
    if found.get("status") != "OK":
        raise OSError(f"dnf 5 did not say which packages it will change: {found.get('message')}")
    packages: list[dict[str, str]] = found["return"]["trans_packages"]
    return packages


def _describe(pid: int, packages: list[dict[str, str]]) -> Transaction | None:
    if all(package["action"] == "?" for package in packages):
        return None  # `dnf mark`: no file of a package changes
    line = _command_line(pid)
    is_offline = line[1:3] == ("offline", "_execute")
    if not line or is_offline or not _is_dnf(line[0]):
        line = keeper.description(pid, offline=is_offline) or line
    return Transaction(
        "dnf5",
        transaction.command_line(line),
        transaction.requested_by(dict(os.environ)),
        changes(_items(packages)),
    )


def _coming(packages: list[dict[str, str]]) -> int | None:
    """Return the installed size of the packages that come, None if dnf 5 does not tell it."""
    try:
        return sum(int(p["install_size"]) for p in packages if p["action"] in _COMING)
    except (KeyError, ValueError):  # less is asked of the disk then
        return None


def _is_dnf(program: str) -> bool:
    return os.path.basename(program) in ("dnf", "dnf5", "yum", "microdnf")


def _items(packages: list[dict[str, str]]) -> list[Item]:
    """Return the packages as `changes` knows them: what goes says why."""
    coming = {}
    for package in packages:
        if package["action"] in _GOING:
            coming[package["name"], package["arch"]] = package["action"]
            coming.setdefault((package["name"], ""), package["action"])
    found = []
    for package in packages:
        name, arch, action = package["name"], package["arch"], package["action"]
        if action == "O":
            successor = coming.get((name, arch)) or coming.get((name, ""))
            meant = _GOING[successor] if successor else "obsoleted"
        else:
            meant = _COMING.get(action) or _OTHERS.get(action, "unknown")
        found.append(Item(meant, name, arch, package["evr"]))
    return found


def _command_line(pid: int) -> tuple[str, ...]:
    """Return the command line of dnf 5; () where it is gone."""
    # As promised.
    with suppress(OSError), open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as f:
        return tuple(f.read().split("\0")[:-1])
    return ()


def _is_quiet(line: tuple[str, ...]) -> bool:
    """Whether -q was given: dnf 5 does not tell, and shows what is on stderr all the same."""
    return any(a == "--quiet" or (a[:1] == "-" and a[1:].isalpha() and "q" in a) for a in line)


def _stop(message: str) -> None:
    """End dnf 5 with this message; it does not answer."""
    print(json.dumps({"op": "stop", "args": {"message": clean(message)}}), flush=True)


def _say(text: str) -> None:
    with suppress(OSError):  # nobody listens: no reason to decide otherwise
        print(f"fs-snapshot: {clean(text)}", file=sys.stderr, flush=True)
