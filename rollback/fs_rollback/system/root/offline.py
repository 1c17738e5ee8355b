# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that does not run, from its device: its root is found and mounted for one process.

For the command line only: the process takes a mount namespace of its own, which no process of dnf
may do. The mounts are in no other process's table and end with the last process in the namespace,
so a killed command leaves none behind; at worst an empty directory stays in /run.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Callable, NamedTuple

from ...core.formats import fstab
from ...core.formats.mountinfo import is_within
from ...errors import Error, RefusedError, kernel_errors, require_root
from ..linux import devices, files, namespaces, process, syscalls
from ..machine import host, kernels, own_root
from ..machine.identity import KERNEL_NAME, Identity, of_btrfs
from ..store import journals
from . import trial

Note = Callable[[str], None]

_RUN = "/run"
# What this program reads or writes of a system, and what may lie on a filesystem of its own. What
# users have (/home, /srv) stays unmounted: such a place is no part of the root, fstab says so.
_PLACES = (
    "/boot/efi",
    "/boot/grub2",
    "/boot/loader/entries",
    "/efi",
    "/etc/kernel",
    "/usr/lib/modules",
    "/usr/lib/sysimage/rpm",
    "/var/lib/dnf",
    "/var/lib/rpm",
)
_MADE_AT_BOOT = ("tmpfs", "ramfs")


MountUnchanged = Callable[[str, int, Sequence[str]], None]


class Filesystem(NamedTuple):
    """The root's: a device of it, what it is, whether it is only read.

    Where nothing on any device may change, `mount_unchanged` mounts a device on an open directory,
    with what counts of some options of fstab(5).
    """

    device: str
    identity: Identity
    read_only: bool
    mount_unchanged: MountUnchanged | None = None


@contextmanager
def mounted(given: str, note: Note) -> Iterator[str]:
    """Mount the system on a device and give the directory of its root, for this process only.

    `given` is a block device, or UUID=... or LABEL=... as mount(8) takes them. What its fstab puts
    on /boot and on the other places this program looks at is mounted too; `note` is told of each
    nofail or noauto entry that was passed over. The process keeps its mount namespace, without
    these mounts, when they have gone.

    Raises UsageError where there is no such device, UnsupportedRootError where it holds no system
    that can be rolled back, RefusedError where it is not clear which system is meant, where it is
    the running one, or where an entry of its fstab cannot be mounted.
    """
    require_root()
    device = devices.find(given)
    uuid = devices.btrfs_uuid(device)
    beside = trial.is_beside(device, uuid)
    take_own_mounts(device)
    top, read_only = _open_top_level(device, uuid, beside=beside)
    identity = identify(top, device, uuid, is_attached=beside)
    filesystem = Filesystem(device, identity, read_only)
    root_id = _replaced_now(top) if beside else None
    with own_directory() as directory, _mounted_root(filesystem, top, directory, root_id):
        with files.opened(directory) as tree:
            mount_entries(filesystem, tree, note)
        yield directory


def _replaced_now(top: int) -> int | None:
    """Return the ID of the root that a rollback of this boot has replaced; None without one.

    `top` is an open top level. While that waits for its reboot the old root is the one to work on,
    as if the machine ran it, so that the rollback can be taken back.
    """
    journal = journals.glance(top)
    return journal.old_id if journal and journal.boot_id == kernels.boot_id() else None


@contextmanager
def mounted_own(note: Note) -> Iterator[str]:
    """Mount the own root of a machine that runs a snapshot of ours, and give its directory.

    Raises what `mounted` raises.
    """
    told = host.overlaid(host.read_mounts())
    if told is not None:
        device = told.root
    else:
        with host.opened("/") as machine:
            device = machine.mount.source
    with mounted(device, note) as root:
        yield root


def take_own_mounts(purpose: str = "this process") -> None:
    """Give this process a mount table of its own for the rest of its life. Raises KernelError.

    `purpose` is what an error names.
    """
    with kernel_errors("make a mount namespace for", purpose):
        namespaces.unshare_mounts()


@contextmanager
def own_directory() -> Iterator[str]:
    """Make a directory that is this process's alone.

    Never one with a fixed name: removing a directory unmounts what another namespace has on it.
    """
    with kernel_errors("make a directory in", _RUN):
        prefix = f"{os.path.basename(host.TEMPORARY)}{os.getpid()}."
        path = tempfile.mkdtemp(prefix=prefix, dir=_RUN)
    try:
        yield path
    finally:
        with suppress(OSError):  # an empty directory does no harm, and /run ends with this boot
            os.rmdir(path)


@contextmanager
def _mounted_root(
    filesystem: Filesystem, top: int, directory: str, root_id: int | None
) -> Iterator[None]:
    """Find the root subvolume and mount it; all that is mounted below it goes with it."""
    device = filesystem.device
    try:
        if root_id is None:
            root_id = own_root.find(top, device, filesystem.identity)[0].id
        with kernel_errors("mount the root of", device), files.opened(directory) as place:
            syscalls.mount_subvolume(device, root_id, place, read_only=filesystem.read_only)
    finally:
        os.close(top)
    try:
        yield
    finally:
        with kernel_errors("unmount", directory):
            namespaces.detach(directory)


