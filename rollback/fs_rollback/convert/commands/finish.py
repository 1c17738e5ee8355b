# SPDX-License-Identifier: GPL-2.0-or-later
"""The command that comes after the conversion: convert finish."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from datetime import datetime
from typing import Any

from ...cli import session
from ...core.snapshots.record import Kind
from ...errors import Error, UsageError
from ...system.execute import executor
from ...system.hooks.transaction import requested_by
from ...system.machine.host import Host
from ...system.rollback import perform, propose
from ...system.root import root_lines
from ...system.snapshots import take_and_delete
from ...system.store.store import Store
from ..finish import rename_root
from ..finish import tasks as finish_tasks
from ..finish.tasks import Task
from ..run import balance

_AGAIN = "After the reboot, 'fs-rollback convert finish --layout' gives the root its name."


def finish(args: Namespace) -> int:
    """`convert finish`: verify, tidy, then what was asked for, or ask for each."""
    session.refuse_device(args)
    with session.writing(args.root, create=True) as (host, store):
        preparation = finish_tasks.verify(host, store)
        tasks = finish_tasks.open_tasks(host)
        wanted = [task for task in Task if getattr(args, task.value.replace("-", "_"))]
        for task in wanted:
            if task not in tasks:
                session.note(f"--{task.value}: there is nothing left to do")
        if args.dry_run and wanted:
            tasks = tuple(task for task in tasks if task in wanted)
        answer: dict[str, Any] = {
            "tasks": [{"task": t.value, "sentence": _what(host, t) + "."} for t in tasks],
            "finished": [],
        }
        if args.dry_run:
            return _answer(args, answer, _listed(host, tasks))
        if tasks and _asks(args, wanted) and not sys.stdin.isatty():
            raise UsageError(
                "nobody is there to answer the questions",
                hint="Name what is to be done, or say --yes.",
            )
        _refuse_without_room(host, [task for task in tasks if task in wanted])
        if not args.json:
            came_up = "came up from btrfs and would come up again"
            verified = came_up if host.is_running else "would come up from btrfs"
            print(f"Verified: this machine {verified}.", flush=True)
        finish_tasks.tidy(host, preparation, session.note)
        for task in tasks:
            if not _is_wanted(args, host, task, wanted):
                continue
            if task not in wanted and Task.BALANCE.value not in answer["finished"]:
                _refuse_without_room(host, [task])
            _do(host, store, task)
            answer["finished"].append(task.value)
            if task is Task.LAYOUT:
                break
        if not _is_left(host):
            finish_tasks.forget(host)
        refused = [f"--{t.value}" for t in tasks if t.value not in answer["finished"]]
        again = f"Not done: {' '.join(refused)}. 'fs-rollback convert finish' asks again."
        return _answer(args, answer, again if refused and _asks(args, wanted) else "")


def _asks(args: Namespace, wanted: list[Task]) -> bool:
    return not (wanted or args.yes or args.json)


def _what(host: Host, task: Task) -> str:
    return finish_tasks.what(task, ends_way_back=finish_tasks.is_way_back(host))


def _is_wanted(args: Namespace, host: Host, task: Task, wanted: list[Task]) -> bool:
    """Whether a task was asked for, or is when it is asked."""
    if not _asks(args, wanted):
        return task in wanted
    return session.confirm(_what(host, task) + ".\nDo it?", yes=False)


def _refuse_without_room(host: Host, chosen: list[Task]) -> None:
    """Raise RefusedError where the way back to ext4 would go and a balance cannot succeed."""
    if not finish_tasks.is_way_back(host):
        return
    if Task.BALANCE in chosen:
        balance.refuse_full(host)
    elif Task.REMOVE_EXT4 in chosen:
        balance.refuse_untidy(host)


def _is_left(host: Host) -> bool:
    """Whether anything is left that only this command can do."""
    return bool({Task.REMOVE_EXT4, Task.LAYOUT} & {*finish_tasks.open_tasks(host)})


def _do(host: Host, store: Store, task: Task) -> None:
    if task is Task.REMOVE_EXT4:
        finish_tasks.remove_ext4(host)
        session.note("the old ext4 is gone")
    elif task is Task.DEFRAGMENT:
        finish_tasks.defragment(host, session.note)
    elif task is Task.BALANCE:
        balance.balance(host, session.note, is_way_back=finish_tasks.is_way_back(host))
    elif task is Task.FREE_SPACE_TREE:
        finish_tasks.ask_for_free_space_tree(host)
        session.note("the next boot makes the free space tree")
    elif finish_tasks.is_top_level(host):
        _leave_top_level(host, store)
    else:
        _give_names(host, store)


def _leave_top_level(host: Host, store: Store) -> None:
    """Make a subvolume of the root, as a rollback to what it is now: all that holds for that."""
    now = datetime.now().astimezone()
    record = take_and_delete.take(
        host, store, Kind.MANUAL, now, description="before the root left the top level"
    )
    store.write(record)
    target = next(s for s in store.load() if s.name == record.name)
    try:
        keep = session.configuration(host).keep
        found = propose.propose(host, store, target, keep, now)
    except Error:
        host.forget()
        take_and_delete.delete(
            host, store, target, take_and_delete.roots(host)
        )  # nobody asked for it
        raise
    with executor.finishing():
        perform.carry_out(host, store, found, requested_by(dict(os.environ)), _observe)
        session.note("the next boot uses a subvolume that is a copy of this root. Now: reboot")
        session.note(_AGAIN)


def _observe(*_: object) -> None:
    """Say nothing: what is done was said before."""


def _give_names(host: Host, store: Store) -> None:
    layout = root_lines.read_layout(host)
    wanted = rename_root.look(host, layout)
    rename_root.refuse(host, store, layout, wanted)
    with executor.finishing():
        rename_root.give_names(host, store, layout, wanted, session.note)
    session.note("the root is the subvolume root. Now: reboot")


def _listed(host: Host, tasks: tuple[Task, ...]) -> str:
    lines = [f"--{task.value}\n    {_what(host, task)}." for task in tasks]
    return "\n".join(["What is left:", *lines, "This was a dry run: nothing was changed."])


def _answer(args: Namespace, answer: dict[str, Any], text: str) -> int:
    if args.json:
        session.print_json(answer)
    elif text:
        print(text)
    return 0
