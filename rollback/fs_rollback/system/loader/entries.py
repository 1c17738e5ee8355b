# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the boot entries of the boot loader, and which of them is the default."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple, Optional

from ...core.boot.entries import Bootable, default_of, kernel_version, machine_of
from ...core.boot.layout import Layout, from_boot_entry, root_of
from ...core.formats import bls
from ...core.loader.choice import Choice
from ...core.loader.loaders import once
from ...errors import RefusedError
from ..linux import files
from ..machine.host import Host
from . import places, settings
from .places import ENTRIES, Place
from .told import Setting


class Boot(NamedTuple):
    """The entries and settings. `setting` is None if the default entry cannot be set."""

    places: tuple[Place, ...]
    bootables: tuple[Bootable, ...]
    choice: Choice
    setting: Optional[Setting] = None

    @property
    def default(self) -> Optional[Bootable]:
        """The default boot entry; None if it cannot be determined."""
        return default_of(self.choice, self.bootables)

    @property
    def once(self) -> Optional[Bootable]:
        """The entry that is set for the next boot only, None if none is."""
        chosen = once(self.choice, [bootable.entry for bootable in self.bootables])
        return next((b for b in self.bootables if b.entry == chosen), None)

    @property
    def staying(self) -> tuple[Bootable, ...]:
        """The entries of this filesystem that a rollback does not revert."""
        return tuple(b for b in self.bootables if b.ours and not b.follows)

    def place_of(self, bootable: Bootable) -> Place:
        """Return the place that an entry was read from."""
        directory = os.path.dirname(bootable.entry.file)
        return next(p for p in self.places if f"{p.point}/{ENTRIES}" == directory)


def read(machine: Host, layout: Layout) -> Boot:
    """Read what the boot loader reads now. Raises KernelError where it cannot be read."""
    told = settings.read(machine, places.find(machine, layout))
    bootables = tuple(
        _bootable(machine, layout, place, entry)
        for place in told.places
        for entry in settings.entries(machine, place)
    )
    return Boot(told.places, bootables, told.choice, told.setting)


def _bootable(machine: Host, layout: Layout, place: Place, entry: bls.BootEntry) -> Bootable:
    missing = tuple(path for path in entry.files if not _is_file(place.base, path))
    found = Bootable(entry, kernel_version(entry), missing, place.follows, ours=False, leads=False)
    try:
        said = from_boot_entry(entry, machine.identity.is_meant)
    except RefusedError:
        said = None  # it names no subvolume that there could be
    if said is None:
        return found._replace(foreign=not _is_of_system(machine, found))
    silent_id = layout.silent_id(machine.default_id)
    led = root_of(said, machine.subvolumes, silent_id)
    leads = led is not None and led.id == layout.root.id
    if leads:
        foreign = said.is_ours is None and not _is_of_system(machine, found)
    elif led is None or said.is_ours is None:
        foreign = not _is_of_system(machine, found)
    else:
        foreign = machine.is_stranger_at(led.path)
    # Where the device cannot be known, only what could not be of another filesystem is ours.
    ours = said.is_ours or (not foreign and (leads or (led is not None and not said.silent)))
    return found._replace(ours=bool(ours), leads=leads, foreign=foreign, said=said)


def _is_of_system(machine: Host, bootable: Bootable) -> bool:
    """Whether an entry is of the system here, as far as it says: its machine-id, or its kernel."""
    if bootable.of_snapshot:
        return True
    named = machine_of(bootable.entry)
    if named and machine.machine_id:
        return named == machine.machine_id
    return bootable.kernel in machine.kernels


def _is_file(base: str, path: str) -> bool:
    """Whether a path of an entry leads to a file that has something in it."""
    if "\0" in path:
        return False
    with files.opened(base) as directory:
        status = files.status_of(directory, path)
    return status is not None and stat.S_ISREG(status.st_mode) and status.st_size > 0
