# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what an fstab, or root=, names is there: the device, the subvolume, the mount point."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from ...core.formats import fstab
from ...core.formats.mount_options import subvolume_number, subvolume_path
from ...core.formats.mountinfo import is_within
from ...errors import RefusedError, UsageError
from ..linux import devices, files
from ..loader import places
from ..machine.host import Host


def look(host: Host, tree: int, entry: fstab.Entry) -> Optional[fstab.Mounting]:
    """Return what is there of one entry of the fstab of `tree`, an open directory.

    None for what has no device of this machine: tmpfs, proc, and what comes over a network, which
    no boot waits for (systemd.mount(5), _netdev). Raises KernelError, ProcessError.
    """
    spec = devices.as_tag(entry.spec)
    is_device = spec.startswith("/dev/") or devices.is_tag(spec)
    if not is_device or "_netdev" in entry.options:
        return None
    has_point = not entry.point.startswith("/") or _has_point(tree, entry.point)
    has = has_device(host, spec)
    return fstab.Mounting(has, _has_subvolume(host, entry) if has else None, has_point)


def _has_point(tree: int, point: str) -> bool:
    """Whether there is a mount point; what is mounted is entered only if the boot loader reads it.

    Anything else may be of a server that is gone, and wait for it for ever.
    """
    if any(is_within(point, f"/{place}") for place in places.POINTS):
        return files.status_of(tree, point) is not None
    return files.is_beyond_mount(tree, point) or files.status_of(tree, point) is not None


def has_device(host: Host, spec: str) -> Optional[bool]:
    """Whether a block device is there; None where this cannot be known from here.

    On a machine that does not run that is all that is not there: not all of its disks may be
    attached to this one, and another kernel may give its names (/dev/sda2) to other disks.
    """
    if host.identity.is_meant(spec):
        return True
    tag = devices.as_tag(spec)
    if devices.is_tag(tag) and os.path.exists(devices.link_of(tag)):
        return True
    try:
        devices.find(tag)
    except UsageError:  # no device is called so
        return False if host.running_id else None
    except RefusedError:  # several are: which one is meant cannot be known
        return None
    return True


def _has_subvolume(host: Host, entry: fstab.Entry) -> Optional[bool]:
    """Whether the subvolume of an entry is there; None on a filesystem that is not the root's."""
    named = any(option.startswith(("subvol=", "subvolid=")) for option in entry.options)
    if entry.fstype not in ("btrfs", "auto") or not named:
        return True
    return has_subvolume(host, entry.options) if host.identity.is_meant(entry.spec) else None


def has_subvolume(host: Host, options: Sequence[str]) -> bool:
    """Whether what mount options name on the filesystem of the root, if anything, is there."""
    try:
        path, number = subvolume_path(options), subvolume_number(options)
    except ValueError:  # no subvolume has an ID like that
        return False
    return any(path in (None, s.path) and number in (None, s.id) for s in host.subvolumes)
