# SPDX-License-Identifier: GPL-2.0-or-later
"""Mount options of ext4(5) that keep a btrfs from being mounted."""

from __future__ import annotations

# The best known of ext4(5), to be named where a root is btrfs: what else stands there may be one of
# btrfs that this does not know. A bare `barrier` is one.
_WELL_KNOWN = frozenset((
    "auto_da_alloc", "noauto_da_alloc", "barrier=0", "barrier=1", "bh", "nobh", "block_validity",
    "noblock_validity", "data", "data_err", "delalloc", "nodelalloc", "dioread_lock",
    "dioread_nolock", "errors", "grpid", "nogrpid", "grpjquota", "usrjquota", "grpquota",
    "usrquota", "prjquota", "quota", "noquota", "i_version", "init_itable", "noinit_itable",
    "inode_readahead_blks", "journal_async_commit", "journal_checksum", "nojournal_checksum",
    "journal_dev", "journal_ioprio", "journal_path", "jqfmt", "max_batch_time", "min_batch_time",
    "max_dir_size_kb", "noload", "resgid", "resuid", "stripe", "user_xattr", "nouser_xattr",
))  # fmt: skip


def keeps_btrfs_off(option: str) -> bool:
    """Whether this well-known option of ext4 keeps a btrfs from being mounted."""
    return not _WELL_KNOWN.isdisjoint((option, option.partition("=")[0]))
