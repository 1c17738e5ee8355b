# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts a filesystem so that nothing on its device changes, which "ro" alone does not promise."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

from ...errors import ProcessError, RefusedError, kernel_errors
from ...system.linux import devices, process
from ...system.machine import host

# A journal is not replayed. Even so ext4 ends deletions that were cut off (ext4_orphan_cleanup() in
# fs/ext4/orphan.c writes after "ro,noload" too), but for a device that cannot be written: that is
# the loop device in between, which ends with the mount.
_EXT = ("loop", "errors=continue")
_OPTIONS = {
    "ext2": _EXT,
    "ext3": (*_EXT, "noload"),
    "ext4": (*_EXT, "noload"),
    "xfs": ("norecovery",),
    "btrfs": ("rescue=nologreplay",),
}


def mount(device: str, place: int, options: Sequence[str] = ()) -> None:
    """Mount a device on an open directory, for this process's namespace.

    Of the `options` of fstab(5) only the subvolume counts: others are for who writes, and some of
    ext4's do not go with noload. Raises RefusedError where the device is in use or cannot be
    mounted.
    """
    kind = devices.probe(device).get("TYPE", "auto")
    if kind in ("ext2", "ext3", "ext4"):
        refuse_in_use(device)
    kept = [option for option in options if option.startswith(("subvol=", "subvolid="))]
    words = ",".join(["ro", *_OPTIONS.get(kind, ()), *kept])
    # Without /run/mount/utab, which is not this namespace's alone.
    command = ["mount", "--no-mtab", "--types", kind, "--options", words, "--source", device]
    try:
        process.run([*command, "--target", f"/proc/self/fd/{place}"], pass_fds=[place])
    except ProcessError as error:
        raise RefusedError(
            f"{device} cannot be mounted read-only: {error}",
            hint="'dmesg' shows why: often damage ('e2fsck -n') or, with ext4, a feature that this"
            " kernel does not support ('dumpe2fs -h').",
        ) from error


def refuse_in_use(device: str) -> None:
    """Raise RefusedError if a device is mounted, or held by what is made of it."""
    with kernel_errors("open", device):
        try:
            os.close(os.open(device, os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC))
            return
        except OSError as error:
            if error.errno != errno.EBUSY:  # who has it is said below
                raise
    number = devices.number_of(device)
    point = next((m.point for m in host.read_mounts() if m.device == number), "")
    if point:
        raise RefusedError(
            f"{device} is mounted on {point}",
            hint=f"Give --root {point} instead of --device, or unmount it.",
        )
    raise RefusedError(
        f"{device} is in use: another device is built on it, or another process has it mounted",
        hint="'lsblk' shows the devices built on it; to find the mount, search /proc/*/mountinfo"
        " for it.",
    )
