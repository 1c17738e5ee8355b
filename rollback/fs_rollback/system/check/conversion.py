# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether this root came from ext4 by a conversion that is unfinished; the wing finishes it."""

from __future__ import annotations

import os

from ...core.boot.conversion_state import (
    NEW_FSTAB,
    STATE_FILE,
    ConversionStateError,
    NewerConversionStateError,
    Stage,
    parse,
)
from ...errors import StoreError
from ..linux import files
from ..machine.host import Host

_NEWER = "A newer fs-rollback wrote it: update fs-rollback."


def is_unfinished(host: Host) -> bool:
    """Whether the machine was converted and the last tasks of that are still to be done.

    Raises StoreError if that cannot be read.
    """
    text = files.read_in_tree(host.top_fd, STATE_FILE)
    if text is None:
        return False
    try:
        return is_behind(host, parse(text)[0])
    except ConversionStateError as error:
        raise unreadable(error) from error


def is_behind(host: Host, stage: Stage) -> bool:
    """Whether a machine that runs from btrfs has reached this stage with the conversion done."""
    if stage is Stage.PREPARING:
        return False
    # By hand, as the rescue sheet says, nobody wrote down that it is done.
    return stage is Stage.CONVERTED or not os.path.lexists(host.path(NEW_FSTAB))


def unreadable(error: ConversionStateError, by_hand: str = "") -> StoreError:
    """Return the error for a file that cannot be read, with what to do about it."""
    hint = _NEWER if isinstance(error, NewerConversionStateError) else by_hand
    return StoreError(f"/{STATE_FILE} cannot be read: {error}", hint=hint)
