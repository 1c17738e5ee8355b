# SPDX-License-Identifier: GPL-2.0-or-later
"""What the boot loader was told of its default entry, where that is written, how to change it."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ...core.boot.loaders import Choice, Loader
from ...core.formats import bls, grub_options, grubenv, loader_conf, mountinfo
from ...errors import StoreError
from ..linux import durable, files
from ..machine import host
from ..machine.host import Host
from . import efi, places
from .places import ENTRIES, GRUB_CONFIGURATIONS, LOADER_CONF, Place

_GRUB_DEFAULT = re.compile(r"""^\s*set\s+default=["']?([^"'\n]*)["']?\s*$""", re.MULTILINE)
# The first of the two branches that grub-mkconfig writes: it is for one boot.
_GRUB_ONCE = "${next_entry}"


# What blscfg looks at before it has GRUB save an entry that was chosen, and what that comes from.
_SAVES = re.compile(r"""^\s*(?:set\s+)?save_default=["']?(?:true|yes|on|1)\b""", re.MULTILINE)
_SAVEDEFAULT = re.compile(r"""^\s*GRUB_SAVEDEFAULT=["']?(\w*)""", re.MULTILINE)


class Setting(NamedTuple):
    """Where the default entry is written down.

    `key` is a variable of grubenv, one of loader.conf's, or an EFI variable's name; `file` is
    "" for that one, else a path as Place.where has them.
    """

    file: str
    key: str
    value: Optional[str]


class Told(NamedTuple):
    """What the loader was told, where it can be told something else, and the places it reads.

    `setting` is None where nothing can be told.
    """

    choice: Choice
    setting: Optional[Setting]
    places: tuple[Place, ...]


def read(machine: Host, found: Sequence[Place]) -> Told:
    """Return what the loader was told. Where it cannot be known which one it is, it is unknown."""
    with_entries = [p for p in found if os.path.isdir(os.path.join(p.directory, ENTRIES))]
    grub = next(((p, *its) for p in with_entries if (its := _grub_configuration(p))), None)
    systemd = _systemd_boot(machine, found) if with_entries else None
    if (grub is None and systemd is None) or (grub and systemd and not machine.running_id):
        return Told(Choice(Loader.UNKNOWN), None, tuple(found))
    if systemd is not None and (grub is None or _runs_systemd_boot(machine)):
        # Its entries may be beside the ESP (XBOOTLDR); what GRUB has left behind it does not read.
        read_by_it = tuple(p for p in found if grub is None or p != grub[0] or p == systemd)
        return Told(*_choice_of_systemd_boot(machine, systemd), read_by_it)
    assert grub is not None
    return Told(*_choice_of_grub(machine, *grub), grub[:1])


def entries(machine: Host, place: Place) -> list[bls.BootEntry]:
    """Return the boot entries of a place, with what is known of GRUB's variables."""
    known = _variables(machine, place)
    found = []
    with files.opened(place.directory) as directory:
        for name in files.list_in_tree(directory, ENTRIES) or []:
            if name.endswith(".conf"):
                text = files.read_in_tree(directory, f"{ENTRIES}/{name}") or ""
                found.append(bls.parse(f"{place.point}/{ENTRIES}/{name}", text, known))
    return found


def _variables(machine: Host, place: Place) -> dict[str, str]:
    """Return GRUB's variables for the entries of a place, none where GRUB has no folder in it."""
    for name in GRUB_CONFIGURATIONS:
        where = _resolved(machine, place, f"{os.path.dirname(name)}/grubenv")
        environment = _grubenv(machine, where) if where else None
        configuration = places.read(place, name)
        if environment or configuration:
            return grub_options.variables(environment or {}, configuration or "")
    return {}


def _grub_configuration(place: Place) -> Optional[tuple[str, str]]:
    """Return GRUB's folder and its grub.cfg if that reads boot entries (blscfg), else None."""
    for name in GRUB_CONFIGURATIONS:
        text = places.read(place, name) or ""
        if re.search(r"^\s*blscfg\b", text, re.MULTILINE):
            return os.path.dirname(name), text
    return None


def _choice_of_grub(
    machine: Host, place: Place, folder: str, configuration: str
) -> tuple[Choice, Optional[Setting]]:
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


def _resolved(machine: Host, place: Place, name: str) -> Optional[str]:
    """Return a file of a place as a plan names it; grubenv may be a link to the ESP.

    None where that leads nowhere: the ESP is not mounted, and has the file all the same.
    """
    if not os.path.islink(os.path.join(place.directory, name)):
        return f"{place.where}/{name}"
    real = files.real_path(machine.root_fd, f"{place.point.strip('/')}/{name}")
    return f"tree:{os.path.relpath(real, machine.root)}" if real else None


def _grubenv(machine: Host, where: str) -> Optional[dict[str, str]]:
    """Return the variables, none where there is no file; None where it is damaged."""
    text = places.read_file(machine, where)
    if text is None:
        return {}
    try:
        return grubenv.parse(text)
    except grubenv.GrubenvError:
        return None


