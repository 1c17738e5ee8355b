# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels: which have modules in a tree, which a loader can start, what the running one is told."""

from __future__ import annotations

import time

from ...errors import kernel_errors
from ..linux import files

# depmod(8) makes the first, the kernel's own package has the others.
_MARKS = ("modules.dep", "modules.builtin", "vmlinuz")
_RUNNING = "/proc/sys/kernel/osrelease"  # proc(5); what uname(2) says
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_BOOT_PREFIXES = ("vmlinuz-", "vmlinux-", "linux-")


def with_modules(tree: int) -> tuple[str, ...]:
    """Return the versions in usr/lib/modules of a tree (an open directory), sorted.

    A directory with nothing of a kernel is what a package that was removed has left behind.
    """
    names = files.list_in_tree(tree, "usr/lib/modules") or []
    return tuple(
        name
        for name in names
        if any(
            files.status_of(tree, f"usr/lib/modules/{name}/{file}") is not None for file in _MARKS
        )
    )


def that_fit(tree: int) -> tuple[str, ...]:
    """Return those of them that can have the tree as their root, which is on btrfs."""
    return tuple(version for version in with_modules(tree) if not lacks_btrfs(tree, version))


def lacks_btrfs(tree: int, version: str) -> bool:
    """Whether a kernel is known to have no btrfs, built in or as a module.

    Such a one is beside another on some machines: Red Hat's own on Oracle Linux.
    """
    folder = f"usr/lib/modules/{version}"
    if files.status_of(tree, f"{folder}/kernel/fs/btrfs") is not None:
        return False
    # modules.builtin(5), modules.dep(5): paths of all that are built in, of all that can be loaded.
    lists = [files.read_in_tree(tree, f"{folder}/modules.{name}") for name in ("builtin", "dep")]
    return all(text is not None and "/btrfs.ko" not in text for text in lists)


def running() -> str:
    """Return the version of the kernel that runs. Raises KernelError."""
    with kernel_errors("read", _RUNNING), open(_RUNNING, encoding="ascii") as file:
        return file.read().strip()


def boot_id() -> str:
    """Return the identity of this boot of the running kernel. Raises KernelError."""
    with kernel_errors("read", _BOOT_ID), open(_BOOT_ID, encoding="ascii") as file:
        return file.read().strip()


def boot_began_s() -> float:
    """Return when the running system was started, in seconds since 1970 by the clock of today."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def running_command_line() -> str:
    """Return the command line of the running kernel. Raises KernelError."""
    path, odd = "/proc/cmdline", "surrogateescape"
    with kernel_errors("read", path), open(path, encoding="utf-8", errors=odd) as file:
        return file.read()


def running_without_modules(tree: int) -> str:
    """Return the running kernel's version if a tree has modules, and none for it; else ""."""
    found, version = with_modules(tree), running()
    return version if found and version not in found else ""


def in_boot(tree: int) -> tuple[str, ...]:
    """Return the versions whose kernel image lies in /boot of a tree, rescue images aside."""
    names = files.list_in_tree(tree, "boot") or []
    versions = (
        name[len(prefix) :]
        for name in names
        for prefix in _BOOT_PREFIXES
        if name.startswith(prefix)
    )
    return tuple(sorted({version for version in versions if "rescue" not in version}))
