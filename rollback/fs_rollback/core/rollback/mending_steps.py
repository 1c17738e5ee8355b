# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps of a plan that correct outdated files of a snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

from ..formats import bls, cmdline, fstab
from .operations import Operations
from .steps import StepInNewRoot


@dataclass(frozen=True)
class MendCommandLines(StepInNewRoot):
    """Correct files of the snapshot so that they lead to the root as this machine finds it now.

    `files` are boot entries and files like /etc/kernel/cmdline. `subvolume` is what they are to
    name as the root, "" for nothing. Entries name files in the root with its path: `root` is the
    path now, `old_root` the path when the snapshot was taken.
    """

    spare: str
    subvolume: str
    root: str
    old_root: str
    files: tuple[str, ...]

    def describe(self) -> str:
        says = f"'subvol={self.subvolume}'" if self.subvolume else "no subvolume"
        paths = ", ".join(f"/{path}" for path in self.files)
        return f"Correct the kernel command lines in the new root so that they say {says}: {paths}."

    def apply(self, operations: Operations) -> None:
        for path in self.files:
            text = operations.read_file(self.spare, path)
            mended = self._entry(text) if path.endswith(".conf") else self._file(text)
            if mended != text:
                operations.write_file(self.spare, path, mended)

    def _file(self, text: str) -> str:
        return cmdline.file_with_root_subvolume(text, self.subvolume or None)

    def _entry(self, text: str) -> str:
        entry = bls.parse("", text)
        values = {
            "options": cmdline.with_root_subvolume(entry.options, self.subvolume or None),
            "linux": self._moved(entry.linux),
            "initrd": self._moved(*entry.initrd),
            "devicetree": self._moved(*entry.devicetree),
            "devicetree-overlay": self._moved(*entry.overlays),
        }
        changed = {key: value for key, value in values.items() if value}
        return bls.rewrite(text, changed) if entry.text else text

    def _moved(self, *words: str) -> Optional[str]:
        """Return paths below the root's old place below its new one; None where nothing changes."""
        old, new = (f"/{path}/" if path else "/" for path in (self.old_root, self.root))
        if old == new:
            return None
        moved = [
            new + word[len(old) :] if word.startswith(old) and not word.startswith(new) else word
            for word in words
        ]
        return " ".join(moved) or None


@dataclass(frozen=True)
class Relabel(StepInNewRoot):
    """Files of the new root have no labels, or those of another policy: its first boot mends it."""

    spare: str
    why: str

    def describe(self) -> str:
        return f"Have the first boot label all files for SELinux: {self.why}."

    def apply(self, operations: Operations) -> None:
        operations.label_at_boot(self.spare)


@dataclass(frozen=True)
class DropMounts(StepInNewRoot):
    """Comment out lines of the snapshot's fstab that mount what is gone and would stop the boot."""

    spare: str
    lines: tuple[str, ...]

    def describe(self) -> str:
        points = ", ".join(entry.point for entry in fstab.parse("\n".join(self.lines)))
        return f"Comment out lines for what is gone in /etc/fstab of the new root: {points}."

    def apply(self, operations: Operations) -> None:
        text = operations.read_file(self.spare, "etc/fstab")
        mended = fstab.without_lines(text, self.lines)
        if mended != text:
            operations.write_file(self.spare, "etc/fstab", mended)
