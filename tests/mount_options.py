# SPDX-License-Identifier: GPL-2.0-or-later
"""Mount options as those name them who take them: ext4 in Linux, and mount(8)."""

from __future__ import annotations

# ext4_param_specs in fs/ext4/super.c of Linux 6.12, with a value where one is wanted; noacl and
# nouser_xattr are those of 5.14, `journal` is of ext3.
EXT4 = (
    "bsddf", "minixdf", "grpid", "bsdgroups", "nogrpid", "sysvgroups", "resgid=0", "resuid=0",
    "sb=1", "errors=remount-ro", "errors=continue", "errors=panic", "nouid32", "debug", "oldalloc",
    "orlov", "user_xattr", "nouser_xattr", "acl", "noacl", "norecovery", "noload", "bh", "nobh",
    "commit=30", "min_batch_time=0", "max_batch_time=15000", "journal_dev=2049",
    "journal_path=/dev/sdz", "journal_checksum", "nojournal_checksum", "journal_async_commit",
    "abort", "data=journal", "data=ordered", "data=writeback", "data_err=ignore", "data_err=abort",
    "usrjquota=aquota.user", "usrjquota=", "grpjquota=aquota.group", "grpjquota=", "jqfmt=vfsv1",
    "grpquota", "quota", "noquota", "usrquota", "prjquota", "barrier", "barrier=1", "nobarrier",
    "i_version", "dax", "dax=inode", "stripe=16", "delalloc", "nodelalloc", "warn_on_error",
    "nowarn_on_error", "debug_want_extra_isize=32", "mblk_io_submit", "nomblk_io_submit",
    "block_validity", "noblock_validity", "inode_readahead_blks=32", "journal_ioprio=3",
    "auto_da_alloc", "auto_da_alloc=1", "noauto_da_alloc", "dioread_nolock", "nodioread_nolock",
    "dioread_lock", "discard", "nodiscard", "init_itable", "init_itable=10", "noinit_itable",
    "fc_debug_force", "fc_debug_max_replay=1", "max_dir_size_kb=64", "test_dummy_encryption",
    "test_dummy_encryption=v2", "inlinecrypt", "nombcache", "no_mbcache", "prefetch_block_bitmaps",
    "no_prefetch_block_bitmaps", "mb_optimize_scan=1", "check=none", "nocheck", "reservation",
    "noreservation", "journal=update",
)  # fmt: skip
# Those of them that btrfs(5) knows too, with the same meaning.
OF_BOTH = ("acl", "noacl", "commit=30", "discard", "nodiscard")
# FILESYSTEM-INDEPENDENT MOUNT OPTIONS in mount(8), without those that say nothing in fstab's line
# of a root (remount), or nothing to any btrfs (iversion: it always counts).
OF_ANY = (
    "async", "atime", "noatime", "auto", "noauto", "context=system_u:object_r:tmp_t:s0",
    'context="system_u:object_r:tmp_t:s0:c127,c456"', "fscontext=system_u:object_r:tmp_t:s0",
    "defcontext=system_u:object_r:tmp_t:s0", "rootcontext=system_u:object_r:tmp_t:s0", "defaults",
    "dev", "nodev", "diratime", "nodiratime", "dirsync", "exec", "noexec", "group", "nogroup",
    "owner", "noowner", "mand", "nomand", "_netdev", "nofail", "relatime", "norelatime",
    "strictatime", "nostrictatime", "lazytime", "nolazytime", "suid", "nosuid", "silent", "loud",
    "ro", "rw", "sync", "user", "nouser", "users", "nousers", "symfollow", "nosymfollow",
    "comment=the root", "x-systemd.device-timeout=0", "x-initrd.mount", "X-mount.mkdir=0755",
)  # fmt: skip
