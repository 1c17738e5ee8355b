# SPDX-License-Identifier: GPL-2.0-or-later
"""What was prepared on a filesystem and how far it is, as it stands there."""

from __future__ import annotations

import os
from typing import Optional

from ...core.conversion import edits
from ...core.conversion.preparation import (
    DIRECTORY,
    FSTAB,
    NEW_FSTAB,
    STATE_FILE,
    NewerPreparationError,
    Preparation,
    PreparationError,
    dump,
    parse,
)
from ...core.conversion.steps import KEPT_SUFFIX
from ...errors import StoreError
from .. import files
from .operations import write_file

# The initramfs that converts, beside the others.
CONVERTER = "initramfs-fs-rollback-convert.img"
# What was written starts either filesystem: that of it which is left does no harm.
_BY_HAND = (
    f"It is damaged. By hand, where the root is ext4: give each *{KEPT_SUFFIX} in /boot its old"
    f" name, remove the boot entry *fs-convert.conf, {CONVERTER}, and /{edits.DRACUT_CONF} or"
    f" /{edits.INITRAMFS_TOOLS_HOOK}; where it is btrfs: move /{NEW_FSTAB}, if it is there, to"
    f" /{FSTAB}. Then remove /{DIRECTORY}."
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
    except PreparationError as error:
        newer = isinstance(error, NewerPreparationError)
        raise StoreError(
            f"/{STATE_FILE} cannot be read: {error}",
            hint="A newer fs-rollback has written it: update this one." if newer else _BY_HAND,
        ) from error


def write(root: str, preparation: Preparation) -> None:
    """Write down how far a machine is, durably. Raises KernelError."""
    write_file(os.path.join(root, STATE_FILE), dump(preparation), 0o600)
