# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads the superblock of an ext4; groups.py and inodes.py read what lies behind it.

Offsets and values: Documentation/filesystems/ext4/super.rst of Linux and lib/ext2fs/ext2_fs.h of
e2fsprogs.
"""

from __future__ import annotations

import struct
from datetime import datetime, timezone
from typing import NamedTuple, Optional

SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES = 1024, 1024
# Where mke2fs(8) puts its first copy: at the beginning of the second group, of 8 * 4096 blocks.
SPARE_BLOCK, SPARE_BLOCK_BYTES = 32768, 4096
_MAGIC_OFFSET, _MAGIC = 0x38, 0xEF53
_STATE_CLEAN, _STATE_ERRORS = 0x0001, 0x0002
_MOST_SECONDS = 1 << 36  # the year 4147; datetime ends with 9999
_JOURNAL, _RECOVER, _META_BLOCK_GROUPS = "has_journal", "needs_recovery", "meta_bg"
# The names of mke2fs(8) and ext4(5). A bit that is not here has no name.
_COMPAT = {
    0x1: "dir_prealloc", 0x2: "imagic_inodes", 0x4: _JOURNAL, 0x8: "ext_attr",
    0x10: "resize_inode", 0x20: "dir_index", 0x200: "sparse_super2", 0x400: "fast_commit",
    0x800: "stable_inodes", 0x1000: "orphan_file",
}  # fmt: skip
_INCOMPAT = {
    0x1: "compression", 0x2: "filetype", 0x4: _RECOVER, 0x8: "journal_dev",
    0x10: _META_BLOCK_GROUPS, 0x40: "extent", 0x80: "64bit", 0x100: "mmp", 0x200: "flex_bg",
    0x400: "ea_inode", 0x1000: "dirdata", 0x2000: "metadata_csum_seed", 0x4000: "large_dir",
    0x8000: "inline_data", 0x10000: "encrypt", 0x20000: "casefold",
}  # fmt: skip
_RO_COMPAT = {
    0x1: "sparse_super", 0x2: "large_file", 0x4: "btree_dir", 0x8: "huge_file", 0x10: "uninit_bg",
    0x20: "dir_nlink", 0x40: "extra_isize", 0x80: "snapshot", 0x100: "quota", 0x200: "bigalloc",
    0x400: "metadata_csum", 0x800: "replica", 0x1000: "read-only", 0x2000: "project",
    0x4000: "shared_blocks", 0x8000: "verity", 0x10000: "orphan_present",
}  # fmt: skip


class Superblock(NamedTuple):
    """What the superblock says. `errors` is how often the kernel has noted damage.

    `mounted` is when it was mounted for writing, in seconds of Unix, and `mounts` how often since
    the last e2fsck(8); `checked` is the time of that, None if it never ran. `external_journal`: the
    journal is on a device of its own. `clean`: nobody writes, and nobody was cut off; one with a
    journal says so while it is mounted too.
    """

    uuid: str
    label: str
    features: frozenset[str]
    block_bytes: int
    blocks: int
    free_blocks: int
    inodes: int
    free_inodes: int
    inode_bytes: int
    inodes_per_group: int
    first_block: int
    blocks_per_group: int
    descriptor_bytes: int
    reserved_descriptor_blocks: int
    first_meta_group: int
    backup_groups: tuple[int, int]
    mounts: int
    mounted: int
    checked: Optional[datetime]
    errors: int
    external_journal: bool
    clean: bool

    @property
    def size_bytes(self) -> int:
        """The size of the filesystem."""
        return self.blocks * self.block_bytes

    @property
    def groups(self) -> int:
        """The number of block groups."""
        return -(-self.inodes // self.inodes_per_group)

    @property
    def is_clean(self) -> bool:
        """Whether it was unmounted, and its journal has nothing that is not in its place."""
        return self.clean and not self.needs_recovery

    def was_used_since(self, before: Superblock) -> bool:
        """Whether it was mounted for writing since `before` was read of it.

        Not by a mount for reading, or one that fails; e2fsck(8) puts back a time that its clock
        has not come to yet, and the count.
        """
        return self.mounted > before.mounted or self.mounts > before.mounts

    @property
    def needs_recovery(self) -> bool:
        """Whether its journal has something that is not in its place."""
        return _RECOVER in self.features

    @property
    def has_meta_groups(self) -> bool:
        """Whether not all group descriptors lie together, behind the superblock."""
        return _META_BLOCK_GROUPS in self.features


class Part(NamedTuple):
    """A part of a device: an offset and a size in bytes."""

    offset: int
    size_bytes: int


def parse(data: bytes) -> Optional[Superblock]:
    """Read the SUPERBLOCK_BYTES at SUPERBLOCK_OFFSET of a device; None if that is no superblock.

    A superblock with numbers that cannot be is none.
    """
    if len(data) < SUPERBLOCK_BYTES or _number(data, "H", _MAGIC_OFFSET) != _MAGIC:
        return None
    features = _features(data)
    log_block, inodes_per_group = _number(data, "I", 0x18), _number(data, "I", 0x28)
    # Revision 0 has inodes of 128 bytes.
    inode_bytes = _number(data, "H", 0x58) if _number(data, "I", 0x4C) else 128
    if log_block > 6 or inode_bytes < 128 or inode_bytes & (inode_bytes - 1):
        return None
    high = "64bit" in features
    checked = _number(data, "I", 0x40) | data[0x277] << 32
    digits = data[0x68:0x78].hex()
    state = _number(data, "H", 0x3A)
    found = Superblock(
        uuid="-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:])),
        label=data[0x78:0x88].partition(b"\0")[0].decode("utf-8", "backslashreplace"),
        features=features,
        block_bytes=1024 << log_block,
        blocks=_number(data, "I", 0x4) | (_number(data, "I", 0x150) << 32 if high else 0),
        free_blocks=_number(data, "I", 0xC) | (_number(data, "I", 0x158) << 32 if high else 0),
        inodes=_number(data, "I", 0x0),
        free_inodes=_number(data, "I", 0x10),
        inode_bytes=inode_bytes,
        inodes_per_group=inodes_per_group,
        first_block=_number(data, "I", 0x14),
        blocks_per_group=_number(data, "I", 0x20),
        descriptor_bytes=_number(data, "H", 0xFE) if high else 32,
        reserved_descriptor_blocks=_number(data, "H", 0xCE),
        first_meta_group=_number(data, "I", 0x104),
        backup_groups=(_number(data, "I", 0x24C), _number(data, "I", 0x250)),
        mounts=_number(data, "H", 0x34),
        mounted=_number(data, "I", 0x2C) | data[0x275] << 32,
        checked=(
            datetime.fromtimestamp(checked, timezone.utc) if 0 < checked < _MOST_SECONDS else None
        ),
        errors=max(_number(data, "I", 0x194), int(bool(state & _STATE_ERRORS))),
        external_journal=_JOURNAL in features and not _number(data, "I", 0xE0),
        clean=bool(state & _STATE_CLEAN),
    )
    return found if _can_be(found) else None


def _can_be(superblock: Superblock) -> bool:
    """Whether the numbers fit each other, as the kernel and e2fsck(8) want it too."""
    if not superblock.blocks_per_group or not superblock.inodes_per_group:
        return False
    groups = -(-(superblock.blocks - superblock.first_block) // superblock.blocks_per_group)
    return (
        superblock.inodes == groups * superblock.inodes_per_group
        and superblock.inode_bytes <= superblock.block_bytes
        and superblock.descriptor_bytes in (32, 64, 128, 256, 512, 1024)
        and superblock.free_blocks <= superblock.blocks
        and superblock.free_inodes <= superblock.inodes
    )


def _number(data: bytes, kind: str, offset: int) -> int:
    value: int = struct.unpack_from("<" + kind, data, offset)[0]
    return value


def _features(data: bytes) -> frozenset[str]:
    found = set()
    for offset, names, word in (
        (0x5C, _COMPAT, "compat"),
        (0x60, _INCOMPAT, "incompat"),
        (0x64, _RO_COMPAT, "ro_compat"),
    ):
        bits = _number(data, "I", offset)
        for bit in (1 << place for place in range(32)):
            if bits & bit:
                found.add(names.get(bit, f"{word} {bit:#x}"))
    return frozenset(found)
