#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# In the initramfs that converts: does it, and lets the boot go on if there is a whole root. One that
# was not converted is mounted as ext4; the reason stands on the console and in the kernel's log.
# What is converted is converted to the end, whoever asks for another one.
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
        # For the log alone: as anything else it would be on the console twice.
        echo "<7>$said" >/dev/kmsg
    done
# What is known of the device is known of an ext4.
udevadm trigger --action=change --subsystem-match=block
udevadm settle
btrfs device scan >/dev/null 2>&1
read -r code </run/fs-rollback-convert.code
# It needs hands, or what did it was killed. Mounted now, it would be lost: what was saved of it is
# given back to nothing that was used.
while :; do
    case $code in
        [0-3] | 126 | 127 | 130) break ;;
    esac
    [ "$code" = 4 ] ||
        echo "fs-rollback: it was ended ($code). Wait until btrfs-convert is gone, too" >/dev/console
    echo "fs-rollback: do what is said above in this shell, then leave it: exit" >/dev/console
    setsid sh -i </dev/console >/dev/console 2>&1
    fs-rollback convert run --device "$device" --yes --have-backup </dev/null >/dev/console 2>&1
    code=$?
done
exit 0
