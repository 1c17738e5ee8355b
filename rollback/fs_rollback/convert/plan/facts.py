# SPDX-License-Identifier: GPL-2.0-or-later
"""What is known of a root that may be converted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Optional

from ...core.boot.conversion_state import Stage
from ...core.formats.fstab import Entry
from ..disk.ext4 import Superblock
from ..disk.room import Room


class Initramfs(NamedTuple):
    """One initramfs: its path in the machine, and whether it has btrfs.

    `has_btrfs` is None where that cannot be known, and `reason` says why. `is_default`: it is that
    of the default entry.
    """

    path: str
    has_btrfs: Optional[bool] = None
    reason: str = ""
    is_default: bool = False


class Kernel(NamedTuple):
    """One kernel of the machine, and each initramfs that an entry starts it with.

    `is_built_in`: btrfs is in the kernel itself, so that it needs none.
    """

    version: str
    has_btrfs: bool
    images: tuple[Initramfs, ...] = ()
    is_default: bool = False
    is_built_in: bool = False

    @property
    def images_to_make(self) -> tuple[Initramfs, ...]:
        """Those that a preparation makes anew: without btrfs, as far as is known."""
        return tuple(i for i in self.images if not i.has_btrfs) if self.has_btrfs else ()


class Loader(NamedTuple):
    """Where kernels and boot entries lie, and what reads them.

    `on_root`: on the filesystem that is converted. `reads_btrfs` is None where that cannot be
    known; `grub_install` is the command that makes it sure, "" where there is none to give.
    """

    where: str
    name: str
    on_root: bool
    reads_btrfs: Optional[bool] = None
    grub_install: str = ""


class CommandLine(NamedTuple):
    """A kernel command line that no preparation changes, with something that only ext4 knows.

    `file` is a path in the machine; `variable` the one of GRUB's environment block that has it, ""
    where the file is none.
    """

    file: str
    variable: str
    text: str


class Contents(NamedTuple):
    """What was read of an ext4 behind its superblock.

    `users` is how many inodes use each feature that the superblock only allows. `bad_blocks` is how
    many blocks are listed as bad. `items_bytes` is what its files take as btrfs metadata. `room` is
    None where the blocks in use are not known, as in one that was cut off, or not counted one by
    one.
    """

    users: Mapping[str, int]
    bad_blocks: int
    items_bytes: int
    room: Optional[Room]


@dataclass(frozen=True)
class Volume:
    """What is known of a filesystem that may be converted.

    `spare` is the superblock in the second group of blocks, None if there is none. `contents` is
    None where they cannot be read, and `damage` says why. `progs` is the version of btrfs-progs,
    None where there are none. `at` is when it was looked at.
    """

    device: str
    fstype: str
    superblock: Optional[Superblock]
    spare: Optional[Superblock]
    contents: Optional[Contents]
    damage: str
    page_bytes: int
    is_mounted: bool
    free_bytes: int
    progs: Optional[tuple[int, ...]]
    at: datetime


@dataclass(frozen=True)
class Facts(Volume):
    """What is known of a machine with it as its root.

    `stage` is how far a conversion is that was prepared, None if none was. `inodes` is how many are
    in use, which the superblock of a mounted one does not know. `is_locked`: its device cannot be
    written to. `stack` is what that is made of, itself first. `names` are pairs: a place that names
    the root, and the name. `protected` is what chattr(1) keeps from being changed, of fstab and its
    directory. `root_options` are those of the root's line in fstab, None without one,
    `mounted_again` the other lines that mount it as ext4. `has_saved`: something has the name
    already that the old ext4 gets. `has_boot_code`: something is in front of the superblock.
    `lines_left` are to be changed by hand. `builder` is the program that makes an initramfs;
    `other_images` belong to entries of which it is not known whose kernel they start, as for
    rescue.
    """

    stage: Optional[Stage]
    inodes: int
    is_locked: bool
    stack: tuple[str, ...]
    names: tuple[tuple[str, str], ...]
    crypttab: tuple[str, ...]
    fstab_is_file: bool
    protected: tuple[str, ...]
    root_options: Optional[tuple[str, ...]]
    mounted_again: tuple[Entry, ...]
    swap_files: tuple[str, ...]
    has_saved: bool
    has_boot_code: bool
    loader: Loader
    lines_left: tuple[CommandLine, ...]
    kernels: tuple[Kernel, ...]
    other_images: tuple[Initramfs, ...]
    builder: str
    selinux: str
    distribution: Mapping[str, str]
    rotational: Optional[bool]
    backup: bool
