#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Boots a sandbox: in a mount namespace of its own, mounts what the kernel, an initramfs and systemd
# would mount for this command line, then makes that the root of the namespace.
#
# boot.sh IMAGE UUID MOUNT_POINT REPOSITORY COMMAND_LINE
set -eu
image=$1 uuid=$2 root=$3 repository=$4 command_line=$5

# The initramfs: the root as the command line says; without rootflags the default subvolume.
flags= overlay=
for word in $command_line; do
    case $word in
        root=UUID="$uuid") ;;
        root=*) echo "boot.sh: no such root: $word" >&2; exit 1 ;;
        rootflags=*) flags=${word#rootflags=} ;;
        systemd.volatile=overlay) overlay=yes ;;
    esac
done
# mount's own loop option sets autoclear before anything can go wrong: no device is left behind.
# Not "ro" as a kernel would: the loop device would be read-only too, and stay so.
mount -t btrfs -o "loop${flags:+,$flags}" "$image" "$root"
device=$(findmnt --noheadings --nofsroot --output SOURCE --mountpoint "$root")
if [ "$overlay" ]; then
    # As systemd-volatile-root does: what is written stays in memory, and the root below it is read.
    mount -o remount,ro "$root"
    mount -t tmpfs tmpfs "$root/run"
    mkdir "$root/run/upper" "$root/run/work"
    mount -t overlay -o "lowerdir=$root,upperdir=$root/run/upper,workdir=$root/run/work" overlay "$root"
fi

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
# A /dev of its own: the disks of the host are none of the sandbox's business.
mount -t tmpfs -o mode=755 devtmpfs "$root/dev"
cp -a /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty "$device" "$root/dev"
mkdir -p "$root/dev/disk/by-uuid" "$root/dev/shm"
ln -s "../../${device##*/}" "$root/dev/disk/by-uuid/$uuid"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mkdir "$root/run/repo" "$root/run/lock"
mount --bind "$repository" "$root/run/repo"
printf '%s\n' "$command_line" >"$root/run/cmdline"
mount --bind "$root/run/cmdline" "$root/proc/cmdline"
# Each boot is another one.
cat /proc/sys/kernel/random/uuid >"$root/run/boot_id"
mount --bind "$root/run/boot_id" "$root/proc/sys/kernel/random/boot_id"
# The kernel that the command line names, and not the host's, is the one that runs.
image_name=${command_line%% *}
printf '%s\n' "${image_name#*vmlinuz-}" >"$root/run/osrelease"
mount --bind "$root/run/osrelease" "$root/proc/sys/kernel/osrelease"

# systemd: / again with the options of fstab, then what else fstab names.
while read -r spec point type options _; do
    case $spec:$type in
        \#*) continue ;;
        UUID="$uuid":btrfs) ;;
        UUID=*:btrfs) echo "boot.sh: fstab: no such device: $spec" >&2; exit 1 ;;
        *) continue ;;
    esac
    case $point in
        /) [ "$overlay" ] || mount -o "remount,$options" "$root" ;;
        *) mount -t btrfs -o "$options" "$device" "$root$point" ;;
    esac
done <"$root/etc/fstab"

# pivot_root rather than chroot: /proc/self/mountinfo is then that of a real machine, and the
# filesystems of the host are gone.
cd "$root"
pivot_root . .
umount --lazy .
