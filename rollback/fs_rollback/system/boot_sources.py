# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads every line that decides which subvolume becomes the root at boot."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from ..core import bls, cmdline, fstab
from ..core.layout import (
    Layout,
    Statement,
    decide,
    from_boot_entry,
    from_command_line,
    from_file,
    from_fstab,
)
from ..core.loaders import is_snapshot_entry
from ..errors import KernelError
from . import files
from .host import Host

_ENTRY_DIRECTORIES = ("boot/loader/entries", "efi/loader/entries", "boot/efi/loader/entries")
_GRUB_LINE = re.compile(r"""^\s*GRUB_CMDLINE_LINUX(?:_DEFAULT)?=(["']?)(.*)\1\s*$""", re.MULTILINE)


def read_layout(host: Host) -> Layout:
    """Return how the machine finds its root. Raises RefusedError where no rollback is possible."""
    return decide(
        read_statements(host, host.root_fd), host.subvolumes, host.default_id, host.root_id
    )


def read_statements(host: Host, tree: int, *, running: bool = True) -> list[Statement]:
    """Return what the files of a tree say and, if it is the running system, its command line."""
    parsed = [
        bls.parse(f"/{path}", files.read_in_tree(tree, path) or "")
        for path in entry_files(tree)
        if path.endswith(".conf")
    ]
    # The entries of snapshots lead elsewhere on purpose.
    entries = [entry for entry in parsed if not is_snapshot_entry(entry)]
    known = identities(host, entries)
    found: list[Statement | None] = []
    if running and host.is_running:
        found.append(from_file("/proc/cmdline", running_command_line(), known))
    found += [from_boot_entry(entry, known) for entry in entries]
    text = files.read_in_tree(tree, "etc/kernel/cmdline")
    if text is not None:
        found.append(from_file("/etc/kernel/cmdline", text, known))
    found += _grub_defaults(files.read_in_tree(tree, "etc/default/grub") or "", known)
    text = files.read_in_tree(tree, "etc/fstab")
    if text is not None:
        found.append(from_fstab("/etc/fstab", text))
    return [statement for statement in found if statement is not None]


def fstab_entries(tree: int) -> tuple[fstab.Entry, ...]:
    """Return what the fstab of a tree (an open directory) mounts; nothing where it has none."""
    return fstab.parse(files.read_in_tree(tree, "etc/fstab") or "")


def mounted_elsewhere(host: Host) -> frozenset[str]:
    """Return the subvolumes that the tree's fstab mounts by name elsewhere than on /."""
    entries = fstab_entries(host.root_fd)
    options = (o for e in entries if e.fstype == "btrfs" and e.point != "/" for o in e.options)
    names = (o[7:].strip("/") for o in options if o.startswith("subvol="))
    return frozenset(name for name in names if name)


def mounted_by_id(host: Host) -> frozenset[int]:
    """Return the subvolumes that the tree's fstab mounts by their ID."""
    entries = fstab_entries(host.root_fd)
    options = (o for e in entries if e.fstype == "btrfs" for o in e.options)
    numbers = (o[9:] for o in options if o.startswith("subvolid="))
    return frozenset(int(number) for number in numbers if number.isdigit())


def mount_points(host: Host) -> frozenset[str]:
    """Return where the tree's fstab, and the running system, mount something in the root."""
    entries = fstab_entries(host.root_fd)
    points = {entry.point for entry in entries if entry.point not in ("/", "none", "swap")}
    if host.is_running:
        points |= {mount.point for mount in host.mounts if mount.point != "/"}
    return frozenset(points)


def entry_files(tree: int) -> list[str]:
    """Return the paths of what lies among the boot entries of a tree (an open directory)."""
    return [
        f"{directory}/{name}"
        for directory in _ENTRY_DIRECTORIES
        for name in files.list_in_tree(tree, directory) or []
    ]


def _grub_defaults(text: str, identities: tuple[str, ...]) -> list[Statement]:
    """Read /etc/default/grub, where silence says nothing: grub2-mkconfig adds the subvolume."""
    lines = (match.group(2) for match in _GRUB_LINE.finditer(text))
    found = (from_command_line("/etc/default/grub", line, identities) for line in lines)
    return [statement for statement in found if statement is not None and not statement.silent]


def identities(host: Host, entries: Sequence[bls.BootEntry]) -> tuple[str, ...]:
    """Return the ways to name our filesystem in `root=`."""
    source = host.mount.source
    found = [f"UUID={host.uuid}", f"/dev/disk/by-uuid/{host.uuid}", source]
    lines = [entry.options for entry in entries]
    if host.is_running:
        lines.append(running_command_line())
    for line in lines:
        root = cmdline.root_arguments(line).root
        if root.startswith("/dev/") and os.path.realpath(root) == os.path.realpath(source):
            found.append(root)
    return tuple(found)


def running_command_line() -> str:
    """Return the command line of the running kernel. Raises KernelError."""
    path = "/proc/cmdline"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except OSError as error:
        raise KernelError("read", path, error) from error
