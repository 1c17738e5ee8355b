# SPDX-License-Identifier: GPL-2.0-or-later
"""Recognizes systems whose transactions need no snapshots."""

from __future__ import annotations

import os
from typing import NamedTuple

from . import host

# systemd.io/CONTAINER_INTERFACE, podman-run(1): the root of a container is not ours.
# Not Docker's /.dockerenv: an image of a machine that was made from a container may have it.
_CONTAINER_MARKS = (
    "run/systemd/container",
    "run/host/container-manager",
    "run/.containerenv",
)


class Unprotected(NamedTuple):
    """Why there is none and none is needed; a quiet reason is for debug logs only."""

    reason: str
    quiet: bool


def unprotected(root: str = "/") -> Unprotected | None:
    """Return why this machine's transactions have no snapshots, None if they have."""
    if os.path.exists(os.path.join(root, "run/ostree-booted")):
        return Unprotected(
            "this system was booted by ostree, which keeps its own deployments", True
        )
    if any(os.path.exists(os.path.join(root, path)) for path in _CONTAINER_MARKS):
        return Unprotected("this is a container", True)
    if not host.is_btrfs_root(root):
        if root == "/" and host.overlay_refusal(host.read_mounts()) is not None:
            said = "no snapshot: / is an overlay, and its changes are not in the machine's own root"
            return Unprotected(said, False)
        return Unprotected("/ is not a btrfs subvolume", True)
    if root == "/" and host.is_chroot():
        # An image that is being built, mostly. In a rescue system somebody should know.
        return Unprotected("no snapshot: this is a chroot, not the system that runs", False)
    return None
