# SPDX-License-Identifier: GPL-2.0-or-later
"""One machine, running or not: its root directory, its filesystem, and the top level of that."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING

from ...core.formats import cmdline, fstab, mountinfo
from ...core.formats.mount_options import is_named
from ...core.snapshots.snapshot import Subvolume
from ...errors import (
    Error,
    KernelError,
    RefusedError,
    UnsupportedRootError,
    kernel_errors,
    require_root,
)
from ..linux import btrfs, devices, files, syscalls
from . import identity, kernels
from .identity import Identity
from .rpmdb import RPMDB_PLACES, rpmdb_path

if TYPE_CHECKING:
    from ...core.boot.health import Device

# What /proc says of a process that is no more, or is about to be.
_ENDED = (errno.ENOENT, errno.ESRCH, errno.EINVAL)
BOOT_POINTS = ("boot", "efi", "boot/efi")  # where the boot loader's files may be mounted
TEMPORARY = "/run/fs-rollback."  # what the directories begin with that offline.py makes


class Host:
    """What is known of a machine; everything is read at most once, when first asked for.

    `root` is the directory of its root, "/" for the running system; `mount` is the one of the
    `mounts`, as this process saw them first, that has it. `top` is a path to the top level as long
    as this lives. Who writes an fstab clears `fstabs`; `touched` is for comparison/touched.py.
    """

    def __init__(
        self,
        root: str,
        mounts: tuple[mountinfo.Mount, ...],
        mount: mountinfo.Mount,
        root_fd: int,
        top_fd: int,
    ) -> None:
        self.root = root
        self.mounts = mounts
        self.mount = mount
        self.root_fd = root_fd
        self.top_fd = top_fd
        self.top, self.places = f"/proc/self/fd/{top_fd}", files.Places(top_fd)
        self.fstabs: dict[int, tuple[fstab.Entry, ...]] = {}
        self.touched: dict[tuple[int, int], tuple[int, dict[int, list[int]]]] = {}

    @cached_property
    def is_running(self) -> bool:
        """Whether this is the booted system, and not one entered with chroot(1)."""
        return self.root == "/" and not is_chroot()

    @property
    def is_temporary(self) -> bool:
        """Whether the root is mounted for this process alone (offline.py): to nobody else's use."""
        return self.root.startswith(TEMPORARY)

    @cached_property
    def asked_by(self) -> tuple[str, str]:
        """Who asked for what is done to this machine, and the command line, for the trace.

        Whoever works for a package manager's transaction sets this to what that says.
        """
        from . import requester

        return requester.of_process()

    @cached_property
    def uuid(self) -> str:
        """The UUID of the filesystem, as blkid(8) prints it."""
        return syscalls.filesystem_uuid(self.top_fd)

    @cached_property
    def identity(self) -> Identity:
        """Tells whether a device of fstab or a command line is the filesystem of the root."""
        paths = [*self.device_paths, self.mount.source]
        return identity.of_btrfs(self.uuid, paths, is_attached=self.running_id != 0)

    @cached_property
    def device_paths(self) -> tuple[str, ...]:
        """What the kernel calls the devices of the filesystem, "" for a missing one."""
        with kernel_errors("list the devices of", self.mount.source):
            return tuple(syscalls.device_paths(self.top_fd).values())

    @cached_property
    def members(self) -> tuple[Device, ...]:
        """The devices of the filesystem with what the kernel knows of their health."""
        return devices.of_btrfs(self.top_fd, self.uuid)

    @cached_property
    def root_id(self) -> int:
        """The ID of the subvolume that `root` is."""
        return btrfs.subvolume_id(self.root)

    @cached_property
    def running_id(self) -> int:
        """The ID of the subvolume that this process runs on, 0 if that is another filesystem.

        Another one than `root_id` where the system was booted from a copy of a snapshot.
        """
        if self.is_running:
            return self.root_id
        if is_chroot():
            return 0
        told = overlaid(self.mounts)
        if told is not None:
            return self._below_overlay(told)
        mount = mountinfo.containing(self.mounts, "/")
        ours = mount is not None and mount.device == self.mount.device
        return btrfs.subvolume_id("/") if ours else 0

    def _below_overlay(self, told: cmdline.RootArguments) -> int:
        """Return the ID of what an overlay on / was put over, 0 on another filesystem."""
        if not devices.is_btrfs(told.root, self.uuid):
            return 0
        named = [s.id for s in self.subvolumes if is_named(told.flags, s.path, s.id)]
        return named[0] if named else self.default_id

    @cached_property
    def subvolumes(self) -> tuple[Subvolume, ...]:
        """All subvolumes of the filesystem."""
        return btrfs.subvolumes(self.top)

    @cached_property
    def holders(self) -> frozenset[int]:
        """The IDs of the subvolumes that have others right in them, those with no path too."""
        return frozenset(btrfs.parents(self.top).values())

    @property
    def root_subvolume(self) -> Subvolume:
        """The subvolume that `root` is. Raises KernelError where it was deleted meanwhile."""
        found = self.by_id(self.root_id)
        if found is None:
            raise KernelError("find the subvolume of", self.root, OSError(errno.ENOENT, "deleted"))
        return found

    def by_id(self, number: int) -> Subvolume | None:
        """Return the subvolume with this ID, None if there is none."""
        return next((s for s in self.subvolumes if s.id == number), None)

    def by_uuid(self, uuid: str) -> Subvolume | None:
        """Return the subvolume with this UUID, None if there is none."""
        return next((s for s in self.subvolumes if s.uuid == uuid), None)

    def by_path(self, path: str) -> Subvolume | None:
        """Return the subvolume at this path from the top level, None if there is none."""
        return next((s for s in self.subvolumes if s.path == path), None)

    @cached_property
    def default_id(self) -> int:
        """The ID of the default subvolume."""
        return btrfs.default_subvolume(self.top)

    @cached_property
    def mounted_ids(self) -> frozenset[int]:
        """The IDs of the subvolumes of this filesystem that are mounted anywhere."""
        # Read anew: whoever had the lock before may have mounted one, or unmounted it.
        ours = (m for m in read_mounts() if m.device == self.mount.device)
        # What lies below an overlay may be in no mount table.
        return frozenset({*(m.subvolume_id for m in ours), self.running_id} - {0})

    def fstab_entries(self, tree: int | None = None) -> tuple[fstab.Entry, ...]:
        """Return what fstab mounts, that of `root` or of another open subvolume's directory.

        Nothing where there is none. Each is read once, and again after `forget`.
        """
        number = self.root_id if tree is None else btrfs.subvolume_id(f"/proc/self/fd/{tree}")
        if number not in self.fstabs:
            text = files.read_in_tree(self.root_fd if tree is None else tree, "etc/fstab")
            self.fstabs[number] = fstab.parse(text or "")
        return self.fstabs[number]

    @cached_property
    def machine_id(self) -> str:
        """The machine-id(5) of the system, "" where there is none yet."""
        return _machine_id(self.root_fd)

    @cached_property
    def kernels(self) -> tuple[str, ...]:
        """The kernels that have modules in the root."""
        return kernels.with_modules(self.root_fd)

    def is_stranger(self, tree: int) -> bool:
        """Whether a tree is of another machine than this one, as far as both say."""
        theirs = _machine_id(tree)
        return bool(self.machine_id and theirs) and self.machine_id != theirs

    def is_stranger_at(self, path: str) -> bool:
        """Whether a subvolume, by its path from the top level, is of another machine."""
        with files.opened(self.path(path)) as tree:
            return self.is_stranger(tree)

    def path(self, relative: str) -> str:
        """Return the path of something given from the top level, as files.Places does."""
        return self.places.path(relative)

    def forget(self) -> None:
        """Drop what was read: something on the filesystem has changed."""
        self.fstabs.clear()
        for name in ("subvolumes", "holders", "default_id", "mounted_ids"):
            self.__dict__.pop(name, None)  # it may not have been read

    def add(self, made: Subvolume) -> None:
        """Add a new subvolume to what was read; nothing else has changed."""
        if "subvolumes" in self.__dict__:
            self.subvolumes += (made,)
        self.__dict__.pop("holders", None)

    def unsupported(self) -> str:
        """Return why a snapshot of the root would not contain the whole system, "" if it would.

        All files that rpm owns must be in the root subvolume: a machine whose rpm database is newer
        than its /usr is broken.
        """
        device = os.fstat(self.root_fd).st_dev
        rpmdb = rpmdb_path(self.root_fd)
        # Whatever lies at the other place: something empty, or left there by an older system.
        for path in ("usr", "etc", *([rpmdb] if rpmdb else RPMDB_PLACES)):
            other = files.device_of(self.root_fd, path)
            if other is not None and other != device:
                return f"/{path} is a subvolume or filesystem of its own"
        # Where the system does not run it need not be mounted now.
        for entry in self.fstab_entries():
            if entry.point in ("/usr", "/etc") and not {"bind", "noauto"} & set(entry.options):
                return f"{entry.point} is a subvolume or filesystem of its own"
        return ""


