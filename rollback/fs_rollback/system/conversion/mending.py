# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk on which a conversion, or the way back from one, was cut off in its last moment."""

from __future__ import annotations

from ...errors import Error, UndoFailedError
from .. import devices, process
from ..process import Say
from . import beginning, converter, facts


def mend(device: str, say: Say) -> bool:
    """Make it the ext4 again that it was; False if it is no such disk, and nothing is written.

    It has neither filesystem then, or both, or an ext4 with errors that was unmounted cleanly. What
    was saved of it is given back: e2fsck(8) would call it whole with a file that is not. Raises
    UndoFailedError where nothing fits.
    """
    kind = devices.probe(device).get("TYPE", "")
    if not _may_be_cut_off(device, kind):
        return False
    surely = kind != "ext4" or beginning.is_unfinished(device)
    spare = facts.read_spare_superblock(device)
    try:
        # One that may only be damaged is not looked through for what users may have put there.
        done = beginning.give_back(device, spare.uuid if spare else None, say, scan=surely)
    except Error as error:
        raise UndoFailedError(str(error), commands=converter.by_hand(device)) from error
    if not done:
        if not surely:
            return False
        raise UndoFailedError(
            f"{device} is neither a whole ext4 nor a btrfs, and nothing that was saved of it fits",
            commands=converter.by_hand(device),
        )
    code, last = process.watch(["e2fsck", "-f", "-n", device])
    if code:
        raise UndoFailedError(
            f"{device} got back what was saved of it and is not whole: {last}",
            commands=converter.by_hand(device),
        )
    return True


def _may_be_cut_off(device: str, kind: str) -> bool:
    if kind == "ext4":
        superblock = facts.read_superblock(device)
        if superblock is None or beginning.is_unfinished(device):
            return True
        return superblock.is_clean and process.watch(["e2fsck", "-f", "-n", device])[0] != 0
    has_traces = beginning.may_be_btrfs(device) or facts.read_spare_superblock(device) is not None
    return not kind and has_traces
