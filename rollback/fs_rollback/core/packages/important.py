# SPDX-License-Identifier: GPL-2.0-or-later
"""Which packages a machine cannot start without: named first, their snapshots kept longer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from ..snapshots.record import PackageChange

# In the order in which a person wants to read them. The packages that are built from the same
# source have the same version, so of glibc and systemd only the ones that every machine has.
GROUPS = ("kernel", "glibc", "systemd", "boot loader")
CONFIGURED = "configured"
_GLIBC = ("glibc", "glibc-common")
_SYSTEMD = ("systemd", "systemd-libs", "systemd-shared", "systemd-udev", "systemd-pam")
_BOOT_LOADERS = ("grub2-", "systemd-boot-", "shim-")
_BEGINNINGS = ("kernel", "glibc", "systemd", "grub2", "shim")
# Fedora's and EL's kernels, and the variants of Oracle (uek), CentOS and ELRepo: what boots, and
# neither what only builds modules nor tools: kernel-headers, kernel-uek-devel, kernel-rt-tools.
_KERNEL = re.compile(r"kernel(-[a-z0-9]+)*")
_NO_KERNEL = {
    *("abi", "container", "cross", "debuginfo", "devel", "doc", "headers", "macros", "selftests"),
    *("srpm", "tools", "whitelists"),
}


def group(name: str, configured: Sequence[str] = ()) -> str:
    """Return which of GROUPS a package is of, CONFIGURED for one of those patterns, or ""."""
    if name.startswith(_BEGINNINGS):  # the others are most: a record can have thousands
        if _KERNEL.fullmatch(name) and _NO_KERNEL.isdisjoint(name.split("-")):
            return GROUPS[0]
        if name in _GLIBC:
            return GROUPS[1]
        if name in _SYSTEMD:
            return GROUPS[2]
        if f"{name}-".startswith(_BOOT_LOADERS):
            return GROUPS[3]
    if configured and any(fnmatchcase(name, pattern) for pattern in configured):
        return CONFIGURED
    return ""


def important(
    changes: Iterable[PackageChange], configured: Sequence[str] = ()
) -> tuple[PackageChange, ...]:
    """Return the changes of important packages, in the order of their groups and then by name.

    `configured` are names and patterns, as a shell has them, of more packages: they come last.
    """
    order = (*GROUPS, CONFIGURED)
    found = [(group(change.name, configured), change) for change in changes]
    # That a package is wanted by itself from now on changes nothing in it.
    touched = [(order.index(of), c) for of, c in found if of and c.action != "reason"]
    return tuple(c for _, c in sorted(touched, key=lambda row: (row[0], row[1].name, row[1].arch)))
