# SPDX-License-Identifier: GPL-2.0-or-later
"""Whether an ext4 can be converted: what its own superblock and its space say."""

from __future__ import annotations

from collections.abc import Iterator

from ...core.boot.findings import Finding, fatal, ok, warning
from ..disk.ext4 import SPARE_BLOCK, SPARE_BLOCK_BYTES, Superblock
from ..disk.inodes import INODE_FLAGS
from ..disk.room import Room
from ..plan.facts import Contents, Volume

LEAST_FREE_BYTES = 2 << 30
LEAST_FREE_PERCENT = 15
# What btrfs-convert(8) is known to read right, and what does not concern a reader.
_KNOWN = frozenset((
    "dir_prealloc", "has_journal", "ext_attr", "resize_inode", "dir_index", "sparse_super2",
    "fast_commit", "stable_inodes", "orphan_file", "filetype", "needs_recovery", "meta_bg",
    "extent", "64bit", "mmp", "flex_bg", "metadata_csum_seed", "large_dir", "sparse_super",
    "large_file", "huge_file", "uninit_bg", "dir_nlink", "extra_isize", "quota",
    "metadata_csum", "project", "orphan_present", "btree_dir",
))  # fmt: skip
# What lsattr(1) shows of an inode; it knows no letter for ea_inode.
_LETTERS = {"encrypt": "E", "verity": "V", "inline_data": "N", "casefold": "F"}
_LIMITS = frozenset({"quota", "project"})


def is_enough(free_bytes: int, size_bytes: int) -> bool:
    """Whether there is enough free space."""
    return free_bytes >= _wanted(size_bytes)