def _machine_id(tree: int) -> str:
    found = (files.read_in_tree(tree, "etc/machine-id") or "").strip()
    return found if len(found) == 32 else ""  # "uninitialized", as in an image


def read_mounts(process: str = "self") -> tuple[mountinfo.Mount, ...]:
    """Return the mounts of a process, of this one if none is named. Raises KernelError."""
    path = f"/proc/{process}/mountinfo"
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return mountinfo.parse(file.read())
    except OSError as error:
        raise KernelError("read", path, error) from error


def mounts_of_all() -> tuple[mountinfo.Mount, ...]:
    """Return the mounts of every process, each mount namespace once.

    A process that ends meanwhile is passed over. Raises KernelError, also where one cannot be
    looked at: what it has mounted is not nothing.
    """
    found = {_namespace("self"): read_mounts()}
    for process in filter(str.isdigit, os.listdir("/proc")):
        try:
            namespace = _namespace(process)
            if namespace not in found:
                found[namespace] = read_mounts(process)
        except KernelError as error:
            if error.errno not in _ENDED:  # as promised
                raise
    return tuple(mount for mounts in found.values() for mount in mounts)


def _namespace(process: str) -> str:
    with kernel_errors("read the mounts of", f"/proc/{process}"):
        return os.readlink(f"/proc/{process}/ns/mnt")


