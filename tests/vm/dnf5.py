# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines with dnf 5 are made of: a newer system, in which there is no dnf 4.

The kernels and the initramfs are those of the other machines: no test here reads what differs.
"""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Callable

from tests.sandbox.base import DNF5_SUITE, built_once, debian_tarball, digest

from .base import PREPARE, REACHED_BY, Base

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
    hooks = (PREPARE, _DNF5)
    key = digest(_PACKAGES, *(hook.read_text() for hook in hooks), platform.machine())
    path = cache / f"vm-base-debian-{DNF5_SUITE}-{key}.tar"
    with built_once(path) as unfinished:
        if unfinished is not None:
            say(f"building a system with dnf 5 that boots, once, about a minute: {path}")
            debian_tarball(unfinished, DNF5_SUITE, _PACKAGES, hooks=hooks)
    return dataclasses.replace(base, tarball=path)
