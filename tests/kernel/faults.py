# SPDX-License-Identifier: GPL-2.0-or-later
"""Faults at every point of a plan, and the state of a machine as an outsider reads it."""

from __future__ import annotations

import enum
import errno
import os
import stat
from pathlib import Path
from typing import Any, Callable

import btrfsutil

from fs_rollback.core.rollback.operations import Operations
from fs_rollback.errors import KernelError
from fs_rollback.system.execute.trees import Operations as RealOperations
from fs_rollback.system.machine.host import Host
from fs_rollback.system.store.trace import LOG
from tests.kernel.machine import Machine

# All others change something, so that none is forgotten.
_READING = frozenset(
    (
        "subvolume",
        "origin",
        "locate",
        "default_id",
        "read_file",
        "kernels",
        "runs",
        "setting",
    )
)


class Fault(enum.Enum):
    """What happens instead of, or right after, one operation."""

    ERROR_BEFORE = "an error instead of it"
    ERROR_AFTER = "an error after it was done"
    CTRL_C = "Ctrl-C"
    KILL_BEFORE = "SIGKILL before it"
    KILL_AFTER = "SIGKILL after it"

    @property
    def kills(self) -> bool:
        return self in (Fault.KILL_BEFORE, Fault.KILL_AFTER)


class Faulty:
    """Operations that fail at the `point`-th change, counted from 0; `log` names all of them."""

    def __init__(
        self,
        host: Host,
        point: int = -1,
        fault: Fault = Fault.ERROR_BEFORE,
        *,
        forever: bool = False,
        observe: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._real = RealOperations(host)
        self._point = point
        self._fault = fault
        self._forever = forever
        self._observe = observe
        self.log: list[str] = []

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name in _READING:
            return real

        def operation(*arguments: Any, **options: Any) -> Any:
            number = len(self.log)
            self.log.append(name)
            hit = number == self._point or (self._forever and number > self._point >= 0)
            self._observe(f"before {number} {name}")
            if hit:
                self._strike(before=True)
            result = real(*arguments, **options)
            if hit:
                self._strike(before=False)
            self._observe(f"after {number} {name}")
            return result

        return operation

    def _strike(self, *, before: bool) -> None:
        if self._fault is Fault.CTRL_C and before:
            raise KeyboardInterrupt
        if self._fault is (Fault.KILL_BEFORE if before else Fault.KILL_AFTER):
            os.kill(os.getpid(), 9)
        if self._fault is (Fault.ERROR_BEFORE if before else Fault.ERROR_AFTER):
            raise KernelError("do", "what was asked", OSError(errno.EIO, "injected"))


def faulty(point: int, fault: Fault, *, forever: bool = False) -> Callable[[Host], Operations]:
    """Return what makes faulty operations for a host."""
    return lambda host: Faulty(host, point, fault, forever=forever)


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a process of its own; returns the signal that killed it, 0 if none did."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not go on as a second pytest
            import traceback

            traceback.print_exc()
            os._exit(1)
    status = os.waitpid(child, 0)[1]
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the child failed otherwise"
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def manifest(tree: Path) -> dict[str, object]:
    """Return everything in a tree: type, mode, owner and content of each path, subvolumes too."""
    found: dict[str, object] = {}
    for directory, names, files in os.walk(tree):
        for name in sorted(names + files):
            path = Path(directory, name)
            status = path.lstat()
            content: object = None
            if stat.S_ISREG(status.st_mode):
                content = path.read_bytes()
            elif stat.S_ISLNK(status.st_mode):
                content = os.readlink(path)
            read_only = False
            if status.st_ino == 256:
                content = "subvolume"
                read_only = btrfsutil.get_subvolume_read_only(str(path))
            found[str(path.relative_to(tree))] = (
                status.st_mode, status.st_uid, status.st_gid, content, read_only,
            )  # fmt: skip
    return found


def state(machine: Machine) -> dict[str, object]:
    """Return what the next boot finds, and every subvolume and record; not what was told of it."""
    top = str(machine.top)
    return {
        "subvolumes": {
            path: (info.id, info.uuid, info.flags)
            for path, info in btrfsutil.SubvolumeIterator(top, 5, info=True)
        },
        "default": btrfsutil.get_default_subvolume(top),
        "root": _without_store(manifest(machine.next_root())),
        "store": sorted({*os.listdir(machine.top / "fs-snapshots")} - {LOG}),
    }


def _without_store(found: dict[str, object]) -> dict[str, object]:
    """Leave out what a root in the top level shows of the store."""
    return {path: value for path, value in found.items() if not path.startswith("fs-snapshots")}