def overlaid(mounts: tuple[mountinfo.Mount, ...]) -> cmdline.RootArguments | None:
    """Return what the kernel was told of the root that lies below an overlay on /.

    None where / is none, or where the command line is another system's.
    """
    mount = mountinfo.containing(mounts, "/")
    if mount is None or mount.fstype != "overlay" or is_chroot():
        return None
    return cmdline.root_arguments(kernels.running_command_line())


def overlay_refusal(mounts: tuple[mountinfo.Mount, ...]) -> UnsupportedRootError | None:
    """Return the error if / is an overlay over a btrfs; None if that is not known."""
    told = overlaid(mounts)
    try:
        uuid = devices.btrfs_uuid(devices.find(told.root)) if told is not None else ""
    except Error:  # what it lies over is not known, and an overlay is no btrfs
        return None
    if not uuid:
        return None
    return UnsupportedRootError(
        "/ is an overlay, not the machine's own root", hint=hint_of_own_root(uuid)
    )


def hint_of_own_root(uuid: str) -> str:
    """Return a hint on what is possible on a machine that does not run its own root."""
    return (
        f"'fs-rollback rollback --device UUID={uuid}' rolls back the machine's own root from here;"
        " all other commands take the same --device."
    )


def is_chroot() -> bool:
    """Whether this process sees another root than the first one does, chroot(2).

    What the running kernel, its command line and the firmware say is of another system then.
    """
    try:
        first, ours = os.stat("/proc/1/root/."), os.stat("/")
    except FileNotFoundError:
        # No system runs without /proc; but its first process can be hidden in it, proc(5).
        return not os.path.lexists("/proc/self")
    except OSError:  # not shown to this process; most run in the root that the first one has
        return False
    return (first.st_dev, first.st_ino) != (ours.st_dev, ours.st_ino)


def is_btrfs_root(root: str) -> bool:
    """Whether the directory is the root of a btrfs subvolume."""
    return btrfs.is_subvolume(root)


def _refuse_boot_of_server(root: str, mounts: tuple[mountinfo.Mount, ...]) -> None:
    """Raise RefusedError where a look at the boot loader's files may wait for a server for ever."""
    for point in BOOT_POINTS:
        mount = mountinfo.containing(mounts, os.path.join(root, point))
        if mount is not None and mount.has_server:
            raise RefusedError(
                f"{mount.source} ({mount.fstype}) is mounted on {mount.point}, but no boot loader"
                " can read that",
                hint=f"Unmount it first: umount --lazy {mount.point}",
            )


def _refuse_what_is_no_system(root: str, source: str, root_fd: int) -> None:
    for name in ("usr", "etc"):
        if files.device_of(root_fd, name) is None:
            raise UnsupportedRootError(
                f"{root} contains no system: there is no /{name} in it",
                hint=f"Mount the root subvolume itself, for instance: mount -o subvol=root {source}"
                " DIR",
            )


def _first_device(root_fd: int) -> str:
    return next(filter(None, syscalls.device_paths(root_fd).values()))


@contextmanager
def opened(root: str = "/") -> Iterator[Host]:
    """Open the machine whose root is the directory `root`.

    Raises RefusedError if that is not the root of a btrfs subvolume, Error if not run as root.
    """
    require_root()
    path = os.path.realpath(root)
    if not os.path.isdir(path):
        raise RefusedError(f"{root} is not a directory", hint="Give the mounted root of a system.")
    mounts = read_mounts()
    mount = mountinfo.containing(mounts, path)
    if mount is None or mount.fstype != "btrfs":
        if path == "/" and (below := overlay_refusal(mounts)):
            raise below
        kind = mount.fstype if mount else "not mounted"
        hint = "Snapshots and rollbacks need a btrfs root."
        if kind == "ext4":
            hint += " 'fs-rollback convert check' shows whether you can convert it."
        raise UnsupportedRootError(f"{root} is {kind}, not btrfs", hint=hint)
    if not btrfs.is_subvolume(path):
        raise UnsupportedRootError(
            f"{root} is not the root of a btrfs subvolume",
            hint="Give the directory on which the root subvolume is mounted.",
        )
    _refuse_boot_of_server(path, mounts)
    with files.opened(path) as root_fd:
        _refuse_what_is_no_system(root, mount.source, root_fd)
        try:
            # Without an initramfs the kernel names its root /dev/root, which does not exist.
            source = mount.source if os.path.exists(mount.source) else _first_device(root_fd)
            top_fd = syscalls.mount_top_level(source, read_only=mount.read_only)
        except OSError as error:
            raise KernelError("reach the top level of", mount.source, error) from error
        found = Host(path, mounts, mount._replace(source=source), root_fd, top_fd)
        try:
            yield found
        finally:
            found.places.close()
            os.close(top_fd)
