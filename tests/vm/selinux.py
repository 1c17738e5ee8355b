# SPDX-License-Identifier: GPL-2.0-or-later
"""What machines with SELinux are made of: the system of the others, with Debian's policy in it.

The kernels and the initramfs are those of the others. All files are labelled where a machine is
made, see disk.py.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Callable

from tests.sandbox.base import os_release

from .base import PACKAGES, PREPARE, Base, system

_SELINUX = PREPARE.with_name("selinux.sh")
_PACKAGES = (*PACKAGES, "selinux-policy-default", "policycoreutils", "selinux-utils")


def selinux_base(cache: Path, base: Base, *, say: Callable[[str], None]) -> Base:
    """Return the system, with the kernels of `base`; build it if it is not in the cache.

    Raises CalledProcessError when mmdebstrap fails, without the network for one.
    """
    suite = os_release()["VERSION_CODENAME"]
    recipe = (_PACKAGES, (PREPARE, _SELINUX))
    path = system(cache, f"{suite}-selinux", suite, recipe, say)
    return dataclasses.replace(base, tarball=path)
