# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk on which a conversion, or the way back from one, was cut off in its last moment."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.conversion.beginning import Extent, under_superblock
from ...core.conversion.preparation import STATE_FILE
from ...core.conversion.superblock import PLACES
from ...errors import Error, RefusedError, UndoFailedError
from .. import devices
from ..process import Say
from . import beginning, converter, e2fsck, facts


def mend(device: str, say: Say, *, back: bool = False) -> bool:
    """Make it the ext4 again that it was; False if it is no such disk, and nothing is written.

    It has neither filesystem then, or both, or an ext4 of which some is overwritten; for somebody
    who wants to go `back`, a btrfs with a damaged superblock too. What was saved of it is given
    back: e2fsck(8) would call it whole with a file that is not. To an ext4 that was used since only
    what no use can have changed. Raises RefusedError where a btrfs can be had back, UndoFailedError
    where nothing fits.
    """
    found, spare = devices.probe(device), facts.read_spare_superblock(device)
    kind = found.get("TYPE", "")
    if spare is None or kind not in ("", "ext4", "btrfs") or (kind == "btrfs" and not back):
        return False
    has_ext4 = kind == "ext4" or facts.read_superblock(device) is not None
    is_btrfs = beginning.is_btrfs(device)
    if is_btrfs and not has_ext4:
        return False
    saves = beginning.named(device, spare.uuid)
    if is_btrfs and not beginning.was_used(device, saves):
        if not back:
            raise RefusedError(
                f"{device} is a btrfs of which a way back to ext4 has begun and was cut off",
                hint="'fs-rollback convert run --back' goes on with it.",
            )
        return False
    may_be_another = has_ext4 or "PTTYPE" in found
    if not saves and (_is_torn_ext4(device) if has_ext4 else not may_be_another):
        saves = beginning.looked_for(device, spare.uuid, say)
    if not has_ext4:
        _refuse_whole_btrfs(device, saves)
    is_used = False
    try:
        done = beginning.give_back(device, saves, say)
    except Error as error:
        raise UndoFailedError(str(error), commands=converter.by_hand(device)) from error
    if not done and has_ext4 and len(saves) == 1:
        is_used = beginning.give_back_under_superblocks(device, spare.uuid, saves[0], say)
        done = is_used
    if not done:
        if may_be_another:
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


def _is_torn_ext4(device: str) -> bool:
    """Whether an ext4 does not even find what was prepared on it; its inodes may be overwritten."""
    return not beginning.is_there(device, STATE_FILE) and bool(e2fsck.look(device))


def _refuse_whole_btrfs(device: str, saves: Sequence[Sequence[Extent]]) -> None:
    """Raise RefusedError where only the first superblock of a finished btrfs is damaged.

    A conversion finishes the first one before the others, and with a whole one nothing is lost: a
    btrfs that was used for years looks like this when its disk has damaged a sector. One that was
    there before the conversion was saved, and is of an earlier life of the disk.
    """
    for place, (read, block) in beginning.superblocks(device).items():
        before = any(under_superblock(saved, place) == block for saved in saves)
        if read.is_finished and read.is_whole is not False and not before:
            mirror = PLACES.index(place)
            raise RefusedError(
                f"the first superblock of the btrfs on {device} is damaged, and another is whole",
                hint=f"'btrfs rescue super-recover {device}' makes it whole again, or"
                f" 'btrfs-select-super -s {mirror} {device}'. If a way back to ext4 was cut off:"
                " then 'fs-rollback convert run --back' again.",
            )


def refuse_overwritten(device: str) -> None:
    """Raise RefusedError where a conversion has left a superblock in an ext4 that is in use.

    What was saved of that place is needed yet.
    """
    ext4 = facts.read_superblock(device)
    if ext4 is None:
        return
    saves = beginning.named(device, ext4.uuid)
    if any(beginning.overwritten(device, ext4.uuid, saved) for saved in saves):
        raise RefusedError(
            f"a conversion or a way back was cut off, and some of {device} is overwritten yet",
            hint=f"From a rescue system: 'fs-rollback convert run --back --device"
            f" UUID={ext4.uuid}' gives it back. Then abort.",
        )


def advice(device: str) -> str:
    """Return what to do with a disk that may have been cut off, "" if there is no sign of that."""
    if devices.probe(device) or facts.read_spare_superblock(device) is None:
        return ""
    back = " --back" * beginning.is_btrfs(device)
    return (
        f"There was an ext4. If a conversion was cut off: 'fs-rollback convert run{back} --device"
        f" {device}' gives back what it saved, and goes on."
    )


def is_damaged(device: str) -> bool:
    """Whether a device has neither an ext4 nor a whole btrfs, and is given back an old ext4."""
    return devices.probe(device).get("TYPE") != "ext4" and not beginning.is_btrfs(device)


def refuse_damaged(device: str) -> None:
    """Raise RefusedError if the first superblock of a btrfs is damaged."""
    if not beginning.is_btrfs(device):
        raise RefusedError(
            f"the superblock of the btrfs on {device} is damaged",
            hint=f"'btrfs rescue super-recover {device}' makes it whole again, if another one is."
            " If a way back to ext4 was cut off: 'fs-rollback convert run --back' goes on.",
        )
