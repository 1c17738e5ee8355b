# SPDX-License-Identifier: GPL-2.0-or-later
"""The conversion itself, and the way back; the root is not mounted.

btrfs-convert(8) writes into what ext4 has free, and its last writes make a btrfs of it. So what a
crash leaves is told by the disk, and this may run again: an ext4 is converted from the beginning,
a btrfs gets what is still missing.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timezone
from typing import Callable

from ...core.boot.conversion_state import DIRECTORY, NEW_FSTAB, STATE_FILE, Stage
from ...core.boot.findings import Finding, Grade
from ...core.formats import fstab
from ...core.snapshots.snapshot import STORE
from ...errors import Error, ProcessError, RefusedError, UndoFailedError, kernel_errors
from ...system.execute import executor
from ...system.linux import devices, files, process, syscalls
from ...system.linux.durable import write_file
from ...system.linux.process import Say
from ...system.store import trace
from ..check import gather
from ..check.filesystem_points import is_enough
from ..check.points import of_volume, progs
from ..disk import btrfs_convert, e2fsck, mounted
from ..disk.mounted import TOP_LEVEL
from ..machine import contents
from ..plan import state
from ..plan.edits import btrfs_fstab
from ..plan.plan import FSTAB, SAVED, Preparation
from ..plan.steps import WriteFile
from ..torn import mend
from ..torn import saved as torn_saved

# Options that prove nothing here: a rescue system may have no SELinux, and where in the filesystem
# the root is, is for the layout to say.
_OF_OTHERS = ("context=", "fscontext=", "defcontext=", "rootcontext=", "subvol=", "subvolid=")

# Told of each phase before and after it.
Observer = Callable[[str, str], None]


def run(device: str, say: Say, observe: Observer = lambda *_: None) -> bool:
    """Convert the prepared root on a device; False if that was done before.

    `say` gets the progress messages. Raises RefusedError if nothing was converted, Error if the
    root is ext4 as before, UndoFailedError if it has to be repaired by hand.
    """
    observe = _traced(device, observe)
    with mounted.owned(device) as lock:
        if devices.probe(device).get("TYPE") != "btrfs":
            refuse([progs(gather.progs_version())])
        mend.mend(device, say)
        kind = devices.probe(device).get("TYPE", "")
        if kind == "btrfs":
            mend.refuse_damaged(device)
            return _complete(device, say, observe)
        is_clean = _refuse_volume(device, kind)
        _refuse_unprepared(device)
        observe("before", "check")
        _repair(device, say)
        if not is_clean:  # what was in the journal is in its place now
            _refuse_volume(device, kind)
        observe("after", "check")
        with mounted.mounted(device, "ext4", "ro") as root:
            preparation = _prepared(root, device)
        observe("before", "save")
        with executor.signals_held_back():
            saved = _save(device, preparation, say)
            observe("after", "save")
            observe("before", "convert")
            _convert(device, say, lock, saved)
            _finish_or_go_back(device, preparation, say, observe, lock, saved)
    return True


def _traced(device: str, observe: Observer) -> Observer:
    """Return an observer that also tells the system's journal of each phase."""

    def both(moment: str, phase: str) -> None:
        observe(moment, phase)
        tell(device, f"{moment} phase '{phase}'")

    return both


def tell(device: str, what: str) -> None:
    """Tell the system's journal what becomes of the root on a device."""
    trace.tell(None, trace.Event("conversion", reason=what, system=device))


def _save(device: str, preparation: Preparation, say: Say) -> list[int]:
    """Save what the last moment of the conversion overwrites, in the ext4 itself; return where."""
    say(f"saving the first blocks of {device} on the device itself")
    with mounted.mounted(device, "ext4", "noatime") as root:
        places = torn_saved.reserve(root, device)
    wrong = e2fsck.look(device)
    if wrong:
        if mounted.is_mounted_anywhere(device):
            wrong = "it was mounted in the meantime"
        raise Error(f"the ext4 on {device} is damaged, nothing was converted: {wrong}")
    torn_saved.save(device, preparation.uuid, places)
    return places


def _finish_or_go_back(
    device: str,
    preparation: Preparation,
    say: Say,
    observe: Observer,
    lock: int,
    saved: Sequence[int],
) -> None:
    """Do what comes after the conversion; where that fails, make it ext4 again."""
    try:
        observe("after", "convert")
        _edit_and_verify(device, preparation, say, observe)
    except Error as error:
        _go_back(device, say, lock, saved, error)
        raise Error(
            f"the conversion was undone, and the root is ext4 as before: {error}",
            hint=error.hint,
        ) from error


def _refuse_volume(device: str, kind: str) -> bool:
    """Raise RefusedError where the filesystem must not be converted; return whether it is clean.

    If not, the blocks in use are not known yet.
    """
    # The check that comes first replays its journal: it may be one that was cut off.
    volume = gather.look(device, kind, is_mounted=True, now=datetime.now(timezone.utc))
    is_clean = volume.superblock is not None and volume.superblock.is_clean
    if volume.contents is not None and not is_clean:
        volume = replace(volume, contents=volume.contents._replace(room=None))
    refuse(of_volume(volume))
    return is_clean


