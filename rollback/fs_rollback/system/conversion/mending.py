# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk on which a conversion, or the way back from one, was cut off in its last moment."""

from __future__ import annotations

import re

from ...errors import Error, RefusedError, UndoFailedError
from .. import devices, process
from ..process import Say
from . import beginning, converter, e2fsck, facts


def mend(device: str, say: Say, *, back: bool = False) -> bool:
    """Make it the ext4 again that it was; False if it is no such disk, and nothing is written.

    It has neither filesystem then, or both, or an ext4 of which some is overwritten; for somebody
    who wants to go `back`, a btrfs with a damaged superblock too. What was saved of it is given
    back: e2fsck(8) would call it whole with a file that is not. To an ext4 that was used since only
    what no use can have changed. Raises UndoFailedError where nothing fits.
    """
    found, spare = devices.probe(device), facts.read_spare_superblock(device)
    kind = found.get("TYPE", "")
    is_disk = not kind and "PTTYPE" in found
    # A btrfs in use is not made an older ext4 unasked, even if its disk has damaged it.
    is_torn = back and kind == "btrfs" and _is_torn(device)
    if spare is None or is_disk or not (kind in ("", "ext4") or is_torn):
        return False
    is_used = False
    try:
        # An ext4, which may be whole, is not looked through for what users may have put there.
        done = beginning.give_back(device, spare.uuid, say, scan=kind != "ext4")
        if not done and kind == "ext4":
            is_used = done = beginning.give_back_under_superblocks(device, spare.uuid, say)
    except Error as error:
        raise UndoFailedError(str(error), commands=converter.by_hand(device)) from error
    if not done:
        if kind == "ext4":
            return False
        raise UndoFailedError(
            f"{device} is neither a whole ext4 nor a btrfs, and nothing that was saved of it fits",
            commands=converter.by_hand(device),
        )
    # What an ext4 that was used has in its journal is not in its place yet.
    wrong = e2fsck.repair(device) if is_used else e2fsck.look(device)
    if wrong:
        raise UndoFailedError(
            f"{device} got back what was saved of it and is not whole: {wrong}",
            commands=converter.by_hand(device),
        )
    return True


def advice(device: str) -> str:
    """Return what to do with a disk that may have been cut off, "" if there is no sign of that."""
    if devices.probe(device) or facts.read_spare_superblock(device) is None:
        return ""
    return (
        f"There was an ext4. If a conversion was cut off: 'fs-rollback convert run --device"
        f" {device}' gives back what it saved, and goes on."
    )


def is_damaged(device: str) -> bool:
    """Whether a btrfs has a superblock that was written in part. Raises ProcessError."""
    return devices.probe(device).get("TYPE") == "btrfs" and _is_torn(device)


def _is_torn(device: str) -> bool:
    said = process.run(["btrfs", "inspect-internal", "dump-super", device])
    return re.search(r"^csum\s.*\[match\]$", said, re.MULTILINE) is None


def refuse_damaged(device: str) -> None:
    """Raise RefusedError if that of a btrfs is."""
    if _is_torn(device):
        raise RefusedError(
            f"the superblock of the btrfs on {device} is damaged",
            hint="If a way back to ext4 was cut off: 'fs-rollback convert run --back' goes on."
            f" Else: 'btrfs rescue super-recover {device}'.",
        )
