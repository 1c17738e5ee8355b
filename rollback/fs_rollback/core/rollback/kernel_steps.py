# SPDX-License-Identifier: GPL-2.0-or-later
"""The steps that pair the boot loader with the restored root, where /boot does not follow it.

Files are named by LoaderPath.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Optional

from ..loader import loaders
from ..loader.loader_path import LoaderPath
from .operations import Operations
from .steps import RootStep, StepInNewRoot


@dataclass(frozen=True)
class PutBackKernel(RootStep):
    """Put a kernel that the restored root needs back into /boot, its boot entry last."""

    kernel: str
    sources: tuple[str, ...]
    files: tuple[str, ...]

    def describe(self) -> str:
        names = ", ".join(shown(file) for file in self.files)
        return f"Put back kernel {self.kernel}, which the restored root needs: {names}."

    def apply(self, operations: Operations) -> None:
        for source, file in zip(self.sources, self.files):
            operations.put_file(source, file)

    def undo(self, operations: Operations) -> None:
        # The entry first: it must not name what is not there.
        for source, file in reversed(tuple(zip(self.sources, self.files))):
            operations.remove_copy(source, file)

    # Nothing by hand: one more entry in the menu harms nobody.


@dataclass(frozen=True)
class SetDefaultEntry(RootStep):
    """Make a boot entry the default, one whose kernel has its modules in the new root.

    `file` and `key` say where the boot loader's setting is; without a file it is an EFI variable.
    """

    entry: str
    kernel: str
    file: str
    key: str
    value: str
    old: Optional[str]

    def describe(self) -> str:
        return f"Make the boot entry {self.entry} (kernel {self.kernel}) the default."

    def apply(self, operations: Operations) -> None:
        if operations.setting(self.file, self.key) != self.value:
            operations.write_setting(self.file, self.key, self.value)

    def undo(self, operations: Operations) -> None:
        # What somebody else has set since is not ours to take back.
        if operations.setting(self.file, self.key) == self.value:
            operations.write_setting(self.file, self.key, self.old)

    def by_hand(self) -> tuple[str, ...]:
        file = shown(self.file) if self.file else ""
        return (loaders.written(self.file, self.key).by_hand(file, self.key, self.old),)


@dataclass(frozen=True)
class ForgetOneShot(RootStep):
    """Clear an entry for the next boot only, which would boot something else than the new root."""

    file: str
    key: str
    old: str

    def describe(self) -> str:
        return f"Clear {self.old} as the entry of the next boot only, so that the default boots."

    def apply(self, operations: Operations) -> None:
        if operations.setting(self.file, self.key):
            operations.write_setting(self.file, self.key, None)

    def undo(self, operations: Operations) -> None:
        if not operations.setting(self.file, self.key):
            operations.write_setting(self.file, self.key, self.old)

    # Nothing by hand: the way back is the default entry.


class MenuFiles(NamedTuple):
    """The entries of snapshots in `folder`, a path in the roots: those that go, those that come."""

    folder: str
    remove: tuple[str, ...]
    names: tuple[str, ...]


@dataclass(frozen=True)
class RenewMenu(StepInNewRoot):
    """Update the menu of a /boot in the root: it reverts too, to snapshots that are mostly gone.

    The fields after the two roots are as in MenuFiles; `names` are copied from `root` to `spare`.
    """

    root: str
    spare: str
    folder: str
    remove: tuple[str, ...]
    names: tuple[str, ...]

    def describe(self) -> str:
        return "Copy the entries of the current snapshots to the boot menu of the new root."

    def apply(self, operations: Operations) -> None:
        for name in self.remove:
            operations.make_room(self.root, self.spare, f"{self.folder}/{name}")
        for name in self.names:
            operations.copy(self.root, self.spare, f"{self.folder}/{name}")


@dataclass(frozen=True)
class LendModules(StepInNewRoot):
    """Copy the modules of the kernel that is the default until after the commit to the new root.

    Without them, a power cut between the commit and the new default would start the new root with a
    kernel that has no modules. `root` is the old root, `spare` the new one.
    """

    root: str
    spare: str
    kernel: str

    def describe(self) -> str:
        return f"Copy the modules of kernel {self.kernel} to the new root, in case the power fails."

    def apply(self, operations: Operations) -> None:
        operations.copy(self.root, self.spare, modules_of(self.kernel))


@dataclass(frozen=True)
class ReturnModules(RootStep):
    """Remove the modules again; `old` and `new` are where the two roots lie after the commit."""

    old: str
    new: str
    kernel: str
    old_uuid: str

    def describe(self) -> str:
        return f"Remove the copied modules of kernel {self.kernel} from the new root."

    def apply(self, operations: Operations) -> None:
        if not self.in_use(operations):
            operations.make_room(self.new, self.new, modules_of(self.kernel))

    def in_use(self, operations: Operations) -> bool:
        """Whether the new root was booted with the kernel that its modules were lent for."""
        return operations.runs(self.new, self.kernel)

    def undo(self, operations: Operations) -> None:
        # The way back passes the same place, if the commit was made.
        committed = operations.subvolume(self.old)[1] == self.old_uuid
        if committed and operations.subvolume(self.new)[1]:
            operations.copy(self.old, self.new, modules_of(self.kernel))


# What needs /boot and the like to be mounted.
OF_LOADER = (PutBackKernel, SetDefaultEntry, ForgetOneShot)


def modules_of(kernel: str) -> str:
    """Return where a root has the modules of a kernel."""
    return f"usr/lib/modules/{kernel}"


def shown(where: str) -> str:
    """Return a file's path for people, who mount the top level on /mnt."""
    named = LoaderPath(where)
    return f"/mnt/{named.inside}" if named.is_beside_root else f"/{named.inside}"
