# SPDX-License-Identifier: GPL-2.0-or-later
"""Two roots of a machine, compared: packages, advisories, files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from ...core.formats.mountinfo import is_within
from ...core.loader.menu_names import is_snapshot_name
from ...core.progress import Progress, untold
from ...core.snapshots.snapshot import STAGING
from ...errors import kernel_errors
from ..linux import btrfs, files, syscalls
from ..machine.host import Host
from ..store import cache
from . import database, known
from .advisories import Texts, listed
from .owned import OwnedChange, Side, owned
from .trees import changed_files

if TYPE_CHECKING:
    from ...core.comparison.files import FileChange
    from ...core.packages.advisories import Advisory
    from ...core.packages.changes import Item
    from ...core.packages.header import Change
    from ...core.snapshots.record import PackageChange
    from ...core.snapshots.snapshot import Subvolume


class Comparison:
    """The differences between an older and a newer root; each is read when it is first needed."""

    def __init__(
        self, host: Host, old: Subvolume, new: Subvolume, sides: tuple[Side, Side], texts: Texts
    ) -> None:
        self._host = host
        self.old, self.new = old, new
        self.sides = sides
        self._texts = texts
        self.progress: Progress = untold

    @cached_property
    def installed(self) -> tuple[set[Item], set[Item]]:
        """The packages whose versions differ. Raises ProcessError."""
        return database.differing_packages(*(side.packages for side in self.sides))

    @cached_property
    def packages(self) -> tuple[PackageChange, ...]:
        """What happened to the packages. Raises ProcessError."""
        from ...core.packages.changes import differences

        return differences(*self.installed)

    @cached_property
    def advisories(self) -> tuple[list[Advisory], list[Advisory]] | None:
        """The security advisories that came into force, and those that apply again.

        None where dnf cannot be asked: it speaks of the running system only. Raises ProcessError.
        """
        from ...core.packages.advisories import between

        texts = self._texts()
        return None if texts is None else between(*self.installed, *texts)

    @cached_property
    def files(self) -> tuple[FileChange, ...]:
        """What happened to the files, by path, without our own traces. Raises KernelError."""
        found = changed_files(self._host, self.old, self.new, self.progress)
        return tuple(row for row in found if not _is_own_trace(row.path))

    @cached_property
    def owned_files(self) -> list[OwnedChange]:
        """The same with the packages of the files. Raises KernelError, DatabaseError."""
        name = known.key(self._host, self.old, self.new)
        found = known.load(name)
        if found is None:
            found = list(self.owned(self.files))
            known.save(name, found)
        return found

    def owned(self, changes: Iterable[FileChange]) -> Iterator[OwnedChange]:
        """Yield some of these with their packages. Raises KernelError, DatabaseError."""
        return owned(changes, *self.sides)

    def changelog(self, package: PackageChange) -> list[Change]:
        """Return the changelog entries of a package that only its newer version has.

        Raises DatabaseError.
        """
        first, second = (side.packages.changelog(package.name) for side in self.sides)
        older, newer = (second, first) if package.action == "downgrade" else (first, second)
        present = set(older)
        return [change for change in dict.fromkeys(newer) if change not in present]

    def meant(self, place: str) -> set[str]:
        """Return an absolute path, and where its links lead in each of the roots."""
        found = {place}
        for side in self.sides:
            base, real = (files.real_path(side.tree, path) for path in (".", place))
            if base is not None and real is not None:
                found.add(os.path.normpath(f"/{os.path.relpath(real, base)}"))
        return found

    def gap(self, place: str) -> str:
        """Return why the files at an absolute path are not compared, "" if they are."""
        sides = [(side.tree, files.status_of(side.tree, place)) for side in self.sides]
        is_elsewhere = files.is_beyond_mount(self._host.root_fd, place) or any(
            found.st_ino == btrfs.STUB_INODE or found.st_dev != os.fstat(tree).st_dev
            for tree, found in sides
            if found is not None
        )
        if is_elsewhere:
            return "it is on another filesystem or subvolume"
        above, name = os.path.split(place)  # "/" itself has been found; a link may lead nowhere
        is_there = any(
            found or name in (files.list_in_tree(tree, above) or ()) for tree, found in sides
        )
        return "" if is_there else "it is on neither side"


def _is_own_trace(path: str) -> bool:
    """Whether fs-rollback keeps this itself: what it remembers, brings over, or boots by."""
    directory, _, name = path.rpartition("/")
    is_entry = directory.endswith("/loader/entries") and is_snapshot_name(name)
    return is_entry or any(is_within(path, own) for own in (cache.DIRECTORY, f"/{STAGING}"))


@contextmanager
def compared(
    host: Host, old: Subvolume, new: Subvolume, *, asks_dnf: bool = True
) -> Iterator[Comparison]:
    """Open two roots of the machine to compare them. Raises KernelError.

    There are no advisories unless it `asks_dnf`, which is started at once for that.
    """
    if not (old.read_only and new.read_only):
        # What is not on the disk yet does not show in the trees.
        with kernel_errors("sync", host.root):
            syscalls.sync_filesystem(host.root_fd)
    with ExitStack() as stack:
        texts = stack.enter_context(listed(host)) if asks_dnf else lambda: None
        trees = [stack.enter_context(files.opened(host.path(s.path))) for s in (old, new)]
        first, second = (Side(t, stack.enter_context(database.opened(t))) for t in trees)
        yield Comparison(host, old, new, (first, second), texts)
