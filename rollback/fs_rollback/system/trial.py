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
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..core import bls, cmdline, fstab
from ..core.loaders import is_snapshot_name
from ..core.mountinfo import Mount
from ..core.snapshot import Subvolume
from ..errors import Error, RefusedError, UnsupportedRootError
from . import files, host, kernels, own_root, places, syscalls
from .host import Host


class Aside(NamedTuple):
    """What a machine runs instead of its own root, and that root: paths from the top level."""

    running: str
    own: str
    uuid: str

    def refusal(self) -> RefusedError:
        """Return what to say where the own root is meant: one command that works on it."""
        return RefusedError(
            f"this machine runs /{self.running}, and not its own root, /{self.own}",
            hint=_hint(self.uuid),
        )


def _hint(uuid: str) -> str:
    return (
        f"'fs-rollback rollback --device UUID={uuid}' rolls its own root back from here, too; all"
        " other commands work on it with the same --device."
    )


def is_beside(device: str, uuid: str) -> bool:
    """Whether the machine runs something on that btrfs which is not its own root.

    Raises RefusedError where it runs the own root: what a rollback waits for there, and which root
    is running, is seen only from that itself.
    """
    told = host.overlaid(host.read_mounts())
    if told is not None:
        return _is_filesystem(told.root, uuid)
    with files.opened("/") as root:
        try:
            ours = syscalls.filesystem_uuid(root)
        except OSError as error:
            if error.errno in (errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP):
                return False  # not btrfs
            raise
    if ours.lower() != uuid.lower():
        return False
    if runs_beside():
        return True
    raise RefusedError(
        f"{device} is the running system's own filesystem",
        hint="Leave --device out. For a copy of its disk (the same UUID), boot another rescue"
        " system.",
    )


def runs_beside() -> bool:
    """Whether the machine runs anything but its own root, as far as can be told."""
    return bool(host.overlaid(host.read_mounts()) or host.trial_of() or is_aside())


def is_aside() -> bool:
    """Whether `aside` says so of the machine that runs; False where that cannot be told."""
    try:
        with host.opened("/") as machine:
            return aside(machine) is not None
    except Error:
        return False


def aside(machine: Host) -> Optional[Aside]:
    """Return what a running machine was booted into, if that is not its own root; None if it is.

    Only where the boot loader was told so, and where another subvolume names itself as the root of
    the same system. A trial (host.trial_of) names itself too: it is none of these.
    """
    if not machine.is_running:
        return None
    running = next((s for s in machine.subvolumes if s.id == machine.root_id), None)
    told = cmdline.root_arguments(kernels.running_command_line()).flags
    if running is None or not _is_named(told, running) or _has_own_fstab(machine, running):
        return None
    try:
        own, explicit = own_root.find(machine.top_fd, machine.mount.source, machine.identity)
        with files.opened(machine.path(own.path)) as tree:
            is_other_system = machine.is_stranger(tree)
    except Error:
        return None  # what is wrong with its files is told by who needs them
    if own.id == running.id or is_other_system or not (explicit or running.read_only):
        return None
    if _entries_lead_to(machine, running) and not _entries_lead_to(machine, own):
        return None
    return Aside(running.path, own.path, machine.uuid)


def runs_other_root(machine: Host) -> bool:
    """Whether this is the running system, and its root not the machine's own."""
    return machine.is_running and bool(host.trial_of() or aside(machine))


def before_changes(machine: Host) -> str:
    """Return what to say before packages are changed in something else than the own root."""
    if not machine.is_running:
        return ""
    boot = files.device_of(machine.root_fd, "boot/.")
    but = "" if boot == os.fstat(machine.root_fd).st_dev else ", except in /boot"
    name = host.trial_of()
    if name:
        return (
            f"this machine runs a trial of {name}: what is changed now goes with that{but}. To keep"
            " it: 'fs-rollback rollback', reboot, and do it again."
        )
    found = aside(machine)
    if found is None:
        return ""
    return (
        f"this machine runs /{found.running}: what is changed now stays in that{but}, and is not in"
        f" its own root, /{found.own}."
    )


def below_overlay(machine: Host, told: cmdline.RootArguments) -> int:
    """Return the ID of the subvolume that an overlay on / was put over, 0 on another filesystem."""
    if not _is_filesystem(told.root, machine.uuid):
        return 0
    named = (s.id for s in machine.subvolumes if _is_named(told.flags, s))
    return next(named, machine.default_id)


def overlay_refusal(mounts: tuple[Mount, ...]) -> Optional[UnsupportedRootError]:
    """Return what to say where / is an overlay over a btrfs; None if that is not known."""
    from . import devices

    told = host.overlaid(mounts)
    try:
        uuid = devices.btrfs_uuid(devices.find(told.root)) if told is not None else ""
    except Error:
        return None
    if not uuid:
        return None
    return UnsupportedRootError("/ is an overlay, and not the machine's own root", hint=_hint(uuid))


def _is_filesystem(spec: str, uuid: str) -> bool:
    from . import devices

    try:
        return devices.btrfs_uuid(devices.find(spec)).lower() == uuid.lower()
    except Error:
        return False


def _is_named(options: Sequence[str], subvolume: Subvolume) -> bool:
    """Whether mount options name a subvolume, by its path or by its ID."""
    paths = [o[len("subvol=") :].strip("/") for o in options if o.startswith("subvol=")]
    return paths[-1:] == [subvolume.path] or f"subvolid={subvolume.id}" in options


def _has_own_fstab(machine: Host, running: Subvolume) -> bool:
    table = files.read_in_tree(machine.root_fd, "etc/fstab") or ""
    entry = fstab.root_entry(fstab.parse(table))
    return entry is not None and _is_named(entry.options, running)


def _entries_lead_to(machine: Host, subvolume: Subvolume) -> bool:
    """Whether a boot entry names a subvolume, one of a snapshot of ours aside."""
    for path in places.entry_files(machine.root_fd):
        if path.endswith(".conf") and not is_snapshot_name(os.path.basename(path)):
            text = files.read_in_tree(machine.root_fd, path) or ""
            if _is_named(cmdline.root_arguments(bls.parse(path, text).options).flags, subvolume):
                return True
    return False