def _wanted(size_bytes: int) -> int:
    return max(LEAST_FREE_BYTES, size_bytes * LEAST_FREE_PERCENT // 100)


def none(volume: Volume) -> Finding:
    """Return the only finding for a filesystem other than ext4."""
    code, said = "filesystem.not-ext4", volume.fstype or "of unknown type"
    advice = "Only ext4 can be converted; move the system to a new btrfs filesystem instead."
    if volume.fstype == "btrfs":
        code, said = "filesystem.btrfs", "already btrfs"
        advice = (
            "After a conversion, run 'fs-rollback convert finish'. Otherwise there is nothing to"
            " do."
        )
    elif volume.fstype in ("ext2", "ext3"):
        advice = (
            f"Only ext4 can be converted; tune2fs(8) describes how to turn {volume.fstype} into"
            " ext4."
        )
    elif volume.fstype == "ext4":
        code, said = "filesystem.superblock", "ext4 with a superblock that cannot be read"
        advice = "'e2fsck -f' with a backup superblock may help; see e2fsck(8), option -b."
    return fatal(code, "", f"{volume.device} is {said}", advice)


def features(volume: Volume, superblock: Superblock) -> Iterator[Finding]:
    """Yield a finding for each feature that matters, or one for all."""
    refused = False
    for feature in sorted(superblock.features - _KNOWN):
        users = volume.contents.users.get(feature) if volume.contents else None
        if users == 0:
            yield ok("ext4-features.unused", feature, f"{feature} is enabled, but no file uses it")
            continue
        refused = True
        what = f"{feature} is set"
        if users:
            what = f"{feature} is used by {users} inode{'s' * (users > 1)}"
        elif feature in INODE_FLAGS:
            what = f"{feature} is set, and the files that use it could not be counted"
        yield fatal(
            "ext4-features.unsupported",
            feature,
            f"{what}: btrfs-convert does not support it",
            _cure(feature),
        )
    if "filetype" not in superblock.features:
        refused = True
        yield fatal(
            "ext4-features.missing",
            "filetype",
            "filetype is not set: btrfs-convert requires it",
            f"From a rescue system: tune2fs -O filetype {volume.device} && e2fsck -f"
            f" {volume.device}",
        )
    if superblock.external_journal:
        refused = True
        yield fatal(
            "ext4-features.external-journal",
            "",
            "the journal is on a separate device: btrfs-convert does not support that",
            f"Move it back from a rescue system: tune2fs -O ^has_journal {volume.device} && tune2fs"
            f" -j {volume.device}",
        )
    for feature in sorted(_LIMITS & superblock.features):
        yield warning(
            "ext4-features.limits",
            feature,
            f"{feature} is set: quota limits of users or projects are lost with ext4",
            "Write them down: repquota(8). btrfs has quota groups instead, which slow down the"
            " filesystem.",
        )
    if not refused:
        yield ok("ext4-features.ok", "", "btrfs-convert supports all that are set")


def _cure(feature: str) -> str:
    letter = _LETTERS.get(feature)
    if letter:
        return (
            "Copy these files to another filesystem and delete them here, then check again;"
            f" 'lsattr -R -a' marks them with the letter {letter}."
        )
    if feature in INODE_FLAGS:
        return (
            "Copy the files with large extended attributes to another filesystem and delete them"
            " here, then check again."
        )
    return (
        "Move the system to a new btrfs filesystem instead: this feature cannot be removed in"
        " place."
    )


def blocks(volume: Volume, superblock: Superblock) -> Finding:
    """Return whether btrfs can have blocks as large as these."""
    size = superblock.block_bytes
    if size == volume.page_bytes:
        return ok("block-size.ok", "", f"{size} bytes, the page size of the kernel")
    return fatal(
        "block-size.not-page-size",
        "",
        f"{size} bytes, but the page size of this machine is {volume.page_bytes}",
        "This machine could not mount a converted filesystem. Move the system to a new one"
        " instead.",
    )


def state(volume: Volume, superblock: Superblock) -> Iterator[Finding]:
    """Yield the findings on its health."""
    check = f"e2fsck -f {volume.device}"
    if not superblock.is_clean and not volume.is_mounted:
        yield fatal(
            "ext4-state.unclean",
            "",
            f"{volume.device} was not unmounted cleanly",
            f"Repair it first: {check}",
        )
    if superblock.errors:
        yield warning(
            "ext4-state.errors",
            "",
            f"the kernel has recorded errors in it: {superblock.errors}",
            f"Find out why ('dmesg', smartctl(8)), then run from a rescue system: {check}",
        )
    ago = "never"
    if superblock.checked is not None:
        days = max((volume.at - superblock.checked).days, 0)
        ago = f"{superblock.checked:%Y-%m-%d}, {days} days ago"
    text = f"last e2fsck: {ago}; mounted {superblock.mounts} times since"
    yield ok("ext4-state.ok", "", text + "; the conversion starts with e2fsck")


def contents(volume: Volume, superblock: Superblock) -> Iterator[Finding]:
    """Yield the findings on what follows the superblock."""
    found, device = volume.contents, volume.device
    if found is None:
        yield fatal(
            "ext4-state.damaged",
            "",
            volume.damage,
            f"The device is too small or damaged; check it: e2fsck -fn {device}",
        )
        return
    if found.bad_blocks:
        some = f"{found.bad_blocks} block{'s' * (found.bad_blocks > 1)}"
        yield fatal(
            "bad-blocks.listed",
            "",
            f"ext4 has a list of {some} of {device} that cannot be used; btrfs has no such list and"
            " would store files there",
            "If the disk is bad, move the system to another one. If it was replaced, or has"
            f" remapped these blocks, test it from a rescue system: e2fsck -f -c -y {device} reads"
            " every block, and empties the list if it can read all of them.",
        )
    if found.room is not None:
        yield room(found, found.room, volume, superblock)


def room(found: Contents, free: Room, volume: Volume, superblock: Superblock) -> Finding:
    """Return whether btrfs-convert(8) finds room for its metadata, and leaves some."""
    needed = free.needed_bytes(found.items_bytes)
    left = free.left_bytes(superblock.size_bytes)
    has = free.metadata_bytes
    text = (
        f"btrfs metadata can use {gib(has)} of the free space (pieces of more than 32 MiB); it"
        f" needs {gib(needed, up=True)} for the files, and {gib(left, up=True)} for later use"
    )
    if has >= needed + left:
        return ok("room-for-metadata.ok", "", text)
    lacks = needed + left - has
    advice = (
        f"Free {gib(lacks, up=True)} more: delete large files, or many small ones; or enlarge the"
        f" device, then the filesystem: resize2fs {volume.device}"
    )
    if volume.free_bytes >= needed + left + free.used_bytes // 50:
        advice = (
            "The free space is fragmented. With a backup, run this from a rescue system: e2fsck -f"
            f" {volume.device} && resize2fs -M {volume.device} && resize2fs {volume.device}"
        )
    return fatal("room-for-metadata.too-little", "", f"{text}: not enough", advice)


def spare(volume: Volume, superblock: Superblock) -> Iterator[Finding]:
    """Give a point where the superblock has no copy by which a power cut could be mended."""
    if superblock.block_bytes != SPARE_BLOCK_BYTES or "bigalloc" in superblock.features:
        return  # it is elsewhere, and the conversion is refused for that
    if volume.spare is not None and volume.spare.uuid == superblock.uuid:
        return
    yield fatal(
        "ext4-state.no-spare",
        "",
        f"it has no spare superblock in block {SPARE_BLOCK}: damage by a power cut in the last"
        " moment of the conversion could not be repaired",
        "Move the system to a new btrfs filesystem instead."
        if volume.spare is None
        else f"From a rescue system: tune2fs -U {superblock.uuid} {volume.device}",
    )


def space(volume: Volume, superblock: Superblock) -> Finding:
    """Return whether there is room for the metadata of btrfs beside that of ext4."""
    free, total = volume.free_bytes, superblock.size_bytes
    text = f"{gib(free)} of {gib(total)} are free ({free * 100 // max(total, 1)} %)"
    if is_enough(free, total):
        return ok("free-space.ok", "", text)
    wanted = _wanted(total)
    return fatal(
        "free-space.too-little",
        "",
        f"{text}; at least {gib(wanted, up=True)} must be free: {LEAST_FREE_PERCENT} %, and never"
        f" less than {LEAST_FREE_BYTES >> 30} GiB",
        f"Free {gib(wanted - free, up=True)} more: run 'dnf clean all', remove old kernels and"
        " logs.",
    )


def gib(count: int, *, up: bool = False) -> str:
    """Return a number of bytes in GiB; never more than there is, or never less with `up`."""
    tenths = -(-count * 10 >> 30) if up else count * 10 >> 30
    return f"{tenths // 10}.{tenths % 10} GiB"
