# SPDX-License-Identifier: GPL-2.0-or-later
"""GRUB: reads its environment block, and the grub.cfg that loads boot entries."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from functools import partial
from typing import Optional

from ...core.formats import grub_options, grubenv, mountinfo
from ...core.loader.choice import Choice, Loader
from ...core.loader.loader_path import LoaderPath
from ..linux import files
from ..machine import host
from ..machine.host import Host
from . import places
from .places import GRUB_CONFIGURATIONS, Place
from .told import UNKNOWN, Candidate, Setting, Tools

_GRUB_DEFAULT = re.compile(r"""^\s*set\s+default=["']?([^"'\n]*)["']?\s*$""", re.MULTILINE)
# The first of the two branches that grub-mkconfig writes: it is for one boot.
_GRUB_ONCE = "${next_entry}"
# What blscfg looks at before it has GRUB save an entry that was chosen, and what that comes from.
_SAVES = re.compile(r"""^\s*(?:set\s+)?save_default=["']?(?:true|yes|on|1)\b""", re.MULTILINE)
_SAVEDEFAULT = re.compile(r"""^\s*GRUB_SAVEDEFAULT=["']?(\w*)""", re.MULTILINE)


def _find(machine: Host, found: Sequence[Place]) -> Optional[Candidate]:
    """Return the first place with boot entries, and with a grub.cfg that reads them."""
    for place in filter(places.has_entries, found):
        its = _configuration(place)
        if its is not None:
            return Candidate(place, (place,), partial(_read, machine, place, *its))
    return None


def _runs(_machine: Host) -> bool:
    """Return False: it tells nobody that it was what booted."""
    return False


def _configuration(place: Place) -> Optional[tuple[str, str]]:
    """Return GRUB's folder and its grub.cfg if that reads boot entries (blscfg), else None."""
    for name in GRUB_CONFIGURATIONS:
        text = places.read(place, name) or ""
        if re.search(r"^\s*blscfg\b", text, re.MULTILINE):
            return os.path.dirname(name), text
    return None


def _read(
    machine: Host, place: Place, folder: str, configuration: str
) -> tuple[Choice, Optional[Setting]]:
    """Return what GRUB was told, and where it can be told something else."""
    where = _resolved(machine, place, f"{folder}/grubenv")
    if where is None:  # what GRUB is told cannot be known from here
        return Choice(Loader.UNKNOWN), None
    values = _grubenv(machine, where)
    said = [match.group(1) for match in _GRUB_DEFAULT.finditer(configuration)]
    said = [value for value in said if value != _GRUB_ONCE]
    fixed = [value for value in said if "$" not in value]
    if said and len(fixed) == len(said):
        return Choice(Loader.GRUB, saved_entry=fixed[-1]), None
    if values is None:  # GRUB ignores what is no environment block, and nothing can be put there
        return Choice(Loader.GRUB), None
    told = Choice(
        Loader.GRUB,
        saved_entry=values.get("saved_entry", ""),
        next_entry=values.get("next_entry", ""),
    )
    return told, Setting(where, "saved_entry", values.get("saved_entry"))


def _resolved(machine: Host, place: Place, name: str) -> Optional[LoaderPath]:
    """Return a file of a place as a plan names it; grubenv may be a link to the ESP.

    None where that leads nowhere: the ESP is not mounted, and has the file all the same.
    """
    if not os.path.islink(os.path.join(place.directory, name)):
        return place.where.below(name)
    real = files.real_path(machine.root_fd, f"{place.point.strip('/')}/{name}")
    return LoaderPath.from_root(os.path.relpath(real, machine.root)) if real else None


def _grubenv(machine: Host, where: str) -> Optional[dict[str, str]]:
    """Return the variables, none where there is no file; None where it is damaged."""
    text = places.read_file(machine, where)
    if text is None:
        return {}
    try:
        return grubenv.parse(text)
    except grubenv.GrubenvError:  # as promised; GRUB does not read it either
        return None


def variables(machine: Host, place: Place) -> dict[str, str]:
    """Return GRUB's variables for the entries of a place, none where GRUB has no folder in it."""
    for name in GRUB_CONFIGURATIONS:
        where = _resolved(machine, place, f"{os.path.dirname(name)}/grubenv")
        environment = _grubenv(machine, where) if where else None
        configuration = places.read(place, name)
        if environment or configuration:
            return grub_options.variables(environment or {}, configuration or "")
    return {}


def _once(told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    return Setting(setting.file, "next_entry", told.next_entry) if setting is not None else None


def _why_not_once(machine: Host, found: Sequence[Place], setting: Optional[Setting]) -> str:
    """Return why GRUB could not take a one-shot entry back after its boot, "" if it can.

    It writes grubenv in place, which it can do on plain disks with a filesystem that does not
    copy on write; else it would boot that entry for ever.
    """
    if setting is None:
        return UNKNOWN
    texts = [its[1] for its in map(_configuration, found) if its]
    if not any("next_entry" in text and "save_env" in text for text in texts):
        return "its grub.cfg does not read next_entry"
    path = os.path.realpath(places.path_of(machine, setting.file))
    mount = mountinfo.containing(host.read_mounts(), path)
    beside_root = setting.file.is_beside_root and machine.mount.fstype == "btrfs"
    if mount is None or beside_root or mount.fstype == "btrfs":
        return "GRUB cannot write to btrfs, so it would boot that entry every time"
    if mount.source.startswith(("/dev/mapper/", "/dev/dm-", "/dev/md")):
        return f"GRUB cannot write to {mount.source}, so it would boot that entry every time"
    return ""


def _outranking(_told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    """Return the one place that it reads its default entry from."""
    return setting


def saves_choice(machine: Host, found: Sequence[Place], setting: Optional[Setting]) -> bool:
    """Whether GRUB makes an entry that is chosen in its menu the default (GRUB_SAVEDEFAULT).

    It cannot write to btrfs.
    """
    if setting is None or setting.key != "saved_entry" or setting.file.is_beside_root:
        return False
    told = _SAVEDEFAULT.findall(files.read_in_tree(machine.root_fd, "etc/default/grub") or "")
    texts = [its[1] for its in map(_configuration, found) if its]
    return told[-1:] == ["true"] or any(_SAVES.search(text) for text in texts)


TOOLS = Tools(_find, _runs, _once, _why_not_once, _outranking)
