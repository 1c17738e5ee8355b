# SPDX-License-Identifier: GPL-2.0-or-later
"""The way back from btrfs to the ext4 that it was, as long as that is there."""

from __future__ import annotations

import os
from typing import NamedTuple

from ...core.boot.conversion_state import STATE_FILE
from ...errors import Error, ProcessError, RefusedError, UndoFailedError
from ...system.execute import executor
from ...system.linux import btrfs, files, tree_search
from ...system.linux.process import Say
from ..disk import btrfs_convert, e2fsck, mounted
from ..disk.mounted import TOP_LEVEL
from ..machine import contents
from ..plan import state
from ..plan.plan import SAVED
from ..torn import mend, saved
from .convert import tell

_IMAGE = f"{SAVED}/image"


class Lost(NamedTuple):
    """What was written to the btrfs since the conversion: paths, and whether these are all.

    `converts_again`: the ext4 has an entry that converts, which the next boot may use.
    """

    paths: tuple[str, ...]
    all_known: bool
    converts_again: bool = False


def look(device: str) -> Lost:
    """Return what a return to ext4 would lose. Raises RefusedError if there is no way back."""
    if not saved.is_btrfs(device):
        raise RefusedError(f"{device} is not btrfs", hint="There is nothing to undo.")
    try:
        return _look(device)
    except ProcessError:
        # An ext4 that was used after a way back was cut off has written over the btrfs.
        if contents.superblock(device) is None:
            raise
        return Lost((), all_known=False)


def _look(device: str) -> Lost:
    with mounted.mounted(device, "btrfs", f"ro,{TOP_LEVEL}") as root, files.opened(root) as tree:
        preparation = state.read(root)
        if preparation is None:
            raise RefusedError(
                f"{device} has no record of what it was: /{STATE_FILE} is missing",
                hint=f"If it was ext4, 'btrfs-convert -r {device}' makes it that again; everything"
                " written since is lost.",
            )
        if files.status_of(tree, _IMAGE) is None:
            raise RefusedError(
                f"the old ext4 on {device} no longer exists: {SAVED} was deleted",
                hint="You can only stay with btrfs.",
            )
        lost = _written_since(tree, preparation.generation)
        others = [s.path for s in btrfs.subvolumes(root) if s.path and s.path != SAVED]
    inside = tuple(f"/{path} (a subvolume, all of it)" for path in sorted(others))
    converts = preparation.converter is not None
    return Lost((*inside, *lost.paths), lost.all_known, converts)


def _written_since(tree: int, generation: int) -> Lost:
    if not generation:
        return Lost((), all_known=False)
    found: set[str] = set()
    all_known = True
    for inode, _ in tree_search.touched_inodes(tree, generation):
        paths = tree_search.inode_paths(tree, inode)
        all_known = all_known and paths is not None
        found.update(f"/{path}" for path in paths or () if path not in ("", ".", ".."))
    ours = os.path.dirname(STATE_FILE)
    return Lost(tuple(sorted(p for p in found if not p.startswith(f"/{ours}"))), all_known)


def resume(device: str, say: Say) -> bool:
    """Finish a return to ext4 that was interrupted in its last moment; False if there was none.

    Raises UndoFailedError if that is not possible.
    """
    with mounted.owned(device), executor.signals_held_back():
        is_mended = mend.mend(device, say, back=True)
        if is_mended:
            tell(device, "completed an interrupted return to ext4")
        return is_mended


def back(device: str, say: Say) -> None:
    """Make the root ext4 again, as it was before the conversion.

    Raises Error if it is btrfs as before, UndoFailedError if it needs hands.
    """
    with mounted.owned(device) as lock, executor.signals_held_back():
        if mend.go_on_back(device, say):
            tell(device, "it is ext4 again")
            return
        say(f"converting {device} back to ext4: do not switch off the machine")
        tell(device, "the return to ext4 starts")
        code, last = btrfs_convert.convert_back(device, say, lock)
        if code and saved.is_btrfs(device):
            raise Error(
                f"btrfs-convert could not return to ext4, {device} is btrfs as before: {last}",
                hint="A balance, defragmentation or resize since the conversion prevents it.",
            )
        # In its last moment, then; what it did not come to was saved.
        wrong = (_mend(device, say) if code else "") or e2fsck.repair(device)
        if wrong:
            raise UndoFailedError(
                f"{device} is not a valid ext4: {last if code else wrong}",
                commands=btrfs_convert.by_hand(device, back=True),
            )
        tell(device, "it is ext4 again")


def _mend(device: str, say: Say) -> str:
    """Return what keeps it from being given back, "" if nothing does."""
    try:
        mend.mend(device, say, back=True)
    except Error as error:  # as promised: what keeps it
        return str(error)
    return ""
