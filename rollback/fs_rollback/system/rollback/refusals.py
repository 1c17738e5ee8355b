# SPDX-License-Identifier: GPL-2.0-or-later
"""Refuses what would not be safe, before any change, with the reason and the way out."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from ...core.boot.layout import Layout
from ...core.formats.mountinfo import is_within
from ...core.snapshots.names import label
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID, Snapshot, Subvolume
from ...errors import RefusedError
from ..linux import files
from ..machine.host import Host
from ..machine.usable import active_swap, devices_missing, read_only, refuse_unsupported
from ..packages import settle_records
from ..root import root_lines


def refuse_filesystem(host: Host) -> None:
    """Raise RefusedError where nothing can be written, or a snapshot does not hold the system."""
    if host.mount.read_only:
        raise read_only(host)
    missing = devices_missing(host)
    if missing is not None:
        raise missing
    refuse_unsupported(host)
    with settle_records.no_transaction(host):
        pass  # it could be held off


def refuse_mounts_by_id(host: Host, nested: Sequence[Subvolume]) -> None:
    """Raise RefusedError if fstab mounts a nested subvolume by its ID: its copy has another one."""
    ids = {subvolume.id: subvolume for subvolume in nested}
    for entry in root_lines.own_entries(host):
        number = entry.subvolume_id
        if number in ids and entry.point != "/":
            raise RefusedError(
                f"/etc/fstab line {entry.line} mounts a subvolume inside the root by its ID:"
                f" {entry.text}",
                hint=f"In that line, replace the subvolid by 'subvol={ids[number].path}', and try"
                " again.",
            )


def refuse_stranger(host: Host, target: Snapshot, tree: int) -> None:
    """Raise RefusedError if the target is no system, or that of another machine.

    Two systems may share a filesystem, and its store; machine-id(5) tells them apart.
    """
    for path in ("usr", "etc"):
        if files.list_in_tree(tree, path) is None:
            raise RefusedError(
                f"{label(target)} contains no system: it has no /{path}",
                hint="'fs-rollback list' shows other snapshots.",
            )
    if host.is_stranger(tree):
        raise RefusedError(
            f"{label(target)} belongs to another system on this filesystem",
            hint="Its /etc/machine-id differs from that of this system. Choose another snapshot.",
        )


def refuse_other_root(host: Host, layout: Layout, target: Snapshot) -> None:
    """Raise RefusedError if the root here is not the one that would be replaced."""
    if layout.root.id != host.root_id:
        raise RefusedError(
            f"/{host.root_subvolume.path} is the root here, but the next boot uses"
            f" /{layout.root.path} ({layout.describe()})",
            hint="Reboot into the root that you want to replace, then try again.",
        )
    if target.id == layout.root.id:
        raise RefusedError(f"{label(target)} is already the root")
    inside = is_within(f"/{STORE}/", "/" + layout.root.path) and layout.root.id != TOP_LEVEL_ID
    if inside:
        raise RefusedError(f"the root /{layout.root.path} contains the snapshot store")


def refuse_swap(host: Host, subvolumes: set[int]) -> None:
    """Raise RefusedError if an active swap file keeps one of the subvolumes from snapshots."""
    path = active_swap(host, subvolumes)
    if path:
        raise RefusedError(
            f"the swap file {path} is active, and btrfs cannot snapshot a subvolume with an active"
            " swap file",
            hint=f"Turn it off first: swapoff {shlex.quote(path)}",
        )