def _open_top_level(device: str, uuid: str, *, beside: bool) -> tuple[int, bool]:
    """Return a descriptor of the top level, and whether the filesystem can only be read.

    A filesystem that somebody has mounted read-only stays so: asked for a second mount that can
    write, some kernels make the first one writable too. Not so `beside` a snapshot of it that
    runs: below an overlay that is read-only as long as it runs.
    """
    in_use = os.path.isdir(f"/sys/fs/btrfs/{uuid}") and not beside
    try:
        try:
            top = syscalls.mount_top_level(device, read_only=in_use)
        except OSError as error:  # a device that takes no writes can be read
            if in_use or error.errno not in (errno.EROFS, errno.EACCES):
                raise
            top = syscalls.mount_top_level(device, read_only=True)
    except OSError as error:
        raise Error(
            f"cannot mount {device}: {os.strerror(error.errno or 0)}",
            hint="'dmesg' says why; 'btrfs filesystem show' tells whether a device is missing.",
        ) from error
    return top, bool(os.fstatvfs(top).f_flag & os.ST_RDONLY)


def identify(top: int, device: str, uuid: str, *, is_attached: bool) -> Identity:
    """Return the identity of the btrfs whose top level is open. Raises KernelError."""
    with kernel_errors("list the devices of", device):
        paths = [*syscalls.device_paths(top).values(), device]
    return of_btrfs(uuid, paths, is_attached=is_attached)


def needed(entries: Sequence[fstab.Entry]) -> tuple[fstab.Entry, ...]:
    """Return the entries of fstab(5) that this program has to see mounted, in a fitting order.

    Parents come first, and what is bound from elsewhere in the tree comes last. Of several for one
    place the first counts, as for systemd-fstab-generator(8).
    """
    bound = [e.spec for e in entries if _is_bind(e) and _leads_to(e.point, _PLACES)]
    found: dict[str, fstab.Entry] = {}
    for entry in entries:
        wanted = entry.point != "/" and _leads_to(entry.point, (*_PLACES, *bound))
        if wanted and entry.fstype not in _MADE_AT_BOOT:
            found.setdefault(entry.point, entry)
    return tuple(sorted(found.values(), key=lambda e: (_is_bind(e), e.point.count("/"))))


def _leads_to(point: str, places: Sequence[str]) -> bool:
    return any(is_within(place, point) for place in places)


def _is_bind(entry: fstab.Entry) -> bool:
    return bool({"bind", "rbind"} & set(entry.options))


def mount_entries(filesystem: Filesystem, tree: int, note: Note) -> None:
    """Mount what fstab(5) of an open root has on the places that this program looks at.

    `note` is told of each nofail or noauto entry that was passed over. Raises RefusedError where
    another one cannot be mounted.
    """
    entries = fstab.parse(files.read_in_tree(tree, "etc/fstab") or "")
    root = fstab.root_entry(entries)
    for entry in needed(entries):
        what = f"/etc/fstab line {entry.line} mounts {entry.spec} on {entry.point}"
        try:
            if _is_bind(entry):
                _bind(entry, tree)
            else:
                source = _source(entry, filesystem, root.spec if root else "")
                _mount(entry, source, tree, filesystem)
        except Error as error:
            # A conversion hangs on what is in /boot, whether or not it is mounted at boot.
            needed_to_look = filesystem.mount_unchanged and entry.point == "/boot"
            if {"noauto", "nofail"} & set(entry.options) and not needed_to_look:
                note(f"{what}; skipped: {error}")
                continue
            raise RefusedError(
                f"{what}, but that failed here: {error}",
                hint="Attach or open its device; or mount the root and the rest by hand, and give"
                " --root DIR instead of --device.",
            ) from error


def _source(entry: fstab.Entry, filesystem: Filesystem, root_spec: str) -> str:
    """Return the device of an entry. Raises UsageError or RefusedError."""
    if entry.fstype == "btrfs" and (
        entry.spec == root_spec or filesystem.identity.is_meant(entry.spec)
    ):
        return filesystem.device
    if re.match(KERNEL_NAME, entry.spec):
        raise RefusedError(f"{entry.spec} may be another disk here than on that machine")
    return devices.find(entry.spec)


def _mount(entry: fstab.Entry, source: str, tree: int, filesystem: Filesystem) -> None:
    """Mount an entry with its own options, read-only where the root is.

    What is mounted already is bound: a second mount can be no other than the first, not read-only
    if that is not, nor the other way round.
    """
    only_read = ["ro"] if filesystem.read_only else []
    options = ",".join([*entry.options, *only_read]) or "defaults"
    with _opened_in(tree, entry.point) as place:
        if filesystem.mount_unchanged is not None:
            filesystem.mount_unchanged(source, place, entry.options)
            return
        number = devices.number_of(source)
        whole = (m.point for m in host.read_mounts() if m.device == number and m.root == "/")
        present = next(whole, "")
        # By what is found on the device: of the types that fstab can name some mount what is here,
        # and others run a program, of any name (mount.fuse3(8)), with the device for its script.
        how = ["--internal-only", "--options", options, "--source", source]
        # Without /run/mount/utab, which is not this namespace's alone.
        command = ["mount", "--no-mtab", *(["--bind", present] if present else how)]
        target = f"/proc/self/fd/{place}"
        process.run([*command, *([] if present else ["--target"]), target], pass_fds=[place])


def _bind(entry: fstab.Entry, tree: int) -> None:
    """Mount a directory of the tree on another."""
    with _opened_in(tree, entry.spec) as source, _opened_in(tree, entry.point) as place:
        names = [f"/proc/self/fd/{descriptor}" for descriptor in (source, place)]
        process.run(["mount", "--no-mtab", "--rbind", *names], pass_fds=[source, place])


@contextmanager
def _opened_in(tree: int, path: str) -> Iterator[int]:
    """Open a directory of the system; links lead where they lead there, and never outside."""
    with kernel_errors("open", f"{path} of that system"):
        descriptor = syscalls.open_in_root(tree, path, os.O_PATH | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
