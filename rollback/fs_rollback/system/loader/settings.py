# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot loader was told of its default entry, where that is written, how to change it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from ...core.formats import bls, grubenv, loader_conf
from ...core.loader import loaders
from ...core.loader.choice import Choice, Loader
from ...errors import StoreError
from ..linux import durable, files
from ..machine.host import Host
from . import efi, grub, places, systemd_boot
from .places import ENTRIES, Place
from .told import UNKNOWN, Setting, Told

_TOOLS = {Loader.GRUB: grub.TOOLS, Loader.SYSTEMD_BOOT: systemd_boot.TOOLS}


def read(machine: Host, found: Sequence[Place]) -> Told:
    """Return what the loader was told. Where it cannot be known which one it is, it is unknown."""
    with_entries = [p for p in found if os.path.isdir(os.path.join(p.directory, ENTRIES))]
    of_grub = grub.find(with_entries)
    of_systemd = systemd_boot.find(machine, found) if with_entries else None
    both = of_grub is not None and of_systemd is not None
    if both and not machine.running_id:
        return Told(Choice(Loader.UNKNOWN), None, tuple(found))
    if of_systemd is not None and (of_grub is None or systemd_boot.runs(machine)):
        # Its entries may be beside the ESP (XBOOTLDR); what GRUB has left behind it does not read.
        left_behind = of_grub[0] if of_grub is not None else None
        read_by_it = tuple(p for p in found if p != left_behind or p == of_systemd)
        return Told(*systemd_boot.read(machine, of_systemd), read_by_it)
    if of_grub is not None:
        return Told(*grub.read(machine, *of_grub), of_grub[:1])
    return Told(Choice(Loader.UNKNOWN), None, tuple(found))


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
    """Have the next boot, and only that, use an entry; return why that cannot be, "" if it can.

    `told` and `setting` are what `read` returned for the places `found`. Raises KernelError.
    """
    reason = why_not_once(machine, found, told, setting)
    tools, rules = _TOOLS.get(told.loader), loaders.rules(told.loader)
    if not reason and tools is not None and rules is not None:
        once = tools.once(told, setting)
        assert once is not None, "why_not_once has said so"
        write_setting(machine, once.file, once.key, rules.value(entry))
    return reason


def why_not_once(
    machine: Host, found: Sequence[Place], told: Choice, setting: Optional[Setting]
) -> str:
    """Return why `set_once` could not have the next boot use an entry, "" if it could."""
    tools = _TOOLS.get(told.loader)
    return UNKNOWN if tools is None else tools.why_not_once(machine, found, setting)


def one_shot(told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    """Return where it is written that the next boot, and only that, uses an entry; None if not."""
    tools = _TOOLS.get(told.loader)
    once = tools.once(told, setting) if tools is not None else None
    return once if once is not None and once.value else None


def setting_value(machine: Host, file: str, key: str) -> str | None:
    """Return what is written down as the default entry, None if nothing is."""
    if not file:
        return efi.read(key)
    text = places.read_file(machine, file)
    if text is None:
        return None
    if key in loader_conf.KEYS:
        return loader_conf.pattern(text, key) or None
    try:
        return grubenv.parse(text).get(key)
    except grubenv.GrubenvError:  # GRUB reads nothing from it either; writing to it raises
        return None


def write_setting(machine: Host, file: str, key: str, value: str | None) -> None:
    """Write down the default entry, None for nothing; durable. Raises KernelError."""
    if not file:
        efi.write(key, value)
        return
    text = places.read_file(machine, file)
    try:
        if key in loader_conf.KEYS:
            changed = loader_conf.with_pattern(text or "", key, value)
        else:
            changed = grubenv.with_values(text or grubenv.EMPTY, {key: value})
    except ValueError as error:  # GrubenvError too
        raise StoreError(f"the boot loader's {key} cannot be set: {error}") from error
    durable.write_file(places.path_of(machine, file), changed, 0o600)
