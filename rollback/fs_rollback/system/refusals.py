# SPDX-License-Identifier: GPL-2.0-or-later
"""What cannot be made safe: refused before anything is touched, with the reason and the way out."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence

from ..core.layout import Layout
from ..core.mountinfo import is_within, unescape
from ..core.snapshot import STORE, TOP_LEVEL_ID, Snapshot, Subvolume
from ..errors import RefusedError
from . import boot_sources, files, history, places
from .host import Host, rpmdb_path


def read_only(host: Host) -> RefusedError:
    """Return what says that nothing can be written."""
    source = host.mount.source
    writable = f"'mount -o remount,rw {host.root}' makes it writable"
    if host.is_temporary:
        writable = f"mount it writable: 'findmnt {source}' shows where it is mounted"
    return RefusedError(
        f"the filesystem on {source} is read-only",
        hint=f"'dmesg' may say why. If it has no errors, {writable}; after an error only a reboot"
        " does.",
    )


def not_writable(host: Host) -> RefusedError | None:
    """Return what says that the filesystem, or the running system's mount of it, is read-only."""
    if host.mount.read_only:
        return read_only(host)
    if host.is_running and "ro" in host.mount.options:
        return RefusedError(
            "/ is mounted read-only, although its filesystem is not",
            hint="'mount -o remount,rw /' makes it writable; 'fs-rollback check' looks at"
            " /etc/fstab, which does so at boot.",
        )
    return None


def devices_missing(host: Host) -> RefusedError | None:
    """Return why the filesystem is not whole, None if all its devices are there."""
    if not host.missing_devices:
        return None
    return RefusedError(
        f"the filesystem on {host.mount.source} runs with a device missing"
        f" ({host.missing_devices} of {len(host.device_paths)})",
        hint="Replace the device first: see btrfs-replace(8).",
    )


def refuse_filesystem(host: Host) -> None:
    """Raise RefusedError where nothing can be written, or a snapshot does not hold the system."""
    if host.mount.read_only:
        raise read_only(host)
    missing = devices_missing(host)
    if missing is not None:
        raise missing
    refuse_unsupported(host)
    if history.transaction_is_running(host):
        raise RefusedError(
            "a package transaction is running", hint="Wait until it has finished, then try again."
        )


def unsupported(host: Host) -> RefusedError | None:
    """Return why a snapshot of the root is no way back, None if it is one."""
    reason = host.unsupported()
    if not reason:
        return None
    return RefusedError(
        f"{reason}, so a snapshot of the root does not hold the whole system",
        hint="What rpm owns must lie in the root subvolume for a rollback.",
    )


def refuse_unsupported(host: Host) -> None:
    """Raise RefusedError where no snapshot of the root holds the whole system."""
    refusal = unsupported(host)
    if refusal is not None:
        raise refusal


def refuse_what_is_not_mounted(host: Host) -> None:
    """Raise RefusedError if fstab mounts something here that decides, and it is not mounted.

    On a system that is not running, only the root may be: /boot, or what has the rpm database,
    cannot be looked at then; nor the ESP, which decides where no boot entries are elsewhere.
    """
    wanted = {"/usr", "/etc", "/boot"}
    if not places.entry_files(host.root_fd):
        wanted |= {"/efi", "/boot/efi"}
    if rpmdb_path(host.root_fd) is None:
        wanted |= {"/var", "/var/lib", "/var/lib/rpm"}
    entries = boot_sources.fstab_entries(host.root_fd)
    device = os.fstat(host.root_fd).st_dev
    for entry in entries:
        if entry.point not in wanted or files.is_beyond_mount(host.root_fd, entry.point):
            continue
        if files.device_of(host.root_fd, entry.point) in (None, device):
            hint = f"Mount it first: mount {entry.spec} {host.root.rstrip('/')}{entry.point}"
            if host.is_temporary:
                hint = (
                    "Attach or open what it is on; or mount the root and that by hand, and give"
                    " --root DIR instead of --device."
                )
            raise RefusedError(
                f"/etc/fstab mounts {entry.spec} on {entry.point}, and it is not mounted here",
                hint=hint,
            )


def refuse_mounts_by_id(host: Host, nested: Sequence[Subvolume]) -> None:
    """Raise RefusedError if fstab mounts a nested subvolume by its ID: its copy has another one."""
    ids = {subvolume.id: subvolume for subvolume in nested}
    for entry in boot_sources.own_entries(host, host.root_fd):
        number = boot_sources.number_of(entry)
        if number in ids and entry.point != "/":
            raise RefusedError(
                f"/etc/fstab line {entry.line} mounts a subvolume inside the root by its ID:"
                f" {entry.text}",
                hint=f"In /etc/fstab, put 'subvol={ids[number].path}' there without the subvolid,"
                " and try again.",
            )


def refuse_stranger(host: Host, target: Snapshot, tree: int) -> None:
    """Raise RefusedError if the target is no system, or that of another machine.

    Two systems may share a filesystem, and its store; machine-id(5) tells them apart.
    """
    for path in ("usr", "etc"):
        if files.list_in_tree(tree, path) is None:
            raise RefusedError(
                f"{target.name} holds no system: it has no /{path}",
                hint="'fs-rollback list' shows what else there is.",
            )
    if host.is_stranger(tree):
        raise RefusedError(
            f"{target.name} is of another system on this filesystem",
            hint="Its /etc/machine-id is not the one here. Choose another snapshot.",
        )


def of_stranger(host: Host, snapshot: Snapshot) -> bool:
    """Whether a snapshot is of another machine that shares this filesystem."""
    return host.is_stranger_at(snapshot.path)


def refuse_other_root(host: Host, layout: Layout, target: Snapshot) -> None:
    """Raise RefusedError if the root here is not the one that would be replaced."""
    if layout.root.id != host.root_id:
        running = next((s.path for s in host.subvolumes if s.id == host.root_id), "?")
        raise RefusedError(
            f"/{running} is the root here, but the next boot uses /{layout.root.path}"
            f" ({layout.describe()})",
            hint="Reboot into the root that is to be replaced, then try again.",
        )
    if target.id == layout.root.id:
        raise RefusedError(f"{target.name} is the root already")
    inside = is_within(f"/{STORE}/", "/" + layout.root.path) and layout.root.id != TOP_LEVEL_ID
    if inside:
        raise RefusedError(f"the root /{layout.root.path} contains the snapshot store")


def refuse_swap(host: Host, subvolumes: set[int]) -> None:
    """Raise RefusedError if an active swap file keeps one of the subvolumes from snapshots."""
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
        rows = [line.split() for line in file.read().split("\n")[1:]]
    devices = {os.stat(host.path(s.path)).st_dev for s in host.subvolumes if s.id in subvolumes}
    # The kernel writes blanks in these paths as it does in mountinfo.
    for path in (unescape(row[0]) for row in rows if row[1:2] == ["file"]):
        if os.path.exists(path) and os.stat(path).st_dev in devices:
            raise RefusedError(
                f"the swap file {path} is active, and a subvolume with one has no snapshots",
                hint=f"Turn it off first: swapoff {shlex.quote(path)}",
            )
