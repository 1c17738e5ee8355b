# SPDX-License-Identifier: GPL-2.0-or-later
"""The initramfs of each kernel: where it lies, what is in it, and who makes it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from functools import cmp_to_key
from typing import NamedTuple, Optional

from ...core.boot.entries import Bootable
from ...core.packages.versions import rpm_compare
from ...errors import ProcessError
from ...system.linux import files, process
from ...system.loader.entries import Boot
from ...system.machine import kernels
from ...system.machine.host import Host
from ..plan import edits
from ..plan.facts import Initramfs, Kernel
from .machine import Ext4Machine

_NAMES = ("boot/initramfs-{}.img", "boot/initrd.img-{}", "boot/initrd-{}")
_LISTERS = ("lsinitrd", "lsinitramfs")
DRACUT_MODULE = "fs-rollback"
# What the one that converts is made of, with packaging/dracut: dracut(8) leaves a file out that it
# cannot copy, and says so only.
_CONVERTS = (
    "/encodings/", "/fs_rollback/convert/run/convert.py", "/btrfsutil",
    "bin/fs-rollback-convert", "bin/btrfs-convert", "bin/e2fsck",
)  # fmt: skip
_OWN_COMMAND_LINE = re.compile(r"\betc/cmdline\.d/\S+\.conf$", re.MULTILINE)
_BUILDERS = ("dracut", "update-initramfs")


class Image(NamedTuple):
    """Whether an initramfs has btrfs, None where that cannot be known, and why it cannot.

    `missing` is what it lacks to convert: it is not asked for in any other. `words` are of its own
    command line, dracut.cmdline(7), and keep a btrfs from being mounted.
    """

    has_btrfs: Optional[bool]
    reason: str = ""
    missing: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


def of_system(found: Optional[Boot]) -> tuple[Bootable, ...]:
    """Return the boot entries that may start this system, the default one first.

    One with the UUID of another filesystem boots another system.
    """
    bootables = found.bootables if found else ()
    default = found.default if found else None
    mine = [b for b in bootables if b.ours or "root=UUID=" not in b.entry.options]
    usual = [b for b in mine if not b.of_snapshot and not b.converts]
    return tuple(sorted(usual, key=lambda bootable: bootable != default))


def kernels_of(machine: Ext4Machine, found: Optional[Boot]) -> tuple[Kernel, ...]:
    """Return the kernels of a machine, the oldest first, and what each initramfs of them has.

    What boot entries name counts, then the names that dracut and initramfs-tools give; but what the
    default entry does not name is not there when it boots.
    """
    default = found.default if found else None
    named = _named_by_entries(machine, found)
    rows = []
    for version in kernels.with_modules(machine.root_fd):
        built_in = is_built_in(machine, version)
        is_default = default is not None and default.kernel == version
        pairs = named.get(version) or _by_name(machine, version)
        if is_default and True not in pairs.values():
            pairs = {}
        rows.append(
            Kernel(
                version,
                not kernels.lacks_btrfs(machine.root_fd, version),
                tuple(_initramfs(machine, *pair, built_in=built_in) for pair in pairs.items()),
                is_default,
                built_in,
            )
        )
    return tuple(sorted(rows, key=cmp_to_key(_compare)))


def others_of(machine: Ext4Machine, found: Optional[Boot]) -> tuple[Initramfs, ...]:
    """Return what entries name that start no kernel with modules here, as for rescue."""
    named = _named_by_entries(machine, found)
    known = kernels.with_modules(machine.root_fd)
    theirs = {path for version in known for path in named.get(version, {})}
    others = {p: d for version in named.keys() - {*known} for p, d in named[version].items()}
    return tuple(_initramfs(machine, p, others[p]) for p in sorted(others.keys() - theirs))


def _compare(one: Kernel, other: Kernel) -> int:
    return rpm_compare(one.version, other.version)


def _initramfs(
    machine: Ext4Machine, path: str, is_default: bool, *, built_in: bool = False
) -> Initramfs:
    image = Image(has_btrfs=True) if built_in else look_into(machine.root.rstrip("/") + path)
    return Initramfs(path, image.has_btrfs, image.reason, is_default)


def _named_by_entries(machine: Ext4Machine, found: Optional[Boot]) -> dict[str, dict[str, bool]]:
    """Return, for each kernel, the paths that its entries name; whether the default one does."""
    named: dict[str, dict[str, bool]] = {}
    for bootable in of_system(found):
        if found is None or not bootable.initramfs:
            continue
        with files.opened(found.place_of(bootable).base) as base:
            real = files.real_path(base, bootable.initramfs)
        if real is not None:
            paths = named.setdefault(bootable.kernel, {})
            paths.setdefault("/" + os.path.relpath(real, machine.root), bootable == found.default)
    return named


def _by_name(machine: Ext4Machine, version: str) -> dict[str, bool]:
    found = (files.real_path(machine.root_fd, name.format(version)) for name in _NAMES)
    there = [f"/{os.path.relpath(path, machine.root)}" for path in found if path is not None]
    return dict.fromkeys(there[:1], False)


def is_built_in(machine: Host, version: str) -> bool:
    """Whether btrfs is in the kernel itself, so that no initramfs needs a module of it."""
    text = files.read_in_tree(machine.root_fd, f"usr/lib/modules/{version}/modules.builtin")
    return "/btrfs.ko" in (text or "")


def look_into(path: str) -> Image:
    """Return whether the initramfs at a path has btrfs, as its own tool lists it."""
    tool = next((tool for tool in _LISTERS if shutil.which(tool)), None)
    if tool is None:
        return Image(None, f"neither {' nor '.join(_LISTERS)} is installed")
    try:
        names = process.run([tool, path])
        words = tuple(_own_words(tool, path, names))
    except ProcessError as error:  # said as unknown, with the reason
        return Image(None, str(error))
    if "/modules" not in names and "init" not in names:
        return Image(None, f"{tool} lists nothing in it")
    if words:  # unlike one without btrfs it may do where the boot entry says more
        return Image(None, f"it contains {' '.join(words)} itself", words=words)
    missing = tuple(path for path in _CONVERTS if path not in names)
    return Image("/btrfs.ko" in names, missing=missing)


def _own_words(tool: str, path: str, names: str) -> Iterator[str]:
    """Give what only ext4 knows in the command line that dracut has put into an initramfs.

    Raises ProcessError.
    """
    for name in _OWN_COMMAND_LINE.findall(names) if tool == "lsinitrd" else ():
        yield from edits.ext4_words(" ".join(process.run([tool, "-f", name, path]).split()))


def builder() -> str:
    """Return the program that makes an initramfs here, "" if there is none."""
    return next((program for program in _BUILDERS if shutil.which(program)), "")


def command(machine: Host, path: str, version: str, *, converts: bool) -> list[str]:
    """Return the arguments that make the initramfs of a machine's kernel at a path.

    `converts`: with the module that converts, packaging/dracut. initramfs-tools has none.
    """
    program = builder()
    if program != "dracut":
        return ["mkinitramfs", "-o", path, version]
    extra = ["--add", DRACUT_MODULE] if converts else []
    # What runs here says nothing of another machine: neither its files nor what it needs.
    if machine.root != "/":
        extra += ["--sysroot", machine.root]
    if not machine.is_running:
        extra.append("--no-hostonly")
    return [program, "--force", "--quiet", *extra, path, version]
