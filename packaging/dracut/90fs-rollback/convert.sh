#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Converts the root, in the initramfs made for that, and continues the boot if the root is whole. A
# root that was not converted is mounted as ext4; the reason is on the console and in the kernel log.
# A conversion that has begun is not interrupted by signals.
trap '' INT TERM HUP
device=
read -r line </proc/cmdline
for word in $line; do
    case $word in
        fs-rollback.convert=*) device=${word#fs-rollback.convert=} ;;
    esac
done
[ -n "$device" ] || exit 0
{
    fs-rollback convert run --device "$device" --yes --have-backup </dev/null 2>&1
    echo $? >/run/fs-rollback-convert.code
} |
    while IFS= read -r said; do
        echo "$said" >/dev/console
        # Debug level, for the log alone: any other would show it on the console twice.
        echo "<7>$said" >/dev/kmsg
    done
# What udev knows about the device is still about an ext4.
udevadm trigger --action=change --subsystem-match=block
udevadm settle
btrfs device scan >/dev/null 2>&1
read -r code </run/fs-rollback-convert.code
# Somebody has to act, or the program was killed. If the root were mounted now, it would be lost:
# what was saved of it cannot be restored once the filesystem was used.
while :; do
    case $code in
        [0-3] | 126 | 127 | 130) break ;;
    esac
    [ "$code" = 4 ] ||
        echo "fs-rollback: it was killed ($code). Wait until btrfs-convert has ended, too" >/dev/console
    echo "fs-rollback: follow the instructions above in this shell, then type: exit" >/dev/console
    setsid sh -i </dev/console >/dev/console 2>&1
    fs-rollback convert run --device "$device" --yes --have-backup </dev/null >/dev/console 2>&1
    code=$?
done
exit 0
