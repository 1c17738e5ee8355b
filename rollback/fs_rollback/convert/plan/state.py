# SPDX-License-Identifier: GPL-2.0-or-later
"""What was prepared on a filesystem and how far it is, as it stands there."""

from __future__ import annotations

import os
from typing import Optional

from ...core.boot.conversion_state import DIRECTORY, NEW_FSTAB, STATE_FILE, ConversionStateError
from ...system.check.conversion import unreadable
from ...system.linux import files
from ...system.linux.durable import write_file
from . import edits
from .plan import FSTAB, Preparation, dump, parse
from .steps import KEPT_SUFFIX

# The initramfs that converts, beside the others.
CONVERTER = "initramfs-fs-rollback-convert.img"
# What was written starts either filesystem: that of it which is left does no harm.
_BY_HAND = (
    f"It is damaged. Clean up by hand. If the root is ext4: give each *{KEPT_SUFFIX} in /boot its"
    f" old name, remove the boot entry *fs-convert.conf, {CONVERTER}, and /{edits.DRACUT_CONF} or"
    f" /{edits.INITRAMFS_TOOLS_HOOK}. If it is btrfs: move /{NEW_FSTAB}, if it exists, to /{FSTAB}."
    f" Then remove /{DIRECTORY}."
)


def read(root: str) -> Optional[Preparation]:
    """Return what was prepared on the filesystem mounted at `root`, None if nothing.

    Raises StoreError where that cannot be read.
    """
    with files.opened(root) as tree:
        text = files.read_in_tree(tree, STATE_FILE)
    if text is None:
        return None
    try:
        return parse(text)
    except ConversionStateError as error:
        raise unreadable(error, _BY_HAND) from error


def write(root: str, preparation: Preparation) -> None:
    """Write down how far a machine is, durably. Raises KernelError."""
    write_file(os.path.join(root, STATE_FILE), dump(preparation), 0o600)
