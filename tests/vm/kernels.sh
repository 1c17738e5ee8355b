#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Run by mmdebstrap when the packages are installed: puts two kernels into ROOT/kernels.
#
# kernels.sh ROOT
set -eu
root=$1

# Two kernels that differ in `uname -r`: the last but one of the cloud flavour, which starts quicker,
# and the newest of the other one, which has the driver of QEMU's watchdog. They are unpacked
# and not installed: their packages want initramfs-tools, and make initramfs files nobody boots.
chroot "$root" sh -eu <<'END'
newest() {
    apt-cache pkgnames linux-image-6 | grep -E "^linux-image-[0-9.]+-[0-9]+-$1\$" | sort -V |
        tail -n "$2" | head -n 1
}
names="$(newest cloud-amd64 2) $(newest amd64 1)"
mkdir /tmp/debs /kernels
cd /tmp/debs
chmod 0777 .
# shellcheck disable=SC2086 # two words
apt-get download --quiet=2 $names
for deb in *.deb; do
    dpkg-deb --extract "$deb" /tmp/debs/tree
done
for directory in /tmp/debs/tree/lib/modules/*; do
    version=${directory##*/}
    depmod --basedir=/tmp/debs/tree "$version"
    # What a root on btrfs, /boot on ext4, an ESP and a virtual machine's devices need; and a root on
    # LVM, LUKS or RAID.
    mkdir -p "/kernels/$version/modules"
    cp "$directory"/modules.builtin* "$directory/modules.order" "/kernels/$version/modules"
    for module in btrfs ext4 vfat nls_ascii nls_cp437 nls_iso8859-1 nls_utf8 crc32c_generic \
        virtio_blk virtio_pci virtio_console virtio_net loop efivarfs dm_mod dm_crypt raid1 xts \
        aesni_intel i6300esb; do
        modprobe --dirname=/tmp/debs/tree --set-version="$version" --show-depends "$module" ||
            [ "$module" = i6300esb ]
    done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u |
        while read -r file; do
            target=/kernels/$version/modules/${file#"$directory/"}
            mkdir -p "${target%/*}"
            cp "$file" "$target"
        done
    mkdir -p "/lib/modules/$version"
    cp -r "/kernels/$version/modules/." "/lib/modules/$version/"
    depmod "$version"
    cp "/lib/modules/$version"/modules.* "/kernels/$version/modules/"
    rm -r "/lib/modules/$version"
    cp "/tmp/debs/tree/boot/vmlinuz-$version" "/kernels/$version/modules/vmlinuz"
done
END
rm -rf "$root/tmp/debs"
