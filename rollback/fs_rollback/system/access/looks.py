# SPDX-License-Identifier: GPL-2.0-or-later
"""Mounts snapshots read-only for people to read, and recognizes these mounts again.

A look is identified by the number that the kernel gave its mount (noted before anybody can see the
mount), and by the filesystem, the subvolume and the mount point. The notes are in /run, because the
mounts end with this boot.
"""

from __future__ import annotations

import errno
import json
import os
from contextlib import suppress
from typing import NamedTuple

from ...core.formats.mountinfo import Mount, is_within
from ...core.snapshots.snapshot import Snapshot
from ...errors import KernelError, RefusedError, kernel_errors
from ..linux import durable, files, namespaces, syscalls
from ..machine import host as machine
from ..machine.host import Host
from . import privileges

PLACE = "/run/fs-rollback"
_NOTE = ".look.json"


class Look(NamedTuple):
    """A snapshot that is mounted for reading: its UUID, and where it is mounted."""

    snapshot: str
    uuid: str
    filesystem: str
    point: str
    mount: int


def find(host: Host) -> list[Look]:
    """Return the snapshots of a machine that this program has mounted and that are still mounted.

    Only mounts in the mount namespace of this process count. Raises KernelError.
    """
    mounts = {mount.id: mount for mount in machine.read_mounts()}
    found = [look for look in _notes() if look.filesystem == host.uuid]
    return [look for look in found if _is_of(host, look, mounts.get(look.mount))]


def _is_of(host: Host, look: Look, mount: Mount | None) -> bool:
    """Whether a mount is the one that a note is about: numbers are given anew."""
    if mount is None or mount.point != look.point or mount.fstype != "btrfs":
        return False
    subvolume = host.by_id(mount.subvolume_id)
    only_read = {"ro", "nosuid", "nodev", "noexec"} <= set(mount.options)
    return subvolume is not None and subvolume.uuid == look.uuid and only_read


def _notes() -> list[Look]:
    found = []
    with suppress(FileNotFoundError):  # nothing was mounted in this boot
        for name in sorted(os.listdir(PLACE)):
            if name.endswith(_NOTE):
                # Another version's, or cut off: that mount is for umount(8).
                with suppress(ValueError, TypeError), open(f"{PLACE}/{name}") as file:
                    found.append(Look(**json.load(file)))
    return found


def mount(host: Host, snapshot: Snapshot, directory: str | None) -> Look:
    """Mount a snapshot read-only where only root can enter, and return the look. Needs the lock.

    `directory` defaults to one below /run. Raises RefusedError if the directory cannot be used.
    """
    assert snapshot.subvolume is not None, "it has been looked for"
    _make_private(PLACE)
    point = os.path.join(PLACE, snapshot.name)
    if directory is None:
        _make_private(point)
    else:
        point = os.path.realpath(directory)
    _refuse_directory(point, directory or point)
    with kernel_errors("mount", snapshot.name), files.opened(point) as place:
        # A snapshot is mounted as what the filesystem is, read-only by the mount alone.
        detached = namespaces.detached_look(
            host.mount.source, snapshot.id, read_only=host.mount.read_only
        )
        try:
            number = namespaces.mount_id(detached)
            look = Look(snapshot.name, snapshot.subvolume.uuid, host.uuid, point, number)
            with files.opened(PLACE) as notes:
                durable.write_text(notes, _note_of(look), json.dumps(look._asdict()))
            syscalls.attach(detached, place)
        finally:
            os.close(detached)
    return look


def _make_private(path: str) -> None:
    """Make a directory that only root can enter, unless it is there."""
    # It may be there from before; nobody but root can have made it.
    with kernel_errors("make", path), suppress(FileExistsError):
        os.mkdir(path, 0o700)


def _refuse_directory(point: str, given: str) -> None:
    """Refuse what is no empty directory, or one that others than root can come to."""
    try:
        entries = os.listdir(point)
    except OSError as error:
        raise RefusedError(
            f"{given} is not a usable directory: {os.strerror(error.errno or 0)}",
            hint=f"Create it, or omit it: the default is a directory in {PLACE}.",
        ) from error
    mounted = next((m for m in machine.read_mounts() if m.point == point), None)
    if entries or mounted is not None:
        why = f"{mounted.source} is mounted there" if mounted else "it is not empty"
        raise RefusedError(f"{given} cannot be used: {why}", hint="Give an empty directory.")
    above = os.path.dirname(point)
    while above != "/":
        if privileges.only_root_enters(os.stat(above)):
            return
        above = os.path.dirname(above)
    raise RefusedError(
        f"users other than root can enter {given}, and could reach the old files there",
        hint=f"Omit it to use a directory in {PLACE}, or give one inside a directory that only root"
        " can enter, such as /root.",
    )


def _note_of(look: Look) -> str:
    return f"{look.mount}{_NOTE}"


def unmount(look: Look) -> None:
    """Unmount a look that `find` returned. Raises RefusedError if it is in use."""
    over = [m for m in machine.read_mounts() if is_within(m.point, look.point)]
    if [m.id for m in over] != [look.mount]:
        others = ", ".join(f"{m.point} ({m.source})" for m in over if m.id != look.mount)
        raise RefusedError(
            f"something else is mounted on or in {look.point}: {others}",
            hint="Unmount that first, with umount(8).",
        )
    try:
        namespaces.unmount(look.point)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise KernelError("unmount", look.point, error) from error
        raise RefusedError(
            f"{look.point} is in use",
            hint="End or leave what uses it, a shell's working directory too: 'fuser -vm"
            f" {look.point}' lists it.",
        ) from error
    with files.opened(PLACE) as notes:
        durable.remove(notes, _note_of(look))
    if os.path.dirname(look.point) == PLACE:
        with suppress(OSError):  # an empty directory in /run is in nobody's way
            os.rmdir(look.point)
