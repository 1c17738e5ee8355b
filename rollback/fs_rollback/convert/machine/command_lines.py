# SPDX-License-Identifier: GPL-2.0-or-later
"""The kernel command lines of a machine: which a preparation changes, and which it must not.

GRUB's environment block has no room for a way back, and grub.cfg is made by a program.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Optional

from ...core.boot.layout import from_file
from ...core.formats import bls, cmdline, grubenv
from ...system.linux import files
from ...system.loader import entries
from ...system.loader.entries import Boot
from ...system.loader.places import ENTRIES, GRUB_CONFIGURATIONS, Place
from ..plan import edits
from ..plan.facts import CommandLine
from ..plan.steps import WriteFile
from .initramfs import of_system
from .loader import vendors
from .machine import LAYOUT, Ext4Machine

_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_LINUX = re.compile(r"^[ \t]*linux(?:16|efi)?[ \t]+\S+[ \t]+(.*)$", re.MULTILINE)
# What grub-mkconfig of older systems gives entries whose $kernelopts is not in grubenv.
_KERNELOPTS = re.compile(r"""^[ \t]*set (?:default_)?kernelopts=["'](.*)["']""", re.MULTILINE)


def edited(machine: Ext4Machine) -> Iterator[WriteFile]:
    """Give the changes of those that only ext4 could be started with."""
    why = "options that only ext4 knows are removed; both filesystems boot without them"
    found = entries.read(machine, LAYOUT)
    for bootable in found.bootables:
        options = bootable.entry.options
        # One that names no root itself leaves that to a variable of GRUB.
        ours = bootable.ours or not cmdline.root_arguments(options).root
        if ours and edits.ext4_words(options):
            name = os.path.basename(bootable.entry.file)
            path = entry_path(found.place_of(bootable), name)
            kept = edits.without_ext4(options)
            after = bls.rewrite(bootable.entry.text, {"options": kept if kept.strip() else None})
            yield WriteFile(path, bootable.entry.text, after, why)
    for path, change in (
        ("etc/kernel/cmdline", edits.without_ext4),
        ("etc/default/grub", edits.default_grub),
    ):
        text = files.read_in_tree(machine.root_fd, path)
        if text is not None and change(text) != text:
            yield WriteFile(path, text, change(text), why)


def _left_in_sources(machine: Ext4Machine) -> Iterator[CommandLine]:
    """Give those of which the next boot entries are made, as they are when all is edited."""
    directory = "etc/default/grub.d"
    names = sorted(files.list_in_tree(machine.root_fd, directory) or [])
    paths = ["etc/default/grub", *(f"{directory}/{n}" for n in names if n.endswith(".cfg"))]
    if files.status_of(machine.root_fd, "etc/kernel/cmdline") is None:
        paths.append("usr/lib/kernel/cmdline")
    for path in paths:
        text = files.read_in_tree(machine.root_fd, path) or ""
        left = edits.words_left(edits.default_grub(text) if path == paths[0] else text)
        if left:
            yield CommandLine(f"/{path}", "", " ".join(left))


def entry_path(place: Place, name: str) -> str:
    """Return the path in the machine of a boot entry's file."""
    return f"{place.point.lstrip('/')}/{ENTRIES}/{name}"


def left(machine: Ext4Machine, found: Optional[Boot]) -> Iterator[CommandLine]:
    """Give those with what only ext4 knows that somebody has to change by hand."""
    names = {
        name for b in of_system(found) for name in _VARIABLE.findall(b.entry.options)
    }  # GRUB expands them
    known = variables(machine)
    for file, values in known.items():
        for name in sorted(names & values.keys()):
            if edits.ext4_words(values[name]):
                yield CommandLine(file, name, values[name])
    is_default_used = "kernelopts" in names - {name for v in known.values() for name in v}
    yield from _left_in_sources(machine)
    for path in _configurations(machine):
        text = files.read_in_tree(machine.root_fd, path) or ""
        lines = _LINUX.findall(text) + (_KERNELOPTS.findall(text) if is_default_used else [])
        for line in dict.fromkeys(filter(edits.ext4_words, lines)):
            if _is_ours(machine, path, line):
                yield CommandLine(f"/{path}", "", line)
                break


def variables(machine: Ext4Machine) -> dict[str, dict[str, str]]:
    """Return GRUB's environment blocks: path in the machine, then names and values."""
    found = {}
    for name in GRUB_CONFIGURATIONS:
        path = f"boot/{os.path.dirname(name)}/grubenv"
        text = files.read_in_tree(machine.root_fd, path)
        try:
            found[f"/{path}"] = grubenv.parse(text or "")
        except grubenv.GrubenvError:
            continue  # GRUB reads nothing from it either
    return found


def _configurations(machine: Ext4Machine) -> Iterator[str]:
    """Give the paths at which GRUB's own configuration may lie."""
    yield from (f"boot/{name}" for name in GRUB_CONFIGURATIONS)
    yield from (f"{directory}/grub.cfg" for directory in vendors(machine.root_fd))


def _is_ours(machine: Ext4Machine, path: str, line: str) -> bool:
    """Whether a command line starts this system, as far as it says; others are in the menu too."""
    is_named = cmdline.root_arguments(line).root
    return not is_named or from_file(f"/{path}", line, machine.identity.is_meant) is not None
