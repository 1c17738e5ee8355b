# SPDX-License-Identifier: GPL-2.0-or-later
"""systemd-boot: its settings in loader.conf(5) and in the firmware's variables."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Optional

from ...core.formats import loader_conf
from ...core.loader.choice import Choice, Loader
from ..machine.host import Host
from . import efi, places
from .places import LOADER_CONF, Place
from .told import NOWHERE, Candidate, Setting, Tools


def _find(machine: Host, found: Sequence[Place]) -> Optional[Candidate]:
    """Return the place that it reads its loader.conf from.

    Its entries may be beside the ESP (XBOOTLDR).
    """
    if not any(map(places.has_entries, found)):
        return None
    place = next(filter(_has_it, found), None)
    if place is None and _runs(machine):
        place = found[0]
    return Candidate(place, tuple(found), partial(_read, machine, place)) if place else None


def _has_it(place: Place) -> bool:
    folder = os.path.join(place.directory, "EFI/systemd")
    return os.path.isdir(folder) or places.read(place, LOADER_CONF) is not None


def _runs(machine: Host) -> bool:
    """Whether the running system was booted by it."""
    return _variable(machine, "LoaderInfo").startswith("systemd-boot")


def _read(machine: Host, place: Place) -> tuple[Choice, Optional[Setting]]:
    """Return what systemd-boot was told, and where it can be told something else."""
    text = places.read(place, LOADER_CONF) or ""
    told = Choice(
        Loader.SYSTEMD_BOOT,
        pattern=loader_conf.pattern(text, loader_conf.DEFAULT),
        efi_default=_variable(machine, efi.DEFAULT),
        efi_oneshot=_variable(machine, efi.ONCE),
        preferred=loader_conf.pattern(text, loader_conf.PREFERRED),
        efi_preferred=_variable(machine, efi.PREFERRED),
    )
    file = place.where.below(LOADER_CONF)
    # What outranks the rest is what has to be changed.
    for setting in (
        Setting(NOWHERE, efi.PREFERRED, told.efi_preferred),
        Setting(file, loader_conf.PREFERRED, told.preferred),
        Setting(NOWHERE, efi.DEFAULT, told.efi_default),
    ):
        if setting.value:
            return told, setting
    return told, Setting(file, loader_conf.DEFAULT, told.pattern or None)


def _variable(machine: Host, name: str) -> str:
    """Return a variable of this machine's firmware, "" if there is none or it is another's."""
    return (efi.read(name) or "") if machine.running_id else ""


def _once(told: Choice, _setting: Optional[Setting]) -> Setting:
    return Setting(NOWHERE, efi.ONCE, told.efi_oneshot)


def _why_not_once(machine: Host, _found: Sequence[Place], _setting: Optional[Setting]) -> str:
    knows = _runs(machine)
    return "" if knows else "systemd-boot can be configured only from a system that it has booted"


def _outranking(told: Choice, _setting: Optional[Setting]) -> Setting:
    """Return a variable of the firmware: one write, old or new, and it comes before loader.conf."""
    if told.efi_preferred or told.preferred:
        return Setting(NOWHERE, efi.PREFERRED, told.efi_preferred or None)
    return Setting(NOWHERE, efi.DEFAULT, told.efi_default or None)


TOOLS = Tools(_find, _runs, _once, _why_not_once, _outranking)