def refuse(found: Sequence[Finding]) -> None:
    """Raise RefusedError with all fatal findings, if there are any."""
    refused = [point for point in found if point.grade is Grade.FATAL]
    if refused:
        raise RefusedError(
            "\n".join(f"{point.name}: {point.text}" for point in refused),
            hint=" ".join(point.advice for point in refused if point.advice),
        )


def _refuse_unprepared(device: str) -> None:
    """Raise RefusedError where nothing was prepared, before e2fsck(8) writes to what is not meant.

    A journal may still hold what was prepared, and damage may hide it: that is asked later then.
    """
    superblock = contents.superblock(device)
    if superblock is None or superblock.needs_recovery or torn_saved.is_there(device, STATE_FILE):
        return
    if not e2fsck.look(device):
        raise _not_prepared(device)


def _not_prepared(device: str) -> RefusedError:
    return RefusedError(
        f"the system on {device} is not prepared: it would not boot from btrfs",
        hint="Boot it and run 'fs-rollback convert prepare'.",
    )


def _repair(device: str, say: Say) -> None:
    say(f"checking the ext4 on {device}")
    wrong = e2fsck.repair(device)
    if wrong:
        raise Error(
            f"e2fsck could not repair {device} automatically, nothing was converted: {wrong}",
            hint=f"From a rescue system: e2fsck -f {device}",
        )


def _prepared(root: str, device: str) -> Preparation:
    """Return what was prepared. Raises RefusedError if that no longer fits."""
    preparation = state.read(root)
    if preparation is None or preparation.stage is not Stage.PREPARED:
        raise _not_prepared(device)
    if preparation.uuid != devices.probe(device).get("UUID"):
        raise RefusedError(
            f"the preparation on {device} is for another filesystem, UUID {preparation.uuid}",
            hint="Boot it and run 'fs-rollback convert abort', then 'fs-rollback convert prepare'.",
        )
    with files.opened(root) as tree:
        own = os.fstat(tree).st_dev
        for path in (STORE, DIRECTORY):
            status = files.status_of(tree, path, follow=False)
            if status is None or not stat.S_ISDIR(status.st_mode) or status.st_dev != own:
                raise RefusedError(
                    f"/{path} on {device} is not a directory",
                    hint="It must be a directory, not a link.",
                )
        if os.path.lexists(os.path.join(root, SAVED)):
            raise RefusedError(
                f"/{SAVED} exists on {device}, but the conversion saves the old ext4 under that"
                " name",
                hint="Rename it.",
            )
        changed = list(_changed(tree, preparation))
        space = os.fstatvfs(tree)
    if changed:
        raise RefusedError(
            f"/{changed[0]} on {device} was changed after the preparation",
            hint="Boot it and run 'fs-rollback convert abort', then 'fs-rollback convert prepare'.",
        )
    if not is_enough(space.f_bfree * space.f_frsize, space.f_blocks * space.f_frsize):
        raise RefusedError(
            f"{device} has less free space than when it was prepared, and too little",
            hint="'fs-rollback convert check' shows how much it needs.",
        )
    return preparation


def _changed(tree: int, preparation: Preparation) -> Iterator[str]:
    """Give the files of which the btrfs would start with something else than was prepared.

    What is on a /boot of its own cannot be seen, and what is gone is no entry any more.
    """
    if files.read_in_tree(tree, FSTAB) != preparation.fstab:
        yield FSTAB
    for step in preparation.steps:
        if isinstance(step, WriteFile):
            now = files.read_in_tree(tree, step.path)
            if now != step.after and (now is not None or step.path == NEW_FSTAB):
                yield step.path


def _convert(device: str, say: Say, lock: int, saved: Sequence[int]) -> None:
    say(
        f"converting {device} to btrfs: do not switch off the machine; the first part takes a while"
    )
    try:
        code, last = btrfs_convert.convert(device, say, lock)
    except Error as error:  # as if it had failed: what it left is looked at below
        code, last = 1, str(error)
    if code == 0 and devices.probe(device).get("TYPE") == "btrfs":
        return
    if mounted.is_mounted_anywhere(device):  # the last moment refuses that: none was
        raise Error(
            f"btrfs-convert failed, the ext4 on {device} is as before, and mounted: {last}",
            hint="Unmount it, keep others from mounting it, and start again.",
        )
    # Whatever it says: where it was cut off in its last moment, only this makes it whole.
    wrong = _give_back(device, saved)
    if not wrong:
        raise Error(
            f"btrfs-convert failed, the ext4 on {device} is as before: {last}",
            hint="It can be used as before. If space was missing, free more; 'fs-rollback convert"
            " check' shows how much. Otherwise try newer btrfs-progs from a rescue system.",
        )
    raise UndoFailedError(
        f"btrfs-convert failed on {device} ({last}), and left a damaged ext4: {wrong}",
        commands=btrfs_convert.by_hand(device),
    )


