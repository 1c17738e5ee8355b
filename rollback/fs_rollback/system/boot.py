# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot loader reads: its boot entries, and which of them is the default one."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Optional

from ..core import bls
from ..core.boot_entries import Bootable, default_of, kernel_version
from ..core.layout import Layout, from_boot_entry
from ..core.loaders import Choice, once
from ..errors import RefusedError
from . import boot_sources, files, loader_settings, places
from .host import Host
from .loader_settings import Setting
from .places import ENTRIES, Place


class Boot(NamedTuple):
    """All of it. `setting` is None where the default entry cannot be set."""

    places: tuple[Place, ...]
    bootables: tuple[Bootable, ...]
    choice: Choice
    setting: Optional[Setting] = None

    @property
    def default(self) -> Optional[Bootable]:
        """The entry that boots if nobody touches a key; None where it cannot be known."""
        return default_of(self.choice, self.bootables)

    @property
    def once(self) -> Optional[Bootable]:
        """The entry that boots next and only then, None if none is set."""
        chosen = once(self.choice, [bootable.entry for bootable in self.bootables])
        return next((b for b in self.bootables if b.entry == chosen), None)

    @property
    def staying(self) -> tuple[Bootable, ...]:
        """The entries that a rollback does not take back."""
        return tuple(b for b in self.bootables if not b.follows)

    def place_of(self, bootable: Bootable) -> Place:
        """Return the place that an entry was read from."""
        directory = os.path.dirname(bootable.entry.file)
        return next(p for p in self.places if f"{p.point}/{ENTRIES}" == directory)


def read(machine: Host, layout: Layout) -> Boot:
    """Read what the boot loader reads now. Raises KernelError where it cannot be read."""
    told = loader_settings.read(machine, places.find(machine, layout))
    raw = [(place, entry) for place in told.places for entry in _entries(place)]
    identities = boot_sources.identities(machine, [entry for _, entry in raw])
    bootables = tuple(_bootable(place, entry, identities) for place, entry in raw)
    return Boot(told.places, bootables, told.choice, told.setting)


def _entries(place: Place) -> list[bls.BootEntry]:
    found = []
    with files.opened(place.directory) as directory:
        for name in files.list_in_tree(directory, ENTRIES) or []:
            if name.endswith(".conf"):
                text = files.read_in_tree(directory, f"{ENTRIES}/{name}") or ""
                found.append(bls.parse(f"{place.point}/{ENTRIES}/{name}", text))
    return found


def _bootable(place: Place, entry: bls.BootEntry, identities: tuple[str, ...]) -> Bootable:
    missing = tuple(path for path in entry.files if not _is_file(place.base, path))
    try:
        ours = from_boot_entry(entry, identities) is not None
    except RefusedError:
        ours = False  # it names no subvolume that there could be
    return Bootable(entry, kernel_version(entry), missing, place.follows, ours)


def _is_file(base: str, path: str) -> bool:
    """Whether a path of an entry leads to a file that has something in it."""
    if "\0" in path:
        return False
    with files.opened(base) as directory:
        status = files.status_of(directory, path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0
