#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# A copy of this system on an ext4 of its own, on a loop device: it is checked, prepared, converted to
# btrfs, and made ext4 again. What is not told here is a boot of it.
# shellcheck source=tests/tmt/lib.sh
. ./lib.sh

image=/var/tmp/fs-rollback-story.img
copy=$notes/copy
from=$notes/from
kernel=$(uname -r)
device=
label=
! enforcing || label=%Z

# files: of the copy, with type, mode, owner, label and what is in them, and with the time where it is
# no directory. The conversion itself changes /etc/fstab and the store.
files() (
    cd "$copy" || exit
    set -- -xdev ! -path ./etc/fstab ! -path './lost+found*' \
        ! -path './fs-snapshots*' ! -path './ext2_saved*'
    find . "$@" -printf "%p %y %m %U:%G $label %l\n" | sort
    find . "$@" ! -type d -printf '%p %T+\n' | sort
    find . "$@" -type f -print0 | sort --zero-terminated | xargs --null cksum
)

# inside COMMAND...: in the copy, as its administrator runs it in a chroot; in a mount namespace of its
# own, so that no service goes on seeing the copy mounted afterwards.
inside() {
    # shellcheck disable=SC2016 # another shell's
    unshare --mount sh -euc 'copy=$1
        shift
        for name in dev proc sys run; do mount --rbind "/$name" "$copy/$name"; done
        exec chroot "$copy" "$@"' inside "$copy" "$@"
}

leave() {
    ! mountpoint --quiet "$copy" || umount --recursive "$copy"
    [ -z "$device" ] || losetup --detach "$device"
    rm -f "$image"
}
trap 'ended; leave' EXIT

step 'a system on ext4: a copy of this one, with the kernel that runs'
mkdir -p "$copy" "$from"
shown fs-rollback create --message 'to be copied'
shown fs-rollback mount latest "$from"
modprobe loop
truncate --size=12G "$image"
device=$(losetup --find --show "$image")
mkfs.ext4 -q "$device"
uuid=$(blkid --match-tag UUID --output value "$device")
mount "$device" "$copy"
# Of a snapshot, in which nothing changes meanwhile, and not this image.
cp --archive --one-file-system "$from/." "$copy"
fs-rollback umount
for point in /boot /var; do
    in_root "$point" || cp --archive --one-file-system "$point/." "$copy$point"
done
echo "UUID=$uuid / ext4 defaults 1 1" >"$copy/etc/fstab"
entry=$copy/boot/loader/entries/$(cat /etc/machine-id)-$kernel.conf
find "$copy/boot/loader/entries" -name '*.conf' ! -path "$entry" -delete
find "$copy/boot" "$copy/lib/modules" -maxdepth 1 \
    \( -name 'vmlinuz-*' -o -name 'initramfs-*' -o -name '[0-9]*.[0-9]*' \) \
    ! -name "*$kernel*" -exec rm -r {} +
sed -E -i -e 's,^(linux|initrd) [^ ]*/,\1 /boot/,' "$entry"
for file in "$entry" "$copy/etc/kernel/cmdline" "$copy/etc/default/grub"; do
    [ ! -e "$file" ] || sed -E -i -e 's, ?rootflags=[^ "]*,,; s,root=[^ "]*,root=UUID='"$uuid," "$file"
done
cat "$entry"

step 'check: it can be converted'
code=0
shown inside fs-rollback convert check --have-backup || code=$?
[ "$code" -le 1 ]

step 'prepare, with the initramfs of dracut that would convert it at the next boot'
shown inside fs-rollback convert prepare --at-next-boot --yes --have-backup
grep -F 'Prepared. ' "$notes/shown"
files >"$notes/files-before"
umount "$copy"

step 'check --device, of a system that does not run'
code=0
shown fs-rollback convert check --device "$device" --have-backup || code=$?
[ "$code" -le 1 ]

step 'run --device: it is btrfs, and each file is what it was'
shown fs-rollback convert run --device "$device" --yes --have-backup
grep -F 'Converted: ' "$notes/shown"
[ "$(blkid --probe --match-tag TYPE --output value "$device")" = btrfs ]
[ "$(blkid --probe --match-tag UUID --output value "$device")" = "$uuid" ]
btrfs check --readonly "$device"
mount "$device" "$copy"
grep -E "^UUID=$uuid +/ +btrfs " "$copy/etc/fstab"
files | diff "$notes/files-before" -
echo lost >"$copy/written-since"
umount "$copy"

step 'run --back: it is the ext4 again'
shown fs-rollback convert run --device "$device" --back --yes
grep -F /written-since "$notes/shown"
[ "$(blkid --probe --match-tag TYPE --output value "$device")" = ext4 ]
e2fsck -f -n "$device"
mount "$device" "$copy"
files | diff "$notes/files-before" -

step 'abort: nothing is left of it'
shown inside fs-rollback convert abort --yes
[ ! -e "$copy/fs-snapshots" ]
