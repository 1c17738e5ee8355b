# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk on which a conversion, or the way back from one, was cut off in its last moment."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from ...core.conversion.beginning import Saved, under_superblock
from ...core.conversion.ext4 import Superblock
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
    ext4, is_btrfs = facts.read_superblock(device), beginning.is_btrfs(device)
    may_be_another = ext4 is not None or kind == "ext4" or "PTTYPE" in found
    if is_btrfs and ext4 is None:
        return False
    if is_btrfs and not back:
        raise RefusedError(
            f"{device} is a btrfs of which a way back to ext4 has begun and was cut off",
            hint="'fs-rollback convert run --back' goes on with it.",
        )
    saves = beginning.named(device)
    if not saves and (
        beginning.has_superblock_of(device, spare.uuid)
        or (not may_be_another if ext4 is None else _is_torn(device, ext4))
    ):
        saves = beginning.looked_for(device, spare.uuid, say)
    if ext4 is None:
        _refuse_whole_btrfs(device, saves)
        saves = beginning.fitting(device, saves)
    unused = [saved for saved in saves if not _was_used(ext4, saved)]
    if is_btrfs and (unused or not saves):
        return False  # btrfs-convert(8) goes on
    try:
        done = _give_back(device, unused, saves, say)
        if not (done or may_be_another):
            raise Error(f"{device} has neither filesystem, and nothing that was saved of it fits")
    except RefusedError:
        raise
    except Error as error:
        raise UndoFailedError(str(error), commands=converter.by_hand(device, back=back)) from error
    return done


def _give_back(device: str, unused: Sequence[Saved], saves: Sequence[Saved], say: Say) -> bool:
    """Give back what was saved; False if nothing is missing. Raises Error if it is not whole then.

    To an ext4 that nobody has used since all of it: what else has changed was done by a mount that
    failed, or by an e2fsck(8) that saw the rest of it.
    """
    if unused:
        done = beginning.give_back(device, unused, say)
        wrong = e2fsck.look(device) if done else ""
    else:
        done = beginning.give_back_under_superblocks(device, saves, say)
        # What is in its journal is not in its place yet.
        wrong = e2fsck.repair(device) if done else ""
    if wrong:
        raise Error(f"{device} got back what was saved of it and is not whole: {wrong}")
    return done


def _was_used(ext4: Optional[Superblock], saved: Saved) -> bool:
    """Whether the ext4 was used since it was saved; it cannot have been without its superblock."""
    before = saved.superblock
    return ext4 is not None and before is not None and ext4.was_used_since(before)


def _is_torn(device: str, ext4: Superblock) -> bool:
    """Whether an ext4 does not even find what was prepared on it; its inodes may be overwritten."""
    return (
        not ext4.needs_recovery  # the kernel mounts no such for writing
        and not beginning.is_there(device, STATE_FILE)
        and bool(e2fsck.look(device))
    )


def _refuse_whole_btrfs(device: str, saves: Sequence[Saved]) -> None:
    """Raise RefusedError where only the first superblock of a finished btrfs is damaged.

    A conversion finishes the first one before the others, and with a whole one nothing is lost: a
    btrfs that was used for years looks like this when its disk has damaged a sector. One that was
    there before the conversion was saved, and is of an earlier life of the disk.
    """
    for place, (read, block) in beginning.superblocks(device).items():
        before = any(under_superblock(saved.extents, place) == block for saved in saves)
        if read.is_finished and read.is_whole is not False and not before:
            mirror = PLACES.index(place)
            raise RefusedError(
                f"the first superblock of the btrfs on {device} is damaged, and another is whole",
                hint=f"'btrfs rescue super-recover {device}' makes it whole again, or"
                f" 'btrfs-select-super -s {mirror} {device}'. If a way back to ext4 was cut off:"
                " then 'fs-rollback convert run --back' again.",
            )


def refuse_overwritten(device: str, root: str) -> None:
    """Raise RefusedError where a conversion has left a superblock in the ext4 that is the root.

    What was saved of that place is needed yet. Raises ProcessError without debugfs(8).
    """
    ext4 = facts.read_superblock(device)
    if ext4 is None:
        return
    saves = beginning.named(device)
    is_lost = not saves and os.path.lexists(os.path.join(root, beginning.FILE))
    if (is_lost and beginning.has_superblock_of(device, ext4.uuid)) or any(
        beginning.under_superblocks(device, saved) for saved in saves
    ):
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
    kind = devices.probe(device).get("TYPE", "")
    return kind in ("", "btrfs") and not beginning.is_btrfs(device)


def refuse_damaged(device: str) -> None:
    """Raise RefusedError if the first superblock of a btrfs is damaged."""
    if not beginning.is_btrfs(device):
        raise RefusedError(
            f"the superblock of the btrfs on {device} is damaged",
            hint=f"'btrfs rescue super-recover {device}' makes it whole again, if another one is."
            " If a way back to ext4 was cut off: 'fs-rollback convert run --back' goes on.",
        )
