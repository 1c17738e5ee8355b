# SPDX-License-Identifier: GPL-2.0-or-later
"""What is changed before the conversion, as data: a plan that is also the way back from it.

Everything that is changed here starts an ext4 root as well as a btrfs one. What does not, the line
of the root in fstab(5), lies ready beside and takes its place when the root is btrfs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional, Protocol

from ...core.rollback.step import Step

KEPT_SUFFIX = ".before-btrfs"


class Operations(Protocol):
    """What the steps do to a machine. Paths are from its root, without a leading slash."""

    def read_file(self, path: str) -> Optional[str]:
        """Return a text file, None if there is none."""

    def write_file(self, path: str, text: str, mode: int) -> None:
        """Write a text file durably and whole; an existing one keeps owner, mode, attributes."""

    def remove_file(self, path: str) -> None:
        """Remove a file durably, whole or unfinished; nothing to do if there is none."""

    def remove_unfinished(self, path: str) -> None:
        """Remove what a killed process has begun to write there; the file itself stays."""

    def make_image(self, version: str, path: str, *, converts: bool) -> None:
        """Make the initramfs of a kernel, durable and whole; `converts`: the one that converts.

        Of any other it is written down first what it will be.
        """

    def keep(self, path: str, kept: str) -> None:
        """Give the file another name beside its own, durably; nothing to do if that is there."""

    def put_back(self, version: str, kept: str, path: str) -> None:
        """Put the kept initramfs of a kernel back, durably; nothing to do if it is not there.

        Where what somebody else has made or removed would be lost with that, only the kept one
        goes.
        """

    def boot_once(self, entry: str) -> str:
        """Have the next boot use the entry of this file name; return why that cannot be, or ""."""

    def forget_boot_once(self, entry: str) -> None:
        """Take that back; nothing to do if the next boot uses another one."""


PreparingStep = Step[Operations]


@dataclass(frozen=True)
class WriteFile(PreparingStep):
    """A file that is new, or says something else than before."""

    path: str
    before: Optional[str]
    after: str
    why: str
    mode: int = 0o644

    def describe(self) -> str:
        verb = "Write" if self.before is None else "Change"
        return f"{verb} /{self.path}: {self.why}."

    def apply(self, operations: Operations) -> None:
        if operations.read_file(self.path) != self.after:
            operations.write_file(self.path, self.after, self.mode)

    def undo(self, operations: Operations) -> None:
        operations.remove_unfinished(self.path)
        # What somebody else has written since is not ours to take back.
        if operations.read_file(self.path) != self.after:
            return
        if self.before is None:
            operations.remove_file(self.path)
        else:
            operations.write_file(self.path, self.before, self.mode)


@dataclass(frozen=True)
class RebuildImage(PreparingStep):
    """An initramfs is made anew, with btrfs; the old one is kept beside it."""

    version: str
    path: str

    @property
    def kept(self) -> str:
        """Where the old one is kept."""
        return self.path + KEPT_SUFFIX

    def describe(self) -> str:
        return f"Rebuild /{self.path} with btrfs in it; the old one is kept as /{self.kept}."

    def apply(self, operations: Operations) -> None:
        operations.keep(self.path, self.kept)
        operations.make_image(self.version, self.path, converts=False)

    def undo(self, operations: Operations) -> None:
        for path in (self.path, self.kept):
            operations.remove_unfinished(path)
        operations.put_back(self.version, self.kept, self.path)


@dataclass(frozen=True)
class MakeConverter(PreparingStep):
    """The initramfs that converts, and no other does."""

    version: str
    path: str

    def describe(self) -> str:
        return f"Build the initramfs that converts: /{self.path}."

    def apply(self, operations: Operations) -> None:
        operations.make_image(self.version, self.path, converts=True)

    def undo(self, operations: Operations) -> None:
        operations.remove_file(self.path)


@dataclass(frozen=True)
class BootOnce(PreparingStep):
    """The boot entry that converts is chosen for the next boot, and only that."""

    entry: str
    title: str

    def describe(self) -> str:
        return f"For the next boot only, use the boot entry: {self.title}."

    def apply(self, operations: Operations) -> None:
        # Why it could not is told at the end: the entry is in the menu all the same.
        operations.boot_once(self.entry)

    def undo(self, operations: Operations) -> None:
        operations.forget_boot_once(self.entry)
