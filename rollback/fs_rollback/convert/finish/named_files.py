# SPDX-License-Identifier: GPL-2.0-or-later
"""Writes the name of the root's subvolume into what names the root: fstab and command lines.

/etc/default/grub stays as it is: grub-mkconfig(8) puts the subvolume of the root into each command
line by itself.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Callable

from ...core.boot.layout import from_boot_entry
from ...core.formats import bls, cmdline
from ...core.loader.loader_path import LoaderPath
from ...core.loader.menu_names import is_snapshot_entry
from ...system.linux import files
from ...system.linux.durable import write_file
from ...system.loader import places
from ...system.machine.host import Host
from ...system.root import root_lines
from .names import BOOT, ROOT, named_fstab


def write(host: Host, others: Sequence[str]) -> None:
    """Name the root everywhere, and have fstab mount the `others`; may run again. Raises Error."""
    _rewrite(host.root, "etc/fstab", lambda text: named_fstab(text, others))
    host.forget()
    for directory, entry in _entries(host, others):
        options = cmdline.with_root_subvolume(entry.options, ROOT)
        name = os.path.basename(entry.file)
        if options != entry.options:
            text = bls.rewrite(entry.text, {"options": options})
            write_file(os.path.join(directory, name), text, 0o644)
    _rewrite(host.root, "etc/kernel/cmdline", _named_line)


def _named_line(text: str) -> str:
    line = text.rstrip("\n")
    return cmdline.with_root_subvolume(line, ROOT) + text[len(line) :]


def _rewrite(root: str, path: str, change: Callable[[str], str]) -> None:
    with files.opened(root) as tree:
        text = files.read_in_tree(tree, path)
    if text is not None and change(text) != text:
        write_file(os.path.join(root, path), change(text), 0o644)


def _entries(host: Host, others: Sequence[str]) -> Iterator[tuple[str, bls.BootEntry]]:
    """Give the entries that start this root, and where they lie.

    Where the loader reads the subvolume `boot`, the directory under it counts for nothing.
    """
    found = places.find(host, root_lines.read_layout(host))
    directories = [p.directory for p in found if p.where != LoaderPath.from_top(ROOT, BOOT)]
    directories.append(host.path(BOOT if BOOT in others else f"{ROOT}/{BOOT}"))
    seen: set[tuple[int, int]] = set()
    for directory in (f"{path}/{places.ENTRIES}" for path in directories):
        if os.path.isdir(directory):
            status = os.stat(directory)
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                yield from _entries_in(host, directory)


def _entries_in(host: Host, directory: str) -> Iterator[tuple[str, bls.BootEntry]]:
    with files.opened(directory) as opened:
        entries = places.entries_in(opened, ".")
    for entry in entries:
        said = from_boot_entry(entry, host.identity.is_meant)
        if not is_snapshot_entry(entry) and said is not None and said.is_ours:
            yield directory, entry
