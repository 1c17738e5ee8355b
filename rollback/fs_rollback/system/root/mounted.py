# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether what fstab mounts, and what decides, is mounted on the machine that is worked on."""

from __future__ import annotations

import os

from ...errors import RefusedError
from ..linux import files
from ..loader import places
from ..machine.host import Host
from ..machine.rpmdb import rpmdb_path


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
    device = os.fstat(host.root_fd).st_dev
    for entry in host.fstab_entries():
        if entry.point not in wanted or files.is_beyond_mount(host.root_fd, entry.point):
            continue
        if files.device_of(host.root_fd, entry.point) in (None, device):
            hint = f"Mount it first: mount {entry.spec} {host.root.rstrip('/')}{entry.point}"
            if host.is_temporary:
                hint = (
                    "Attach or open its device; or mount the root and that filesystem by hand, and"
                    " give --root DIR instead of --device."
                )
            raise RefusedError(
                f"/etc/fstab mounts {entry.spec} on {entry.point}, but it is not mounted here",
                hint=hint,
            )
