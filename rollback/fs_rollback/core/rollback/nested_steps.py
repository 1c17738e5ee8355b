# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a plan for what a snapshot of the root lacks, or has in no useful form.

They are like those in steps.py, which has the one that carries over nested subvolumes.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..formats import fstab
from ..snapshots import names
from .operations import Operations
from .steps import StepInNewRoot, StepUndoneInNewRoot, in_words, join, named


@dataclass(frozen=True)
class RestoreSubvolume(StepUndoneInNewRoot):
    """Bring back a subvolume that only the target, a replaced root, still has nested in it."""

    target: str
    spare: str
    path: str

    def describe(self) -> str:
        path = names.shown(f"/{self.path}")
        return f"Bring back the nested subvolume {path} as it is in {named(self.target)}."

    def apply(self, operations: Operations) -> None:
        operations.make_room(self.target, self.spare, self.path)
        operations.snapshot(
            join(self.target, self.path), join(self.spare, self.path), read_only=False
        )

    def undo(self, operations: Operations) -> None:
        operations.delete(join(self.spare, self.path))


@dataclass(frozen=True)
class RenewSwap(StepInNewRoot):
    """Make swap files anew: the kernel does not swap to a file that shares data with a copy."""

    spare: str
    paths: tuple[str, ...]

    def describe(self) -> str:
        paths = in_words(self.paths)
        return f"Make new swap files, because the kernel does not swap to copies: {paths}."

    def apply(self, operations: Operations) -> None:
        for path in self.paths:
            operations.renew_swap(self.spare, path)


@dataclass(frozen=True)
class RemoveStubs(StepInNewRoot):
    """Replace the empty, unwritable stand-ins that a snapshot has for nested subvolumes.

    Those of subvolumes outside the root are removed, the others become directories.
    """

    root: str
    spare: str
    remove: tuple[str, ...]
    directories: tuple[str, ...]

    def describe(self) -> str:
        remove, directories = map(in_words, (self.remove, self.directories))
        where = "in place of nested subvolumes that the snapshot lacks"
        sentences = [f"Remove the empty stand-ins of subvolumes outside the root: {remove}."]
        sentences += [f"Make empty directories {where}: {directories}."]
        return " ".join(s for s, paths in zip(sentences, (remove, directories)) if paths)

    def apply(self, operations: Operations) -> None:
        for path in self.remove:
            operations.make_room(self.root, self.spare, path)
        for path in self.directories:
            operations.make_directory(self.root, self.spare, path)


@dataclass(frozen=True)
class AddMounts(StepInNewRoot):
    """Keep mounted what is mounted now in a place where the snapshot has old data, or none."""

    spare: str
    lines: tuple[str, ...]

    def describe(self) -> str:
        points = ", ".join(entry.point for entry in fstab.parse("\n".join(self.lines)))
        return f"Add current lines to /etc/fstab in the new root, to keep these mounted: {points}."

    def apply(self, operations: Operations) -> None:
        text = operations.read_file(self.spare, "etc/fstab")
        mended = fstab.with_mounts(text, self.lines)
        if mended != text:
            operations.write_file(self.spare, "etc/fstab", mended)
