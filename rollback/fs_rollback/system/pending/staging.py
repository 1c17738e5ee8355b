# SPDX-License-Identifier: GPL-2.0-or-later
"""The directory in a new root where what is brought over is made, which only root can enter."""

from __future__ import annotations

import os

from ...core.formats.mountinfo import is_within
from ...core.rollback.operations import Operations
from ...core.rollback.steps import join
from ...core.snapshots.snapshot import STAGING
from ...errors import KernelError
from ..machine.host import Host


def make(host: Host, root: str, number: int) -> str:
    """Make a directory in it for one part, the same at each try; returns its path.

    Paths are from the top level. Raises KernelError.
    """
    for place in (join(root, STAGING), of(root, number)):
        try:
            os.mkdir(host.path(place), 0o700)
        except FileExistsError:  # an earlier try made it
            continue
        except OSError as error:
            raise KernelError("make", f"/{place}", error) from error
    return of(root, number)


def of(root: str, number: int) -> str:
    """Return the path of the directory for one part."""
    return join(root, f"{STAGING}/{number}")


def discard(host: Host, operations: Operations, root: str, path: str) -> None:
    """Remove a directory of the staging place with the subvolumes in it, if it is there."""
    place = join(root, path)
    if not os.path.lexists(host.path(place)):
        return
    host.forget()
    inside = sorted(s.path for s in host.subvolumes if is_within(s.path, place))
    for subvolume in inside:
        operations.delete(subvolume)
    operations.make_room(root, root, path)
    host.forget()
