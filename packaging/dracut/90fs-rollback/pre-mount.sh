#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# dracut's hook before the root is mounted, in an initramfs without systemd. It is sourced.
echo 0 >/proc/sys/kernel/ctrl-alt-del
/usr/sbin/fs-rollback-convert
