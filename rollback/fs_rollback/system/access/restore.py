# SPDX-License-Identifier: GPL-2.0-or-later
"""Restores files and directories of a snapshot into the root, or elsewhere.

Everything is copied and synced first. Then each path is exchanged with its copy in one atomic step,
and the previous version gets another name: at any instant, either version is there, complete.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta

from ...core.comparison.upkeep import BEFORE_RESTORE
from ...core.progress import Progress, untold
from ...core.snapshots.names import beginning
from ...core.snapshots.snapshot import Snapshot
from ...errors import Error, RefusedError, kernel_errors
from ..execute import flags
from ..execute.copying import copy_paths
from ..execute.executor import signals_let_through
from ..execute.trees import Operations
from ..linux import durable, files, syscalls
from ..machine.host import Host
from . import privileges, workplace
from .paths import Item, status_in
from .workplace import COPIES, Move

_LONGEST_NAME = 255  # NAME_MAX, linux/limits.h


def plan(host: Host, items: Sequence[Item], now: datetime) -> list[Move]:
    """Return the moves that restore items to their old places."""
    return [Move(i.path, i.path, _kept(host, i, now) if i.inode else "") for i in items]


def plan_aside(items: Sequence[Item], aside: str) -> list[Move]:
    """Return the moves that put items into the directory `aside`, by the last parts of their paths.

    Raises RefusedError if one of these names is taken.
    """
    moves = [Move(item.path, os.path.basename(item.path), "") for item in items]
    names = [move.place for move in moves]
    with files.opened(aside) as directory:
        for move in moves:
            is_twice = names.count(move.place) > 1
            if is_twice or status_in(directory, move.place) is not None:
                why = "two of the paths have that last name" if is_twice else "it already exists"
                raise RefusedError(
                    f"{os.path.join(aside, move.place)} cannot be created: {why}",
                    hint="Give another directory with --aside; nothing there is overwritten.",
                )
    return moves


def _kept(host: Host, item: Item, now: datetime) -> str:
    """Return the path that what is there now gets: its name and the time, cut to fit."""
    head, name = os.path.split(item.path)
    while True:
        ending = f"{BEFORE_RESTORE}{now:%Y%m%d%H%M%S}"
        short = beginning(name, _LONGEST_NAME - len(ending), in_bytes=True)
        path = os.path.join(head, short + ending)
        if status_in(host.root_fd, path) is None:
            return path
        now += timedelta(seconds=1)


def settle(host: Host, aside: str | None) -> list[str]:
    """Remove what a killed restore left in the place that this one uses; see `workplace.tidy`."""
    if aside is None:
        return workplace.tidy(host)
    with files.opened(aside) as base:
        return workplace.tidy_in(base, os.path.join(aside, workplace.WORKPLACE))


def carry_out(
    host: Host,
    snapshot: Snapshot,
    moves: Sequence[Move],
    aside: str | None,
    told: Progress = untold,
) -> None:
    """Carry out the moves in the root, or in the directory `aside`. Needs the store's lock.

    Files lose their privileges in a directory that users other than root can enter. Signals that
    the caller blocks are let through only during the copying; `told` gets its progress. If it
    raises Error, everything is as before; the next run cleans up after a killed process.
    """
    root = host.root_subvolume.path
    write = durable.write_for_next_commit if aside is None else durable.write_text
    with (
        files.opened(host.path(root) if aside is None else aside) as base,
        files.opened(host.path(snapshot.path)) as tree,
        workplace.opened(base, moves, write) as place,
    ):
        with signals_let_through(), kernel_errors("copy", f"the files of {snapshot.name}"):
            is_open = aside is not None and not privileges.is_private(base)
            wanted = [move.path for move in moves]
            protected = _copy(tree, place, wanted, is_open=is_open, told=told)
        moves = [_with_copy(place, move) for move in moves]
        workplace.write_list(place, moves, write)
        if aside is None:
            for move in moves:
                Operations(host).make_parents(snapshot.path, root, move.place)
        _sync(base)
        _put_all(base, place, moves, protected)
        _sync(base)


def _sync(base: int) -> None:
    with kernel_errors("sync", "the filesystem"):
        syscalls.sync_filesystem(base)


def _with_copy(place: int, move: Move) -> Move:
    status = status_in(place, move.in_workplace)
    if status is None:
        raise Error(f"the copy of /{move.path} has vanished")
    return move._replace(copy=status.st_ino)


def _copy(
    tree: int, place: int, wanted: Sequence[str], *, is_open: bool, told: Progress
) -> dict[str, int]:
    """Copy paths of a tree to the workplace; return what protects each of these itself.

    That can be set only in its place: what is protected cannot be renamed. With `is_open` others
    than root can come to that, and files lose their privileges. Raises OSError, ProcessError.
    """
    copy = f"/proc/self/fd/{place}/{COPIES}"
    with files.opened(copy) as directory:
        found = copy_paths(tree, directory, wanted, told)
    protected = {path: found.get(path, 0) & flags.PROTECTED for path in wanted}
    for path, bits in protected.items():
        if path in found:
            found[path] &= ~bits
    if is_open:  # before anything is immutable
        for path in wanted:
            privileges.take_off(place, f"{COPIES}/{path}")
    flags.put(copy, found)
    return {path: bits for path, bits in protected.items() if bits}


def _put_all(base: int, place: int, moves: Sequence[Move], protected: dict[str, int]) -> None:
    """Put every copy into its place; where one fails, those before it are taken back."""
    done: list[Move] = []
    try:
        for move in moves:
            workplace.put(base, place, move)
            done.append(move)
    except Error:
        for move in reversed(done):
            workplace.take_back(base, place, move)
        raise
    for move in moves:
        if move.path in protected:
            with kernel_errors("protect", move.place), workplace.at(base, move.place) as found:
                flags.set_on(found, protected[move.path])
