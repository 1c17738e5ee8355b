# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a rollback, and those of them that bring what must survive into the new root.

They ask `Operations`, which system/execute/trees.py implements on a real filesystem. All paths are
relative to the top level.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from ..formats import fstab
from ..snapshots import names
from .operations import Operations
from .step import Step

RootStep = Step[Operations]


class StepInNewRoot(RootStep):
    """A change in the new root: nothing to take back, since that is deleted as a whole."""

    def undo(self, operations: Operations) -> None:
        """Leave it."""


class StepUndoneInNewRoot(RootStep):
    """A change in the new root that is taken back in there, or that could not be deleted.

    Its `undo` is left out where somebody put something else in the place of the new root.
    """


@dataclass(frozen=True)
class KeepPaths(RootStep):
    """User data comes along, from a frozen image of the old root, so that nothing moves."""

    root: str
    spare: str
    frozen: str
    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"Copy what must survive from the present root: {', '.join(self.paths)}."

    def apply(self, operations: Operations) -> None:
        operations.delete(self.frozen)
        operations.snapshot(self.root, self.frozen, read_only=True)
        operations.keep(self.frozen, self.spare, [path.lstrip("/") for path in self.paths])
        operations.delete(self.frozen)

    def undo(self, operations: Operations) -> None:
        operations.delete(self.frozen)


@dataclass(frozen=True)
class CarrySubvolume(StepUndoneInNewRoot):
    """A nested subvolume is in no snapshot of its parent: its present state is carried over."""

    root: str
    spare: str
    path: str

    def describe(self) -> str:
        return f"Carry over the nested subvolume {names.shown(f'/{self.path}')} as it is now."

    def apply(self, operations: Operations) -> None:
        operations.make_room(self.root, self.spare, self.path)
        operations.snapshot(
            join(self.root, self.path), join(self.spare, self.path), read_only=False
        )

    def undo(self, operations: Operations) -> None:
        operations.delete(join(self.spare, self.path))


@dataclass(frozen=True)
class SealSubvolumes(StepUndoneInNewRoot):
    """What was read-only in the old root is read-only in the new one."""

    spare: str
    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"Make read-only again: {in_words(self.paths)}."

    def apply(self, operations: Operations) -> None:
        for path in self.paths:
            operations.set_read_only(join(self.spare, path), read_only=True)

    def undo(self, operations: Operations) -> None:
        # What is nested in a read-only subvolume could not be deleted.
        for path in self.paths:
            operations.set_read_only(join(self.spare, path), read_only=False)


@dataclass(frozen=True)
class MendFstab(StepInNewRoot):
    """The snapshot's fstab names the root subvolume as this machine does today; "" is none."""

    spare: str
    subvolume: str

    def describe(self) -> str:
        says = f"'subvol={self.subvolume}'" if self.subvolume else "no subvolume"
        return f"Correct /etc/fstab in the new root: its line for / says {says}."

    def apply(self, operations: Operations) -> None:
        text = operations.read_file(self.spare, "etc/fstab")
        mended = fstab.with_root_subvolume(text, self.subvolume or None)
        if mended != text:
            operations.write_file(self.spare, "etc/fstab", mended)


def join(tree: str, path: str) -> str:
    """Join two paths of the top level, either of which may be ""."""
    return f"{tree}/{path}".strip("/")


def mounted(path: str) -> str:
    """Return a path of the top level on /mnt as one word of a shell.

    Any user may name a subvolume; a command for root to copy must not obey that name.
    """
    full = f"/mnt/{path}"
    if full.isprintable():
        return shlex.quote(full)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(full)) + "'"


def in_words(paths: Sequence[str]) -> str:
    """Return paths from a root as people read them."""
    return ", ".join(names.grouped([f"/{path}" for path in paths]))


def named(path: str) -> str:
    """Return a path of the top level as people read it."""
    return f"/{path}" if path else "the top level"
