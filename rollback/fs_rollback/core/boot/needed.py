# SPDX-License-Identifier: GPL-2.0-or-later
"""Where the files lie that a root's next boot depends on: those that `check` follows."""

from __future__ import annotations

from ..formats.mountinfo import is_within

# What a boot loader and the root's own start read, and what the next boot entry is made of. Paths
# from the root, without links: a distribution has /sbin and /lib in /usr, or has not.
_PLACES = (
    "boot",
    "efi",
    "etc/crypttab",
    "etc/default/grub",
    "etc/fstab",
    "etc/kernel",
    "lib/modules",
    "sbin/init",
    "usr/bin/init",
    "usr/lib/modules",
    "usr/lib/systemd/systemd",
    "usr/sbin/init",
)


def by_next_boot(path: str) -> bool:
    """Whether a path of a root (without a leading slash) is, or contains, such a file."""
    return any(is_within(path, place) or is_within(place, path) for place in _PLACES)
