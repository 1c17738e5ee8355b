# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a rollback: what all of them share, and those that bring data into the new root.

They call `Operations`, which system/execute/trees.py implements on a real filesystem. All paths are
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
    """A change in the new root: no undo is needed, since that root is deleted as a whole."""

    def undo(self, operations: Operations) -> None:
        """Do nothing."""


class StepUndoneInNewRoot(RootStep):
    """A change that must be undone in the new root; otherwise that root could not be deleted.

    Its `undo` is skipped if something else is in the place of the new root.
    """


@dataclass(frozen=True)
class KeepPaths(RootStep):
    """Copy the kept paths from a read-only snapshot of the old root, so that nothing changes."""

    root: str
    spare: str
    frozen: str
    paths: tuple[str, ...]

    def describe(self) -> str:
        return f"Copy the kept paths from the current root: {', '.join(self.paths)}."

    def apply(self, operations: Operations) -> None:
        operations.delete(self.frozen)
        operations.snapshot(self.root, self.frozen, read_only=True)
        operations.keep(self.frozen, self.spare, [path.lstrip("/") for path in self.paths])
        operations.delete(self.frozen)

    def undo(self, operations: Operations) -> None:
        operations.delete(self.frozen)


@dataclass(frozen=True)
class CarrySubvolume(StepUndoneInNewRoot):
    """Carry over a nested subvolume as it is now, because no snapshot of its parent has it."""

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
    """Make subvolumes read-only that were read-only in the old root."""

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
    """Correct the root subvolume in the snapshot's fstab to what this machine uses; "" is none."""

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
    """Return a path from the top level, below /mnt, as one quoted word for a shell.

    Any user may name a subvolume: a command that root copies must not execute that name.
    """
    full = f"/mnt/{path}"
    if full.isprintable():
        return shlex.quote(full)
    return "$'" + "".join(f"\\x{byte:02x}" for byte in os.fsencode(full)) + "'"


def in_words(paths: Sequence[str]) -> str:
    """Return paths from a root as a text for people."""
    return ", ".join(names.grouped([f"/{path}" for path in paths]))


def named(path: str) -> str:
    """Return a path from the top level as a text for people."""
    return f"/{path}" if path else "the top level"
