# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert finish`: what comes after a good boot on btrfs."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ...cli import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

    from ...system.machine.host import Host
    from ..finish.tasks import Task

_TASKS = (
    ("balance", "repack partly full data chunks, and the metadata: no way back to ext4 after this"),
    ("remove-ext4", "delete ext2_saved, without asking: no way back to ext4 after this"),
    ("defragment", "defragment all files: no way back to ext4 after this"),
    ("free-space-tree", "create the free space tree at the next boot, if there is none"),
    ("layout", "make the root the subvolume root, and /home the subvolume home; needs two reboots"),
)


def arguments(parser: ArgumentParser) -> None:
    """Add what `convert finish` takes."""
    for option, what in _TASKS:
        parser.add_argument(f"--{option}", action="store_true", help=what)
    command.yes(parser)
    command.dry_run(parser)
    command.json(parser)


def run(args: Namespace) -> int:
    """`convert finish`: verify, tidy, then what was asked for, or ask for each."""
    from ...cli import session
    from ...errors import UsageError
    from ...system.store import trace
    from ..finish import do_task
    from ..finish import tasks as finish_tasks
    from ..finish.tasks import Task

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
            return session.reply(args, answer, _listed(host, tasks))
        if tasks and _asks(args, wanted) and not sys.stdin.isatty():
            raise UsageError(
                "no terminal to ask on",
                hint="Name the tasks to do, or use --yes.",
            )
        do_task.refuse_without_room(host, [task for task in tasks if task in wanted])
        if not args.json:
            came_up = "booted from btrfs and would boot again"
            verified = came_up if host.is_running else "would boot from btrfs"
            print(f"Verified: this machine {verified}.", flush=True)
        finish_tasks.tidy(host, preparation, session.note)
        for task in tasks:
            if not _is_wanted(args, host, task, wanted):
                continue
            if task not in wanted and Task.BALANCE.value not in answer["finished"]:
                do_task.refuse_without_room(host, [task])
            do_task.do(host, store, task, session.note)
            trace.tell(host, trace.Event("conversion", reason=f"finish --{task.value} is done"))
            answer["finished"].append(task.value)
            if task is Task.LAYOUT:
                break
        if not do_task.is_left(host):
            finish_tasks.forget(host)
        refused = [f"--{t.value}" for t in tasks if t.value not in answer["finished"]]
        again = f"Not done: {' '.join(refused)}. 'fs-rollback convert finish' asks again."
        return session.reply(args, answer, again if refused and _asks(args, wanted) else "")


def _asks(args: Namespace, wanted: list[Task]) -> bool:
    return not (wanted or args.yes or args.json)


def _what(host: Host, task: Task) -> str:
    from ..finish import tasks as finish_tasks

    return finish_tasks.what(task, ends_way_back=finish_tasks.is_way_back(host))


def _is_wanted(args: Namespace, host: Host, task: Task, wanted: list[Task]) -> bool:
    """Whether a task was asked for, or is when it is asked."""
    from ...cli import session

    if not _asks(args, wanted):
        return task in wanted
    return session.confirm(_what(host, task) + ".\nDo it?", yes=False)


def _listed(host: Host, tasks: tuple[Task, ...]) -> str:
    lines = [f"--{task.value}\n    {_what(host, task)}." for task in tasks]
    return "\n".join(["What is left:", *lines, "This was a dry run: nothing was changed."])


_HELP = "check the machine after its first boot on btrfs, and tidy up"
COMMAND = command.Command(_HELP, arguments, run, on_device=False)
