# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines with SELinux are made of: the system of the others, with Debian's policy in it.

The kernels and the initramfs are those of the others. All files are labelled where a machine is
made, see disk.py.
"""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Callable

from tests.sandbox.base import built_once, debian_tarball, digest, os_release

from .base import PACKAGES, PREPARE, Base

_SELINUX = PREPARE.with_name("selinux.sh")
_PACKAGES = (*PACKAGES, "selinux-policy-default", "policycoreutils", "selinux-utils")


def selinux_base(cache: Path, base: Base, *, say: Callable[[str], None]) -> Base:
    """Return the system, with the kernels of `base`; build it if it is not in the cache.

    Raises CalledProcessError when mmdebstrap fails, without the network for one.
    """
    suite = os_release()["VERSION_CODENAME"]
    hooks = (PREPARE, _SELINUX)
    key = digest(_PACKAGES, *(hook.read_text() for hook in hooks), platform.machine())
    path = cache / f"vm-base-debian-{suite}-selinux-{key}.tar"
    with built_once(path) as unfinished:
        if unfinished is not None:
            say(f"building a system with SELinux, once, about a minute: {path}")
            debian_tarball(unfinished, suite, _PACKAGES, hooks=hooks)
    return dataclasses.replace(base, tarball=path)
