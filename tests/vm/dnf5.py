# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines with dnf 5 are made of: a newer system, in which there is no dnf 4.

The kernels and the initramfs are those of the other machines: no test here reads what differs.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable

from tests.sandbox.base import DNF5_SUITE

from .base import PREPARE, REACHED_BY, Base, system

_DNF5 = PREPARE.with_name("dnf5.sh")
_PACKAGES = (
    "dnf5", "rpm", "python3", "python3-btrfsutil", "python3-tabulate", "btrfs-progs", "systemd",
    "systemd-sysv", "udev", "kmod", "util-linux", "e2fsprogs", "dbus",
    "systemd-container", *REACHED_BY,
)  # fmt: skip


def dnf5_base(cache: Path, base: Base, *, say: Callable[[str], None]) -> Base:
    """Return the system, with the kernels of `base`; build it if it is not in the cache.

    Raises CalledProcessError when mmdebstrap fails, without the network for one.
    """
    path = system(cache, DNF5_SUITE, DNF5_SUITE, (_PACKAGES, (PREPARE, _DNF5)), say)
    return dataclasses.replace(base, tarball=path)