def _systemd_boot(machine: Host, found: Sequence[Place]) -> Optional[Place]:
    """Return the place that systemd-boot reads its loader.conf from, if this machine has one."""
    for place in found:
        folder = os.path.join(place.directory, "EFI/systemd")
        if os.path.isdir(folder) or places.read(place, LOADER_CONF) is not None:
            return place
    return found[0] if found and _runs_systemd_boot(machine) else None


def _runs_systemd_boot(machine: Host) -> bool:
    return _variable(machine, "LoaderInfo").startswith("systemd-boot")


def _choice_of_systemd_boot(machine: Host, place: Place) -> tuple[Choice, Optional[Setting]]:
    text = places.read(place, LOADER_CONF) or ""
    told = Choice(
        Loader.SYSTEMD_BOOT,
        pattern=loader_conf.pattern(text, loader_conf.DEFAULT),
        efi_default=_variable(machine, efi.DEFAULT),
        efi_oneshot=_variable(machine, efi.ONCE),
        preferred=loader_conf.pattern(text, loader_conf.PREFERRED),
        efi_preferred=_variable(machine, efi.PREFERRED),
    )
    file = f"{place.where}/{LOADER_CONF}"
    # What outranks the rest is what has to be changed.
    for setting in (
        Setting("", efi.PREFERRED, told.efi_preferred),
        Setting(file, loader_conf.PREFERRED, told.preferred),
        Setting("", efi.DEFAULT, told.efi_default),
    ):
        if setting.value:
            return told, setting
    return told, Setting(file, loader_conf.DEFAULT, told.pattern or None)


def _variable(machine: Host, name: str) -> str:
    """Return a variable of this machine's firmware, "" if there is none or it is another's."""
    return (efi.read(name) or "") if machine.running_id else ""


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
    if not reason and told.loader is Loader.SYSTEMD_BOOT:
        efi.write(efi.ONCE, f"{entry.id}.conf")
    elif not reason and setting is not None:
        write_setting(machine, setting.file, "next_entry", entry.name)
    return reason


def why_not_once(
    machine: Host, found: Sequence[Place], told: Choice, setting: Optional[Setting]
) -> str:
    """Return why `set_once` could not have the next boot use an entry, "" if it could."""
    if told.loader is Loader.SYSTEMD_BOOT:
        knows = _runs_systemd_boot(machine)
        return "" if knows else "systemd-boot can be told only by a system that it has booted"
    if told.loader is Loader.UNKNOWN or setting is None:
        return "it is not known how to tell the boot loader"
    return _why_grub_cannot_forget(machine, found, setting)


def one_shot(told: Choice, setting: Optional[Setting]) -> Optional[Setting]:
    """Return where it is written that the next boot, and only that, uses an entry; None if not."""
    if told.efi_oneshot:
        return Setting("", efi.ONCE, told.efi_oneshot)
    if told.next_entry and setting is not None:
        return Setting(setting.file, "next_entry", told.next_entry)
    return None


def _why_grub_cannot_forget(machine: Host, found: Sequence[Place], setting: Setting) -> str:
    """Return why GRUB could not take a one-shot entry back after its boot, "" if it can.

    It writes grubenv in place, which it can do on plain disks with a filesystem that does not
    copy on write; else it would boot that entry for ever.
    """
    read = [_grub_configuration(place) for place in found]
    texts = [configuration[1] for configuration in read if configuration]
    if not any("next_entry" in text and "save_env" in text for text in texts):
        return "its grub.cfg knows no entry for the next boot only"
    path = os.path.realpath(places.path_of(machine, setting.file))
    mount = mountinfo.containing(host.read_mounts(), path)
    beside_root = setting.file.startswith("top:") and machine.mount.fstype == "btrfs"
    if mount is None or beside_root or mount.fstype == "btrfs":
        return "GRUB cannot write to btrfs, and would not forget the entry after that boot"
    if mount.source.startswith(("/dev/mapper/", "/dev/dm-", "/dev/md")):
        return f"GRUB cannot write to {mount.source}, and would not forget the entry"
    return ""


def saves_choice(machine: Host, found: Sequence[Place], setting: Optional[Setting]) -> bool:
    """Whether GRUB makes an entry the default that somebody has chosen by hand (GRUB_SAVEDEFAULT).

    It cannot write to btrfs.
    """
    if setting is None or setting.key != "saved_entry" or setting.file.startswith("top:"):
        return False
    told = _SAVEDEFAULT.findall(files.read_in_tree(machine.root_fd, "etc/default/grub") or "")
    texts = [its[1] for its in map(_grub_configuration, found) if its]
    return told[-1:] == ["true"] or any(_SAVES.search(text) for text in texts)


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
    except grubenv.GrubenvError:
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
    directory, name = os.path.split(places.path_of(machine, file))
    with files.opened(directory) as opened:
        data = changed.encode("utf-8", "surrogateescape")
        durable.replace(opened, name, (data,), for_loader=True)
