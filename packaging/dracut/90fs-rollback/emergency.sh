#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# dracut's hook before its emergency shell, in the initramfs that converts. It is sourced.
cat >/dev/console <<'END'

fs-rollback: this boot was to convert the root to btrfs, and the machine cannot continue. If the
power failed at the moment when ext4 becomes btrfs, no root is found. Then continue the conversion;
DEV is the device of the root (see blkid and /proc/partitions):

    fs-rollback convert run --device DEV --have-backup

Then restart. In all other cases, follow the rescue sheet.

END
