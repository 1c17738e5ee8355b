# SPDX-License-Identifier: GPL-2.0-or-later
"""The directories that a boot loader reads, and files in them as a plan names them.

GRUB reads btrfs from the top level, so a /boot in the root subvolume goes back with the root where
names are exchanged, and only there; a /boot of its own, or the ESP, never does.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple, Optional

from ...core.boot.layout import Kind, Layout
from ...core.formats import bls, mountinfo
from ...core.loader.loader_path import LoaderPath
from ...core.snapshots.snapshot import STORE
from ...errors import KernelError, kernel_errors
from ..linux import files, syscalls
from ..machine import host
from ..machine.host import Host

POINTS = host.BOOT_POINTS
ENTRIES = "loader/entries"
LOADER_CONF = "loader/loader.conf"
GRUB_CONFIGURATIONS = ("grub2/grub.cfg", "grub/grub.cfg")


class Place(NamedTuple):
    """A directory that a boot loader reads.

    `point` is where the machine has it ("/boot"), `directory` a path to it, `base` a path to where
    the paths in its entries begin. `where` and `base_where` name the two in a plan. `in_root`: it
    is in the snapshots of the root; `follows`: a rollback takes it back.
    """

    point: str
    directory: str
    base: str
    where: LoaderPath
    base_where: LoaderPath
    in_root: bool = False
    follows: bool = False

    @property
    def beside_root(self) -> bool:
        """Whether it is on the filesystem of the root."""
        return self.where.is_beside_root

    @property
    def folder(self) -> str:
        """The folder of its entries, from the root of the machine."""
        return f"{self.point.strip('/')}/{ENTRIES}"

    def locate(self, path: str) -> LoaderPath:
        """Return a path of one of its entries as a plan names it."""
        return self.base_where.below(path)

    def locate_entry(self, file: str) -> LoaderPath:
        """Return the boot entry of a name, or of a path that ends in it, as a plan names it."""
        return self.where.below(ENTRIES, os.path.basename(file))


def find(machine: Host, layout: Layout) -> tuple[Place, ...]:
    """Return the directories that a boot loader may read entries or settings from."""
    points = [p for p in POINTS if files.list_in_tree(machine.root_fd, p) is not None]
    # Looked at first, read then: an automounted ESP is mounted by the look.
    mounts = host.read_mounts()
    found: list[Place] = []
    for point in points:
        place = _place(machine, layout, point, mounts)
        if place is not None and place.where not in {other.where for other in found}:
            found += [place] if _is_read(place) else []
    return tuple(found)


def has_entries(place: Place) -> bool:
    """Whether a place has a directory of boot entries."""
    with files.opened(place.directory) as directory:
        return files.list_in_tree(directory, ENTRIES) is not None


@contextmanager
def opened_entries(place: Place) -> Iterator[int]:
    """Open the directory of boot entries that is read. Raises KernelError."""
    flags = os.O_RDONLY | os.O_DIRECTORY
    with files.opened(place.directory) as directory, kernel_errors("open", ENTRIES):
        opened = syscalls.open_in_root(directory, ENTRIES, flags)
    try:
        yield opened
    finally:
        os.close(opened)


def _place(
    machine: Host, layout: Layout, point: str, mounts: tuple[mountinfo.Mount, ...]
) -> Optional[Place]:
    path = files.real_path(machine.root_fd, point)
    if path is None:
        return None
    root_mount = mountinfo.containing(mounts, machine.root)
    mount = mountinfo.containing(mounts, path)
    if mount is None or mount == root_mount:
        return _place_in_root(machine, layout, point, os.path.relpath(path, machine.root))
    if mount.device == machine.mount.device:
        inside = (mount.root + path[len(mount.point.rstrip("/")) :]).strip("/")
        return Place(
            f"/{point}",
            machine.path(inside),
            machine.top,
            LoaderPath.from_top(inside),
            LoaderPath.from_top(),
        )
    below = os.path.relpath(mount.point, machine.root)
    where = LoaderPath.from_root(os.path.relpath(path, machine.root))
    return Place(f"/{point}", path, mount.point, where, LoaderPath.from_root(below))


def _place_in_root(machine: Host, layout: Layout, point: str, below: str) -> Optional[Place]:
    """Return a place in the root subvolume, where it lies `below` the root."""
    root = layout.root.path
    by_default = layout.kind is Kind.DEFAULT
    if by_default and root.startswith(STORE + "/"):
        root = ""  # no name leads there: GRUB goes on reading what lies in the top level
    inside = f"{root}/{below}".strip("/")
    # The root that boots next is read, and a link in it must not lead into what runs here.
    status = files.status_of(machine.top_fd, inside, follow=False)
    if status is None or not stat.S_ISDIR(status.st_mode):
        return None
    directory = machine.path(inside)
    shared = _device(directory) == _device(machine.path(root))
    in_root = shared and root == layout.root.path
    follows = in_root and not (by_default and not root)
    where = LoaderPath.from_top(inside)
    base = LoaderPath.from_top()
    return Place(f"/{point}", directory, machine.top, where, base, in_root, follows)


def _device(path: str) -> int:
    try:
        return os.stat(path).st_dev
    except OSError as error:
        raise KernelError("access", path, error) from error


def _is_read(place: Place) -> bool:
    """Whether anything in it is for a boot loader."""
    marks = (ENTRIES, LOADER_CONF, *GRUB_CONFIGURATIONS)
    with files.opened(place.directory) as directory:
        return any(files.status_of(directory, mark) is not None for mark in marks)


def entry_files(tree: int) -> list[str]:
    """Return the paths of what lies among the boot entries of a tree (an open directory)."""
    return [
        f"{point}/{ENTRIES}/{name}"
        for point in POINTS
        for name in files.list_in_tree(tree, f"{point}/{ENTRIES}") or []
    ]


def entries_in(
    tree: int, folder: str, point: str = "", known: Optional[Mapping[str, str]] = None
) -> list[bls.BootEntry]:
    """Read the boot entries in a folder of an open directory; what is no entry is passed over.

    `point` is where the machine has what the folder is in ("/boot"), `known` are GRUB's variables.
    """
    found = []
    for name in files.list_in_tree(tree, folder) or []:
        if name.endswith(".conf"):
            text = files.read_in_tree(tree, f"{folder}/{name}") or ""
            found.append(bls.parse(f"{point}/{ENTRIES}/{name}", text, known or {}))
    return found


def read(place: Place, name: str) -> str | None:
    """Return a text file of a place, None if there is none."""
    with files.opened(place.directory) as directory:
        return files.read_in_tree(directory, name)


def sync(place: Place) -> None:
    """Bring the filesystem of a place to the disk, past its journal. Raises KernelError."""
    with files.opened(place.directory) as directory, kernel_errors("sync", place.point):
        syscalls.sync_for_loader(directory)


def path_of(machine: Host, where: str) -> str:
    """Return the path of what a plan names so, a LoaderPath as it is kept.

    A link that is there is not followed, and no other leads out of the filesystem of the root or
    the machine, which may be on a disk that somebody else has filled. Raises KernelError.
    """
    named = LoaderPath(where)
    tree = machine.top_fd if named.is_beside_root else machine.root_fd
    way, *missing = os.path.split(named.inside)
    while (real := files.real_path(tree, way or ".")) is None:
        way, name = os.path.split(way)
        missing.insert(0, name)
    # The top level that nobody sees has / as its path, any other tree its own.
    reached = os.path.relpath(real, files.real_path(tree, "."))
    start = machine.path(reached) if named.is_beside_root else os.path.join(machine.root, reached)
    # A link that leads nowhere in there may lead somewhere from here.
    is_dangling = len(missing) > 1 and os.path.lexists(os.path.join(start, missing[0]))
    is_inside = not is_dangling and ".." not in missing
    return os.path.join(start, *missing) if is_inside else f"{files.NO_PLACE}/{missing[-1]}"


def read_file(machine: Host, where: str) -> str | None:
    """Return a text file that a plan names, None if there is none."""
    directory, name = os.path.split(path_of(machine, where))
    if not os.path.isdir(directory):
        return None
    with files.opened(directory) as opened:
        return files.read_in_tree(opened, name)
