# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts the system on an ext4 to look at it, without a change to any device."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import RefusedError, kernel_errors, require_root
from ...system.linux import devices, files, namespaces
from ...system.machine.identity import Identity
from ...system.root import offline
from . import readonly_mount


@contextmanager
def mounted_to_look(given: str, note: offline.Note) -> Iterator[tuple[str, str]]:
    """Mount the system on an ext4 as `mounted` does, without a change to any device.

    Gives the directory and the device. Raises what `mounted` raises.
    """
    require_root()
    device = devices.find(given)
    found = devices.probe(device)
    if found.get("TYPE") != "ext4":
        raise devices.other_than("ext4", device, found)
    if os.stat(device).st_rdev == os.stat("/").st_dev:
        raise RefusedError(f"the root of the running system is on {device}", hint="Omit --device.")
    readonly_mount.refuse_in_use(device)
    offline.take_own_mounts(device)
    uuid, numbers = found.get("UUID", ""), [devices.number_of(device)]
    identity = Identity(uuid, numbers, is_attached=False, paths=[device])
    filesystem = offline.Filesystem(
        device, identity, read_only=True, mount_unchanged=readonly_mount.mount
    )
    with offline.own_directory() as directory:
        with files.opened(directory) as place:
            readonly_mount.mount(device, place)
        try:
            with files.opened(directory) as tree:
                offline.mount_entries(filesystem, tree, note)
            yield directory, device
        finally:
            with kernel_errors("unmount", directory):
                namespaces.detach(directory)
