# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels: which have modules in a tree, which the boot loader can start."""

from __future__ import annotations

from ..errors import kernel_errors
from . import files

# depmod(8) makes the first, the kernel's own package has the others.
_MARKS = ("modules.dep", "modules.builtin", "vmlinuz")
_RUNNING = "/proc/sys/kernel/osrelease"  # proc(5); what uname(2) says
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


def running() -> str:
    """Return the version of the kernel that runs. Raises KernelError."""
    with kernel_errors("read", _RUNNING), open(_RUNNING, encoding="ascii") as file:
        return file.read().strip()


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
