# SPDX-License-Identifier: GPL-2.0-or-later
"""Does a task of `convert finish`, and says which are left."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Callable

from ...core.snapshots.record import Kind
from ...errors import Error
from ...system.execute import executor
from ...system.hooks.transaction import requested_by
from ...system.machine import configuration
from ...system.machine.host import Host
from ...system.rollback import perform, propose
from ...system.root import root_lines, roots_in_use
from ...system.snapshots import take_and_delete
from ...system.store.store import Store
from ..run import balance
from . import rename_root, tasks
from .tasks import Task

_AGAIN = "After the reboot, 'fs-rollback convert finish --layout' gives the root its name."


def refuse_without_room(host: Host, chosen: list[Task]) -> None:
    """Raise RefusedError where the way back to ext4 would go and a balance cannot succeed."""
    if not tasks.is_way_back(host):
        return
    if Task.BALANCE in chosen:
        balance.refuse_full(host)
    elif Task.REMOVE_EXT4 in chosen:
        balance.refuse_untidy(host)


def is_left(host: Host) -> bool:
    """Whether anything is left that only this command can do."""
    return bool({Task.REMOVE_EXT4, Task.LAYOUT} & {*tasks.open_tasks(host)})


def do(host: Host, store: Store, task: Task, say: Callable[[str], None]) -> None:
    """Do one task, and say what came of it. Raises RefusedError, KernelError, ProcessError."""
    if task is Task.REMOVE_EXT4:
        tasks.remove_ext4(host)
        say("the old ext4 was deleted")
    elif task is Task.DEFRAGMENT:
        tasks.defragment(host, say)
    elif task is Task.BALANCE:
        balance.balance(host, say, is_way_back=tasks.is_way_back(host))
    elif task is Task.FREE_SPACE_TREE:
        tasks.ask_for_free_space_tree(host)
        say("the next boot creates the free space tree")
    elif tasks.is_top_level(host):
        _leave_top_level(host, store, say)
    else:
        _give_names(host, store, say)


def _leave_top_level(host: Host, store: Store, say: Callable[[str], None]) -> None:
    """Make a subvolume of the root, as a rollback to what it is now: all that holds for that."""
    now = datetime.now().astimezone()
    record = take_and_delete.take(
        host, store, Kind.MANUAL, now, description="before the root left the top level"
    )
    store.write(record)
    target = next(s for s in store.load() if s.name == record.name)
    try:
        keep = configuration.read(host.root_fd).keep
        found = propose.propose(host, store, target, keep, now)
    except Error:
        host.forget()
        in_use = roots_in_use.read(host)
        take_and_delete.delete(host, store, target, in_use, "no longer needed")
        raise
    with executor.finishing():
        perform.carry_out(host, store, found, requested_by(dict(os.environ)), _observe)
        say("the next boot uses a subvolume that is a copy of this root. Now: reboot")
        say(_AGAIN)


def _observe(*_: object) -> None:
    """Say nothing: what is done was said before."""


def _give_names(host: Host, store: Store, say: Callable[[str], None]) -> None:
    layout = root_lines.read_layout(host)
    wanted = rename_root.look(host, layout)
    rename_root.refuse(host, store, layout, wanted)
    with executor.finishing():
        rename_root.give_names(host, store, layout, wanted, say)
    say("the root is the subvolume root. Now: reboot")
