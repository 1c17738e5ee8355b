# SPDX-License-Identifier: GPL-2.0-or-later
"""Repairs a disk on which a conversion, or the way back, was interrupted in its last moment."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Optional

from ...core.boot.conversion_state import STATE_FILE
from ...errors import Error, RefusedError, UndoFailedError
from ...system.linux import devices
from ...system.linux.process import Say
from ..disk import btrfs_convert, e2fsck
from ..disk.btrfs_superblock import PLACES
from ..disk.ext4 import Superblock
from ..machine import contents
from . import saved as torn_saved
from .pieces import Extent, Saved, under_superblock


def mend(device: str, say: Say, *, back: bool = False) -> bool:
    """Restore the ext4 that it was; False, with nothing written, if it is not such a disk.

    It has neither filesystem then, or an ext4 of which some is overwritten; for somebody who wants
    to go `back`, a btrfs with a damaged superblock too. What was saved of it is given back:
    e2fsck(8) would call it whole with a file that is not. Raises RefusedError where a btrfs can be
    had back, or what is overwritten is lost; UndoFailedError where nothing makes it whole.
    """
    found, spare = devices.probe(device), contents.spare_superblock(device)
    kind = found.get("TYPE", "")
    if spare is None or kind not in ("", "ext4", "btrfs") or (kind == "btrfs" and not back):
        return False
    ext4 = contents.superblock(device)
    if torn_saved.is_btrfs(device):
        if ext4 is None or back:
            return False  # go_on_back() sees to it
        raise RefusedError(
            f"a return to ext4 was interrupted on {device}, which is still btrfs",
            hint="'fs-rollback convert run --back' continues it.",
        )
    may_be_another = ext4 is not None or kind == "ext4" or "PTTYPE" in found
    saves = torn_saved.named(device)
    if not saves and (
        torn_saved.superblocks_of(device, spare.uuid)
        or (not may_be_another if ext4 is None else _is_torn(device, ext4))
    ):
        saves = torn_saved.looked_for(device, spare.uuid, say)
    if ext4 is None:
        _refuse_whole_btrfs(device, saves)
    elif not saves:
        _refuse_unsaved(device, ext4)
    with _needing_hands(device, back=back):
        done = _give_back_all(device, saves, say)
        if not done and ext4 is not None:
            done = _give_back_missing(device, saves, say)
        if not (done or may_be_another):
            raise Error(f"{device} has neither filesystem, and no saved data fits it")
    return done


def go_on_back(device: str, say: Say) -> bool:
    """Finish a way back that left a whole btrfs and an ext4; False if btrfs-convert(8) has to.

    The ext4 may have been used since: that would make an old one of it. Raises RefusedError and
    UndoFailedError as above.
    """
    ext4 = contents.superblock(device)
    if ext4 is None or not torn_saved.is_btrfs(device):
        return False
    saves = torn_saved.named(device) or torn_saved.looked_for(device, ext4.uuid, say)
    with _needing_hands(device, back=True):
        try:
            return _give_back_missing(device, saves, say)
        except _NotWholeError:  # it is as it was found: btrfs-convert(8) has to
            return False


class _NotWholeError(Error):
    """Nothing makes it whole; it was left as it was found."""


@contextmanager
def _needing_hands(device: str, *, back: bool) -> Iterator[None]:
    try:
        yield
    except RefusedError:
        raise
    except Error as error:
        raise UndoFailedError(
            str(error), commands=btrfs_convert.by_hand(device, back=back)
        ) from error


def _give_back_all(device: str, saves: Sequence[Saved], say: Say) -> bool:
    """Give back all that was saved, where nothing else has written since; False if it is no such.

    Raises Error if that is not whole then: it was damaged before.
    """
    saved = _only(device, torn_saved.fitting(device, saves))
    if saved is None:
        return False
    say(f"restoring the saved blocks of {device}")
    torn_saved.write(device, saved.extents)
    wrong = e2fsck.look(device)
    if wrong:
        raise Error(f"the saved blocks of {device} were restored, but it is damaged: {wrong}")
    return True


def _give_back_missing(device: str, saves: Sequence[Saved], say: Say) -> bool:
    """Give back what is missing in an ext4 to which something has written since; False if nothing.

    It may have been used: then only what a conversion has certainly overwritten. Or a mount that
    failed, or an e2fsck(8) that did not see the rest of it, has written to it: then all. What does
    not make it whole is taken away again; raises Error where nothing does.
    """
    saved = _only(device, torn_saved.with_traces(device, saves))
    ext4 = contents.superblock(device)
    if saved is None or ext4 is None:
        return False
    before = saved.superblock
    is_used = ext4.needs_recovery or (before is not None and ext4.was_used_since(before))
    if ext4.needs_recovery:  # what is in its journal is newer than what is overwritten
        e2fsck.replay(device)
    if not torn_saved.under_superblocks(device, saved) and not e2fsck.look(device):
        return False  # only zeros, and they are its own
    say(f"restoring the blocks of {device} that an interrupted conversion has overwritten")
    if not is_used and not _tried(device, saved.extents):
        return True
    missing = torn_saved.missing(device, saved)
    if not _tried(device, missing):
        return True
    if not is_used:
        raise _NotWholeError(f"no saved data makes {device} whole: it was left as it was found")
    torn_saved.write(device, missing)
    wrong = e2fsck.repair(device)
    if wrong:
        raise Error(f"the overwritten blocks of {device} were restored, but it is damaged: {wrong}")
    return True


def _tried(device: str, extents: Sequence[Extent]) -> str:
    """Write these and return what is wrong with the ext4 then; "" if nothing, or take them away."""
    before = torn_saved.write(device, extents)
    wrong = e2fsck.look(device)
    if wrong:
        torn_saved.write(device, before)
    return wrong


def _only(device: str, saves: Sequence[Saved]) -> Optional[Saved]:
    """Return the only one, None if there is none. Raises Error if there are several."""
    if len(saves) > 1:
        raise Error(
            f"{device} has {len(saves)} different saved copies of its first blocks, and all of them"
            " fit",
            hint="Somebody has copied or created one; the rescue sheet describes how to restore by"
            " hand.",
        )
    return saves[0] if saves else None


def _is_torn(device: str, ext4: Superblock) -> bool:
    """Whether an ext4 does not even find what was prepared on it; its inodes may be overwritten."""
    return (
        not ext4.needs_recovery  # the kernel mounts no such for writing
        and not torn_saved.is_there(device, STATE_FILE)
        and bool(e2fsck.look(device))
    )


def _refuse_unsaved(device: str, ext4: Superblock) -> None:
    """Raise RefusedError where a block of an ext4 is overwritten of which the save is damaged.

    If nothing was ever saved, the block is left over from earlier use of the disk.
    """
    if not torn_saved.is_there(device, torn_saved.FILE):
        return
    for place in torn_saved.superblocks_of(device, ext4.uuid):
        if not torn_saved.is_free(device, place):
            raise RefusedError(
                f"the block of {device} at byte {place} was overwritten by an interrupted"
                " conversion or return to ext4, and its saved copy is damaged",
                hint="The rescue sheet describes how to use what you saved. Without that:"
                f" {torn_saved.put_back_by_hand(device, place)}",
            )


def _refuse_whole_btrfs(device: str, saves: Sequence[Saved]) -> None:
    """Raise RefusedError where only the first superblock of a finished btrfs is damaged.

    A conversion finishes the first one before the others, and with a whole one nothing is lost: a
    btrfs that was used for years looks like this when its disk has damaged a sector. One that was
    there before the conversion was saved, and is left over from earlier use of the disk.
    """
    for place, (read, block) in torn_saved.superblocks(device).items():
        before = any(under_superblock(saved.extents, place) == block for saved in saves)
        if read.is_finished and read.is_whole is not False and not before:
            mirror = PLACES.index(place)
            raise RefusedError(
                f"the first superblock of the btrfs on {device} is damaged, but another one is"
                " valid",
                hint=f"'btrfs rescue super-recover {device}' repairs it, or 'btrfs-select-super -s"
                f" {mirror} {device}'. If a return to ext4 was interrupted: then 'fs-rollback"
                " convert run --back' again.",
            )


def refuse_overwritten(device: str) -> None:
    """Raise RefusedError where a conversion has left a superblock in the ext4 that is the root.

    What was saved of that place is needed yet. Raises ProcessError without debugfs(8).
    """
    ext4 = contents.superblock(device)
    if ext4 is None:
        return
    saves = torn_saved.named(device)
    if not saves:
        _refuse_unsaved(device, ext4)
    if any(torn_saved.under_superblocks(device, saved) for saved in saves):
        raise RefusedError(
            f"a conversion or a return to ext4 was interrupted, and part of {device} is still"
            " overwritten",
            hint=f"From a rescue system: 'fs-rollback convert run --back --device UUID={ext4.uuid}'"
            " restores it. Then abort.",
        )


def advice(device: str) -> str:
    """Return a hint for a disk with signs of an interrupted conversion, "" if it has none."""
    if devices.probe(device) or contents.spare_superblock(device) is None:
        return ""
    back = " --back" * torn_saved.is_btrfs(device)
    return (
        f"It was ext4. If a conversion was interrupted: 'fs-rollback convert run{back} --device"
        f" {device}' restores what it saved, and continues."
    )


def is_damaged(device: str) -> bool:
    """Whether a device has neither an ext4 nor a whole btrfs, and is given back an old ext4."""
    kind = devices.probe(device).get("TYPE", "")
    return kind in ("", "btrfs") and not torn_saved.is_btrfs(device)


def refuse_damaged(device: str) -> None:
    """Raise RefusedError if the first superblock of a btrfs is damaged."""
    if not torn_saved.is_btrfs(device):
        raise RefusedError(
            f"the superblock of the btrfs on {device} is damaged",
            hint=f"'btrfs rescue super-recover {device}' repairs it, if another one is valid. If a"
            " return to ext4 was interrupted: 'fs-rollback convert run --back' continues it.",
        )