def _give_back(device: str, saved: Sequence[int]) -> str:
    """Give back what was saved in these places right before; return what is wrong then, or ""."""
    try:
        for found in torn_saved.fitting(device, torn_saved.saved_at(device, saved)):
            torn_saved.write(device, found.extents)
        return e2fsck.look(device)
    except Error as error:  # as promised: what is wrong
        return str(error)


def _complete(device: str, say: Say, observe: Observer) -> bool:
    """Do what is missing on a btrfs that was converted; False if nothing is."""
    with mounted.mounted(device, "btrfs", f"ro,{TOP_LEVEL}") as root:
        preparation = state.read(root)
    if preparation is None:
        raise RefusedError(
            f"{device} is btrfs, but no conversion was prepared on it",
            hint="There is nothing to convert.",
        )
    if preparation.stage is Stage.CONVERTED:
        return False
    say(f"{device} is already btrfs: completing an interrupted conversion")
    with executor.signals_held_back():
        _edit_and_verify(device, preparation, say, observe)
    return True


def _edit_and_verify(device: str, preparation: Preparation, say: Say, observe: Observer) -> None:
    """Do what makes it a root that starts, at once; then look whether it is whole, and note it."""
    observe("before", "edit")
    with mounted.mounted(device, "btrfs", TOP_LEVEL) as root:
        _put_fstab(root, preparation)
    observe("after", "edit")
    observe("before", "verify")
    say("checking the btrfs")
    code, last = process.watch(["btrfs", "check", "--readonly", device])
    if code != 0:
        raise Error(f"'btrfs check --readonly {device}' found errors: {last}")
    _mount_as_fstab_says(device)
    observe("after", "verify")
    observe("before", "note")
    with mounted.mounted(device, "btrfs", TOP_LEVEL) as root:
        _note(root, preparation)
    observe("after", "note")


def _mount_as_fstab_says(device: str) -> None:
    """Mount the btrfs with the options that its fstab has for the root. Raises Error."""
    with mounted.mounted(device, "btrfs", f"ro,{TOP_LEVEL}") as root, files.opened(root) as tree:
        entry = fstab.root_entry(fstab.parse(files.read_in_tree(tree, FSTAB) or ""))
    if entry is None:
        return
    options = [o for o in entry.options if not o.startswith(_OF_OTHERS)]
    try:
        with mounted.mounted(device, "btrfs", ",".join([*options, "ro", TOP_LEVEL])):
            pass
    except ProcessError as error:
        raise Error(
            f"the btrfs on {device} cannot be mounted with {','.join(options)!r}, the options of"
            f" the root in /{FSTAB}: {error}",
            hint=f"Remove the options that btrfs does not know from /{FSTAB}. If the root is ext4:"
            " do that after 'fs-rollback convert abort', and prepare again. If it is btrfs: do it"
            " there, and run this again.",
        ) from error


def _put_fstab(root: str, preparation: Preparation) -> None:
    """Put the fstab of the btrfs in the place of the other, with its mode, owner and attributes."""
    with files.opened(root) as tree, kernel_errors("write", f"/{FSTAB}"):
        ready = files.read_in_tree(tree, NEW_FSTAB)
        if ready is not None:
            now = files.read_in_tree(tree, FSTAB) or ""
            if now not in (preparation.fstab, ready):  # it was edited since: that stays
                try:
                    ready = btrfs_fstab(now)
                except ValueError as error:
                    raise Error(
                        f"/{FSTAB} cannot be changed: {error}",
                        hint="Mount the device, correct it there, then run this again.",
                    ) from error
            write_file(os.path.join(root, FSTAB), ready, 0o644)
            os.unlink(os.path.join(root, NEW_FSTAB))
        syscalls.sync_filesystem(tree)


def _note(root: str, preparation: Preparation) -> None:
    """Write down that all is done, and what is newer from now on."""
    with files.opened(root) as tree, kernel_errors("write", f"/{DIRECTORY}"):
        generation = syscalls.filesystem_generation(tree)
        state.write(root, preparation.at(Stage.CONVERTED, generation))
        syscalls.sync_filesystem(tree)


def _go_back(device: str, say: Say, lock: int, saved: Sequence[int], cause: Error) -> None:
    say("converting back to ext4")
    tell(device, "it is undone")
    try:
        code, last = btrfs_convert.convert_back(device, say, lock)
    except Error as error:  # as if it had failed: what it left is looked at below
        code, last = 1, str(error)
    # Where that fails: nobody but this has used the btrfs, and the ext4 is all there.
    wrong = _give_back(device, saved) if code else e2fsck.look(device)
    if wrong:
        raise UndoFailedError(
            f"{device} could not be made ext4 again ({last if code else wrong}) after: {cause}",
            commands=btrfs_convert.by_hand(device, back=True),
        ) from cause
