# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine whose root is ext4, read as what it becomes: a root in the top level of a btrfs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property

from ...core.boot.layout import Kind, Layout
from ...core.formats import mountinfo
from ...core.snapshots.snapshot import TOP_LEVEL_ID, Subvolume
from ...errors import KernelError, RefusedError, require_root
from ...system.linux import devices, files
from ...system.machine import host
from ...system.machine.host import Host
from ...system.machine.identity import Identity

_EPOCH = datetime.fromtimestamp(0, timezone.utc)
# Paths stay what they are: btrfs-convert(8) puts everything into the top level.
LAYOUT = Layout(
    Kind.DEFAULT, Subvolume(TOP_LEVEL_ID, "", "", 0, "", False, _EPOCH, 0), statements=()
)


class Ext4Machine(Host):
    """A machine that can be asked what any other can but for subvolumes: there are none."""

    @cached_property
    def uuid(self) -> str:
        """The UUID of the filesystem, which it keeps."""
        return devices.probe(self.device).get("UUID", "")

    @cached_property
    def identity(self) -> Identity:
        """As it will be; the root is on one device."""
        return Identity(
            self.uuid,
            () if self.mount.device.startswith("0:") else (self.mount.device,),
            is_attached=self.running_id != 0,
            paths=(self.device, self.mount.source),
        )

    @cached_property
    def root_id(self) -> int:
        """What the root will be."""
        return TOP_LEVEL_ID

    @cached_property
    def default_id(self) -> int:
        """The same."""
        return TOP_LEVEL_ID

    @cached_property
    def subvolumes(self) -> tuple[Subvolume, ...]:
        """The root alone."""
        return (LAYOUT.root,)

    @cached_property
    def running_id(self) -> int:
        """The same where this is the running system, 0 elsewhere."""
        return TOP_LEVEL_ID if self.is_running else 0

    @cached_property
    def device(self) -> str:
        """The device of the root."""
        source, number = self.mount.source, self.mount.device
        try:
            if devices.number_of(source) == number:
                return source
        except OSError:
            pass  # /dev/root, without an initramfs
        # 0: what is on no device of its own, or, as btrfs, on several.
        return source if number.startswith("0:") else devices.of_number(number)


def device_on(root: str) -> str:
    """Return the device that is mounted on a directory, "" if none is."""
    path = os.path.realpath(root)
    mounts = host.read_mounts()
    mount = mountinfo.containing(mounts, path)
    if mount is None or mount.point != path or mount.device.startswith("0:"):
        return ""
    return devices.of_number(mount.device)


@contextmanager
def opened(root: str, device: str = "") -> Iterator[Ext4Machine]:
    """Open the machine whose root is the directory `root`, whatever filesystem that is on.

    `device` is what the root is on, where what is mounted only stands for it (offline.py).

    Raises RefusedError where that is no root of a system; Error without root's rights.
    """
    require_root()
    path = os.path.realpath(root)
    if not os.path.isdir(path):
        raise RefusedError(f"{root} is not a directory", hint="Give the mounted root of a system.")
    mounts = host.read_mounts()
    mount = mountinfo.containing(mounts, path)
    if mount is None or mount.point != path or (mount.fstype != "btrfs" and mount.root != "/"):
        raise RefusedError(
            f"{root} is not where a filesystem is mounted",
            hint="Give the directory on which the root is mounted.",
        )
    if device:
        mount = mount._replace(source=device, device=devices.number_of(device))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError("open", path, error) from error
    try:
        for name in ("usr", "etc"):
            if files.device_of(descriptor, name) is None:
                raise RefusedError(
                    f"{device or root} contains no system: there is no /{name} in it",
                    hint="Only the root of a system can be converted.",
                )
        yield Ext4Machine(path, mounts, mount, descriptor, descriptor)
    finally:
        os.close(descriptor)
