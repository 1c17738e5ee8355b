#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# dracut's hook before its emergency shell, in the initramfs that converts. It is sourced.
cat >/dev/console <<'END'

fs-rollback: this boot was to convert the root to btrfs, and the machine cannot go on. If the power
went in the moment in which ext4 becomes btrfs, no root is found, and this goes on with it; DEV is
the device of the root, blkid and /proc/partitions tell which:

    fs-rollback convert run --device DEV --have-backup

Then restart. In all other cases the rescue sheet tells what to do.

END
