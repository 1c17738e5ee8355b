# SPDX-License-Identifier: GPL-2.0-or-later
"""Finds the subvolume of a btrfs that is a machine's own root, only from the files on it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from ...core.boot.layout import Statement, from_file, from_fstab
from ...core.formats import cmdline, fstab
from ...core.formats.mountinfo import is_within
from ...core.snapshots.snapshot import STORE, Subvolume
from ...errors import RefusedError, UnsupportedRootError, kernel_errors
from ..linux import btrfs, files, syscalls
from .identity import Identity


class System(NamedTuple):
    """A subvolume with /usr and /etc, and what its own files say about the root."""

    subvolume: Subvolume
    statements: tuple[Statement, ...]


def find(top: int, device: str, identity: Identity) -> tuple[Subvolume, bool]:
    """Return the root of the one system on a btrfs, and whether a line of its own names it.

    `top` is its open top level. Raises what `choose` raises, KernelError.
    """
    path = f"/proc/self/fd/{top}"
    default_id = btrfs.default_subvolume(path)
    found = systems(top, btrfs.subvolumes(path), default_id, identity)
    chosen = choose(found, default_id, device)
    lines = next(system.statements for system in found if system.subvolume == chosen)
    return chosen, not all(line.silent for line in lines)


def systems(
    top: int, subvolumes: Sequence[Subvolume], default_id: int, identity: Identity
) -> tuple[System, ...]:
    """Return the subvolumes that hold a system; of those in the store only the default one.

    `top` is an open directory, the top level. Raises KernelError.
    """
    found = []
    for subvolume in subvolumes:
        if is_within("/" + subvolume.path, f"/{STORE}") and subvolume.id != default_id:
            continue
        with kernel_errors("open", "/" + subvolume.path):
            flags = os.O_RDONLY | os.O_DIRECTORY
            tree = syscalls.open_in_root(top, subvolume.path or ".", flags, follow=False)
        try:
            # Users make subvolumes too, and could write any fstab into them; root's are root's.
            ours = os.fstat(tree).st_uid == 0
            if ours and all(files.inode_of(tree, name) is not None for name in ("usr", "etc")):
                found.append(System(subvolume, _statements(tree, identity)))
        finally:
            os.close(tree)
    return tuple(found)


def _statements(tree: int, identity: Identity) -> tuple[Statement, ...]:
    """Return what a tree's fstab and /etc/kernel/cmdline say about a root on this filesystem.

    A copy on another disk names its origin by its device: only what is another for certain is.
    """
    entries = fstab.parse(files.read_in_tree(tree, "etc/fstab") or "")
    line = cmdline.of_file(files.read_in_tree(tree, "etc/kernel/cmdline") or "")
    root = fstab.root_entry(entries)
    found = []
    if root is not None and identity.is_meant(root.spec) is not False:
        # What says nonsense says nothing: any subvolume may hold some container's files.
        with suppress(RefusedError):
            found.append(from_fstab("/etc/fstab", entries))
    with suppress(RefusedError):  # as above
        found.append(from_file("/etc/kernel/cmdline", line, identity.is_meant))
    return tuple(statement for statement in found if statement is not None)


def choose(found: Sequence[System], default_id: int, device: str) -> Subvolume:
    """Return the root of the one system that names itself; `device` is for the messages.

    A system names itself if a line of it has its path or its ID, or if its lines leave the choice
    to the default subvolume, and it is that one. Names count, not what was booted last: after a
    rollback the new root has the name. Raises UnsupportedRootError if none does, RefusedError if
    several do.
    """
    fitting = [system.subvolume for system in found if _names_itself(system, default_id)]
    if len(fitting) == 1:
        return fitting[0]
    if not found:
        raise UnsupportedRootError(
            f"{device} contains no system: no subvolume on it has /usr and /etc",
            hint="'lsblk --fs' lists all devices and what is on them.",
        )
    paths = [s.path or "/" for s in (fitting or [system.subvolume for system in found])]
    hint = (
        f"Mount the one that you mean: mount -o subvol={paths[0]} {device} /mnt; then give --root"
        " /mnt instead of --device."
    )
    if fitting:
        raise RefusedError(f"{device} contains several systems: {', '.join(paths)}", hint=hint)
    raise UnsupportedRootError(
        (
            f"no subvolume on {device} names itself as / in its /etc/fstab; found:"
            f" {', '.join(paths[:8])}"
        )
        + (" and more" if len(paths) > 8 else ""),
        hint=hint,
    )


def _names_itself(system: System, default_id: int) -> bool:
    explicit = [statement for statement in system.statements if not statement.silent]
    if not explicit:
        return bool(system.statements) and system.subvolume.id == default_id
    return any(
        s.subvolume == system.subvolume.path
        if s.subvolume is not None
        else s.subvolume_id == system.subvolume.id
        for s in explicit
    )
