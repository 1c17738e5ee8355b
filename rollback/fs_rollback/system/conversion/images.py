# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs of each kernel: where it lies, what is in it, and who makes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cmp_to_key
from typing import NamedTuple, Optional

from ...core.conversion.point import Kernel
from ...core.loaders import rpm_compare
from ...errors import ProcessError
from .. import files, kernels, process
from ..boot import Boot
from .machine import Ext4Machine

_NAMES = ("boot/initramfs-{}.img", "boot/initrd.img-{}", "boot/initrd-{}")
_LISTERS = ("lsinitrd", "lsinitramfs")
DRACUT_MODULE = "fs-rollback"
# What the one that converts is made of, with packaging/dracut: dracut(8) leaves a file out that it
# cannot copy, and says so only.
_CONVERTS = (
    "/encodings/", "/fs_rollback/system/conversion/running.py", "/btrfsutil",
    "bin/fs-rollback-convert", "bin/btrfs-convert", "bin/e2fsck",
)  # fmt: skip
_BUILDERS = ("dracut", "update-initramfs")


class Image(NamedTuple):
    """Whether an initramfs has btrfs, None where that cannot be known, and why it cannot.

    `missing` is what it lacks to convert: it is not asked for in any other.
    """

    has_btrfs: Optional[bool]
    reason: str = ""
    missing: tuple[str, ...] = ()


def kernels_of(machine: Ext4Machine, found: Optional[Boot]) -> tuple[Kernel, ...]:
    """Return the kernels of a machine, the oldest first, and what their initramfs has."""
    default = found.default.kernel if found and found.default else ""
    rows = []
    for version in kernels.with_modules(machine.root_fd):
        has_btrfs = not kernels.lacks_btrfs(machine.root_fd, version)
        path = path_of(machine, found, version)
        image = Image(None, "there is none")
        if is_built_in(machine, version):
            image = Image(has_btrfs=True)
        elif path:
            image = look_into(machine.root.rstrip("/") + path)
        rows.append(
            Kernel(version, has_btrfs, path, image.has_btrfs, image.reason, version == default)
        )
    return tuple(sorted(rows, key=cmp_to_key(_compare)))


def _compare(one: Kernel, other: Kernel) -> int:
    return rpm_compare(one.version, other.version)


def path_of(machine: Ext4Machine, found: Optional[Boot], version: str) -> str:
    """Return the path in the machine of a kernel's initramfs, "" where none is found.

    What its boot entry names counts, then the names that dracut and initramfs-tools give.
    """
    for path in _named_by_entries(machine, found, version) if found else ():
        return path
    for name in _NAMES:
        path = name.format(version)
        if files.status_of(machine.root_fd, path) is not None:
            return f"/{path}"
    return ""


def _named_by_entries(machine: Ext4Machine, found: Boot, version: str) -> Iterator[str]:
    for bootable in found.bootables:
        if bootable.kernel != version or bootable.of_snapshot:
            continue
        with files.opened(found.place_of(bootable).base) as base:
            path = files.real_path(base, bootable.initramfs) if bootable.initramfs else None
        if path is not None:
            yield "/" + os.path.relpath(path, machine.root)


def is_built_in(machine: Ext4Machine, version: str) -> bool:
    """Whether btrfs is in the kernel itself, so that no initramfs needs a module of it."""
    text = files.read_in_tree(machine.root_fd, f"usr/lib/modules/{version}/modules.builtin")
    return "/btrfs.ko" in (text or "")


def look_into(path: str) -> Image:
    """Return whether the initramfs at a path has btrfs, as its own tool lists it."""
    tool = next((tool for tool in _LISTERS if shutil.which(tool)), None)
    if tool is None:
        return Image(None, f"neither {' nor '.join(_LISTERS)} is here")
    try:
        names = process.run([tool, path])
    except ProcessError as error:
        return Image(None, str(error))
    if "/modules" not in names and "init" not in names:
        return Image(None, f"{tool} lists nothing in it")
    missing = tuple(path for path in _CONVERTS if path not in names)
    return Image("/btrfs.ko" in names, missing=missing)


def builder() -> str:
    """Return the program that makes an initramfs here, "" if there is none."""
    return next((program for program in _BUILDERS if shutil.which(program)), "")


def command(program: str, path: str, version: str, *, converts: bool) -> list[str]:
    """Return the arguments that make the initramfs of a kernel at a path.

    `converts`: with the module that converts, packaging/dracut. initramfs-tools has none.
    """
    if program == "dracut":
        extra = ["--add", DRACUT_MODULE] if converts else []
        return [program, "--force", "--quiet", *extra, path, version]
    return ["mkinitramfs", "-o", path, version]
