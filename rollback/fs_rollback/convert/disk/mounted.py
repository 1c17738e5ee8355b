# SPDX-License-Identifier: GPL-2.0-or-later
"""The filesystem that is converted, mounted for a moment and really unmounted again."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...errors import LockedError, RefusedError, kernel_errors
from ...system.linux import devices, process, syscalls
from . import readonly_mount

# The options that mount the top level of a btrfs, whatever the default subvolume is.
TOP_LEVEL = "subvolid=5"
_RUN = "/run"
_WAIT_S = 10.0


@contextmanager
def owned(device: str) -> Iterator[int]:
    """Hold a device that nothing uses; gives the descriptor whose lock that is, flock(2).

    What inherits it goes on holding it when this process is killed. udev(7) looks at no device that
    is locked (systemd.io, "Locking Block Device Access"). Raises RefusedError where it is mounted
    or otherwise in use, LockedError where another process holds it.
    """
    with kernel_errors("open", device):
        number = devices.number_of(device)
        descriptor = os.open(device, os.O_RDONLY | os.O_CLOEXEC)
    try:
        deadline = time.monotonic() + _WAIT_S
        while not syscalls.try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise LockedError(
                    f"{device} is in use by another process",
                    hint="A conversion may be running; 'lslocks' shows the process.",
                )
            time.sleep(0.1)
        if devices.is_read_only(number):
            raise RefusedError(
                f"{device} is read-only",
                hint="'blockdev --setrw' may help, or the write-protect switch of the device.",
            )
        # Behind the lock: btrfs-convert(8) opens it like this in its last moment.
        readonly_mount.refuse_in_use(device)
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def mounted(device: str, fstype: str, options: str) -> Iterator[str]:
    """Mount a device on a directory of this process; unmounted, not only detached, on return.

    Raises ProcessError where it cannot be mounted, or cannot be unmounted.
    """
    with kernel_errors("make a directory in", _RUN):
        directory = tempfile.mkdtemp(prefix=f"fs-rollback.{os.getpid()}.", dir=_RUN)
    try:
        command = ["mount", "--no-mtab", "--types", fstype, "--options", options]
        process.run([*command, device, directory])
        try:
            yield directory
        finally:
            process.run(["umount", "--no-mtab", directory])
    finally:
        with suppress(OSError):  # an empty directory does no harm
            os.rmdir(directory)


def is_mounted_anywhere(device: str) -> bool:
    """Whether an ext4 on a device is mounted in any namespace, /sys/fs/ext4 (ext4(5))."""
    return os.path.exists(f"/sys/fs/ext4/{os.path.basename(os.path.realpath(device))}")


def flush(descriptor: int) -> None:
    """Bring what was written to a device to the disk, past its cache. Raises KernelError."""
    with kernel_errors("write to", "the device"):
        os.fsync(descriptor)
