# SPDX-License-Identifier: GPL-2.0-or-later
"""The old root that lies in the top level itself: its place is cleared without a rename."""

from __future__ import annotations

import os

from ...core.snapshots.snapshot import STORE
from ...errors import KernelError
from ..linux import removal
from ..machine.host import Host

# GRUB reads /boot by path from the top level, whatever the default subvolume is.
_STAYS = frozenset((STORE, "boot"))


def reclaim_top_level(host: Host) -> None:
    """Remove an old root that lies in the top level itself.

    The store, subvolumes wherever they are (with the directories above them) and /boot, which a
    boot loader may read there, stay. May run again after it was cut off. Raises KernelError.
    """
    try:
        with os.scandir(host.top) as entries:
            for entry in list(entries):
                if entry.name not in _STAYS:
                    removal.remove(entry.path)
    except OSError as error:
        raise KernelError("reclaim the old root in", "the top level", error) from error
