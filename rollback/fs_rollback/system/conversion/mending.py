# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk on which a conversion, or the way back from one, was cut off in its last moment."""

from __future__ import annotations

from ...core.conversion.beginning import SUPERBLOCKS
from ...errors import Error, ProcessError, RefusedError, UndoFailedError
from .. import devices, process
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
    is_torn = back and kind == "btrfs" and _is_torn(device)
    if spare is None or not (kind in ("", "ext4") or is_torn):
        return False
    if kind != "ext4":
        _refuse_whole_btrfs(device, spare.uuid)
    # Neither an ext4, which may be whole, nor a disk with partitions is looked through.
    scans = kind != "ext4" and "PTTYPE" not in found
    is_used = False
    try:
        done = beginning.give_back(device, spare.uuid, say, scan=scans)
        if not done and kind == "ext4":
            is_used = done = beginning.give_back_under_superblocks(device, spare.uuid, say)
    except Error as error:
        raise UndoFailedError(str(error), commands=converter.by_hand(device)) from error
    if not done:
        if not scans:
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


def _refuse_whole_btrfs(device: str, filesystem: str) -> None:
    """Raise RefusedError where only the first superblock of a finished btrfs is damaged.

    A conversion finishes the first one before the others, and with a whole one nothing is lost: a
    btrfs that was used for years looks like this when its disk has damaged a sector. One of
    another UUID than the `filesystem` had is what an earlier life of the disk has left.
    """
    for mirror in (1, 2):
        if filesystem in _whole_superblock(device, mirror):
            raise RefusedError(
                f"the first superblock of the btrfs on {device} is damaged, and another is whole",
                hint=f"'btrfs rescue super-recover {device}' makes it whole again, or"
                f" 'btrfs-select-super -s {mirror} {device}'. If a way back to ext4 was cut off:"
                " then 'fs-rollback convert run --back' again.",
            )


def _whole_superblock(device: str, mirror: int) -> tuple[str, ...]:
    """Return the UUIDs in that superblock of a finished btrfs, () where it is not whole."""
    dump = ["btrfs", "inspect-internal", "dump-super", "-s", str(mirror)]
    try:
        said = process.run([*dump, device])
    except ProcessError:  # the device ends before, or nothing is there
        return ()
    fields = dict(line.split(None, 1) for line in said.splitlines() if len(line.split()) > 1)
    is_whole = all("[match]" in fields.get(key, "") for key in ("csum", "magic"))
    if not is_whole or fields.get("bytenr") != str(SUPERBLOCKS[mirror]):
        return ()
    # With the second one btrfstune(8) keeps the first UUID that it had.
    return tuple(fields.get(key, "") for key in ("fsid", "metadata_uuid"))


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
    return not _whole_superblock(device, 0)


def refuse_damaged(device: str) -> None:
    """Raise RefusedError if that of a btrfs is."""
    if _is_torn(device):
        raise RefusedError(
            f"the superblock of the btrfs on {device} is damaged",
            hint=f"'btrfs rescue super-recover {device}' makes it whole again, if another one is."
            " If a way back to ext4 was cut off: 'fs-rollback convert run --back' goes on.",
        )
