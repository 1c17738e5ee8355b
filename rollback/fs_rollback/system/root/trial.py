# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that was booted into something else than its own root, on the filesystem of that.

From the menu entry of a snapshot it runs a writable copy of that, a trial. It may also run a
snapshot itself, ours or another tool's, that somebody named in the boot loader, with or without an
overlay. What is rolled back then is not what runs, but the machine's own root: that is mounted for
the command alone, as in a rescue system, and everything else is as with --root.
"""

from __future__ import annotations

import errno
import os
from functools import lru_cache
from typing import NamedTuple, Optional

from ...core.formats import cmdline, fstab, mountinfo
from ...core.formats.mount_options import is_named
from ...core.snapshots.names import SNAPSHOT_PREFIX, TRIAL_PREFIX, is_moment
from ...core.snapshots.snapshot import STORE, Subvolume
from ...errors import Error, RefusedError
from ..linux import devices, files, syscalls
from ..machine import host, kernels, own_root
from ..machine.host import Host


class Aside(NamedTuple):
    """What a machine runs instead of its own root, and that root: paths from the top level."""

    running: str
    own: str
    uuid: str

    def refusal(self) -> RefusedError:
        """Return the error for commands on the own root, with a command that works on it."""
        return RefusedError(
            f"this machine runs /{self.running}, not its own root, /{self.own}",
            hint=host.hint_of_own_root(self.uuid),
        )


def of_snapshot() -> str:
    """Return the name of the snapshot that this machine runs, or a copy of it; "" if it does not.

    A snapshot itself, with or without an overlay, is run where somebody has told the boot loader
    so, and not where it was made the root by hand.
    """
    mounts = host.read_mounts()
    mount = mountinfo.containing(mounts, "/")
    told = host.overlaid(mounts)
    path = mount.root if mount is not None and mount.fstype == "btrfs" else ""
    if told is not None:
        path = "/" + next((f[7:].strip("/") for f in told.flags if f.startswith("subvol=")), "")
    moment = path.rpartition("_")[2]
    if path == f"/{STORE}/{TRIAL_PREFIX}{moment}" and is_moment(moment):
        return SNAPSHOT_PREFIX + moment
    if path == f"/{STORE}/{SNAPSHOT_PREFIX}{moment}" and is_moment(moment):
        return path[len(STORE) + 2 :] if told is not None or is_aside() else ""
    return ""


def is_beside(device: str, uuid: str) -> bool:
    """Whether the machine runs something on that btrfs which is not its own root.

    Raises RefusedError where it runs the own root: what a rollback waits for there, and which root
    is running, is seen only from that itself.
    """
    told = host.overlaid(host.read_mounts())
    if told is not None:
        return devices.is_btrfs(told.root, uuid)
    with files.opened("/") as root:
        try:
            ours = syscalls.filesystem_uuid(root)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
                return False  # it is not btrfs
            raise
    if ours.lower() != uuid.lower():
        return False
    if runs_beside():
        return True
    raise RefusedError(
        f"{device} is the running system's own filesystem",
        hint="Omit --device. For a copy of its disk (the same UUID), boot another rescue system.",
    )


def runs_beside() -> bool:
    """Whether the machine runs anything but its own root, as far as can be told."""
    return bool(host.overlaid(host.read_mounts()) or of_snapshot() or is_aside())


@lru_cache(maxsize=1)
def is_beside_trial(machine: Host) -> bool:
    """Whether this is the own root of a machine that runs something else of it.

    Found out once for a machine, as all that is known of one: what runs does not change.
    """
    if machine.is_running or machine.running_id in (0, machine.root_id):
        return False
    return runs_beside()


def is_aside() -> bool:
    """Whether `aside` says so of the machine that runs; False where that cannot be told."""
    try:
        with host.opened("/") as machine:
            return aside(machine) is not None
    except Error:  # as promised; what is wrong there is told by who needs it
        return False


def aside(machine: Host) -> Optional[Aside]:
    """Return what a running machine was booted into, if that is not its own root; None if it is.

    Only where the boot loader was told so, and where another subvolume names itself as the root of
    the same system. A trial (of_snapshot) names itself too: it is none of these.
    """
    if not machine.is_running:
        return None
    running = machine.root_subvolume
    told = cmdline.root_arguments(kernels.running_command_line()).flags
    if not is_named(told, running.path, running.id):
        return None
    if _has_own_fstab(machine, running):
        return None
    try:
        own, explicit = own_root.find(machine.top_fd, machine.mount.source, machine.identity)
        is_other_system = machine.is_stranger_at(own.path)
    except Error:
        return None  # what is wrong with its files is told by who needs them
    if own.id == running.id or is_other_system or not (explicit or running.read_only):
        return None
    if _entries_lead_to(machine, running) and not _entries_lead_to(machine, own):
        return None
    return Aside(running.path, own.path, machine.uuid)


def runs_other_root(machine: Host) -> bool:
    """Whether this is the running system, and its root not the machine's own."""
    return machine.is_running and bool(of_snapshot() or aside(machine))


def before_changes(machine: Host) -> str:
    """Return the warning before packages are changed outside the machine's own root."""
    if not machine.is_running:
        return ""
    boot = files.device_of(machine.root_fd, "boot/.")
    but = "" if boot == os.fstat(machine.root_fd).st_dev else ", except in /boot"
    name = of_snapshot()
    if name:
        return (
            f"this machine runs a trial of {name}: changes made now are lost when the trial"
            f" ends{but}. To keep them: 'fs-rollback rollback', reboot, and make them again."
        )
    found = aside(machine)
    if found is None:
        return ""
    return (
        f"this machine runs /{found.running}: changes made now stay in it{but}, and do not reach"
        f" its own root, /{found.own}."
    )


def _has_own_fstab(machine: Host, running: Subvolume) -> bool:
    entry = fstab.root_entry(machine.fstab_entries())
    return entry is not None and is_named(entry.options, running.path, running.id)


def _entries_lead_to(machine: Host, subvolume: Subvolume) -> bool:
    """Whether a boot entry names a subvolume, one of a snapshot of ours aside."""
    # Few machines get here, and each command imports this module.
    from ...core.loader.menu_names import is_snapshot_entry
    from ..loader import places

    for point in places.POINTS:
        for entry in places.entries_in(machine.root_fd, f"{point}/{places.ENTRIES}", f"/{point}"):
            flags = cmdline.root_arguments(entry.options).flags
            named = is_named(flags, subvolume.path, subvolume.id)
            if named and not is_snapshot_entry(entry):
                return True
    return False
