# SPDX-License-Identifier: GPL-2.0-or-later
"""The setting of the default boot entry: its value, where it is stored, and how to change it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from typing import Optional

from ...core.formats import bls
from ...core.loader import loaders
from ...core.loader.choice import Choice, Loader
from ...errors import KernelError, StoreError
from ..linux import durable, files
from ..machine.host import Host
from . import efi, grub, places, systemd_boot
from .places import ENTRIES, Place
from .told import UNKNOWN, Setting, Told

# The first one that a machine has is its own, if none says that it runs.
TOOLS = {Loader.GRUB: grub.TOOLS, Loader.SYSTEMD_BOOT: systemd_boot.TOOLS}


def read(machine: Host, found: Sequence[Place]) -> Told:
    """Return the settings of the boot loader; the loader is unknown if it was not recognized."""
    there = {tools: its for tools in TOOLS.values() if (its := tools.find(machine, found))}
    if not there or (len(there) > 1 and not machine.running_id):
        return Told(Choice(Loader.UNKNOWN), None, tuple(found))
    # The firmware is asked only where there is a choice.
    running = (tools for tools in there if len(there) > 1 and tools.runs(machine))
    chosen = there[next(running, next(iter(there)))]
    # What another one has left behind this one does not read.
    left_behind = {its.place for its in there.values()} - {chosen.place}
    read_by_it = tuple(place for place in chosen.reads if place not in left_behind)
    return Told(*chosen.told(), read_by_it)


def entries(machine: Host, place: Place) -> list[bls.BootEntry]:
    """Return the boot entries of a place, with what is known of GRUB's variables."""
    known = grub.variables(machine, place)
    with files.opened(place.directory) as directory:
        return places.entries_in(directory, ENTRIES, place.point, known)


def set_once(
    machine: Host,
    found: Sequence[Place],
    told: Choice,
    setting: Optional[Setting],
    entry: bls.BootEntry,
) -> str:
    """Set an entry for the next boot only; return why that is impossible, "" if it was done.

    `told` and `setting` are what `read` returned for the places `found`. Raises KernelError.
    """
    reason = why_not_once(machine, found, told, setting)
    where, rules = once(told, setting), loaders.rules(told.loader)
    if not reason and rules is not None:
        assert where is not None, "why_not_once has said so"
        write_setting(machine, where.file, where.key, rules.value(entry))
    return reason


def why_not_once(
    machine: Host, found: Sequence[Place], told: Choice, setting: Optional[Setting]
) -> str:
    """Return why `set_once` would be impossible, "" if it is possible."""
    tools = TOOLS.get(told.loader)
    return UNKNOWN if tools is None else tools.why_not_once(machine, found, setting)


def once(told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    """Return where the entry for the next boot only is stored, and its value.

    None if the boot loader is not known to have such a setting.
    """
    tools = TOOLS.get(told.loader)
    return tools.once(told, setting) if tools is not None else None


def one_shot(told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    """Return where an entry for the next boot only is stored; None if none is set."""
    found = once(told, setting)
    return found if found is not None and found.value else None


def outranking(told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    """Return where a default entry can be set temporarily; None if nothing can be set."""
    tools = TOOLS.get(told.loader)
    return tools.outranking(told, setting) if tools is not None else None


def why_out_of_reach(machine: Host, file: str) -> str:
    """Return why the stored setting cannot be read now, "" if it can.

    A filesystem that is not mounted cannot be read, but the boot loader still reads it.
    """
    if not file:
        return "" if efi.are_there() else "the firmware's variables are not mounted"
    directory = os.path.dirname(places.path_of(machine, file))
    return "" if os.path.isdir(directory) else f"{directory} is missing or not mounted"


def setting_value(machine: Host, file: str, key: str) -> str | None:
    """Return the stored default entry, None if there is none."""
    if not file:
        return efi.read(key)
    text = places.read_file(machine, file)
    return None if text is None else loaders.written(file, key).value(text, key)


def write_setting(
    machine: Host, file: str, key: str, value: str | None, *, in_place: bool = False
) -> None:
    """Store the default entry durably; None removes it. Raises KernelError.

    With `in_place`, on a full filesystem the file is overwritten in place, as grub2-editenv(1)
    does: a power cut may leave parts of it, which GRUB does not accept as a block.
    """
    if not file:
        efi.write(key, value)
        return
    text = places.read_file(machine, file)
    try:
        changed = loaders.written(file, key).changed(text, key, value)
    except ValueError as error:  # GrubenvError too
        raise StoreError(f"the boot loader's {key} cannot be set: {error}") from error
    path = places.path_of(machine, file)
    try:
        durable.write_file(path, changed, 0o600)
    except KernelError as error:
        is_full = error.errno == errno.ENOSPC  # then it is in its place, see above
        if not (in_place and is_full and durable.overwrite(path, changed)):
            raise
