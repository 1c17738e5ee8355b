#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Run by mmdebstrap when the packages are installed: puts two kernels into ROOT/kernels, trims what
# no test reads, and makes the system one that boots to a job in seconds.
#
# prepare.sh ROOT
set -eu
root=$1

# Two kernels that differ in `uname -r`: the two newest ABIs of the cloud flavour. They are unpacked
# and not installed: their packages want initramfs-tools, and make initramfs files nobody boots.
chroot "$root" sh -eu <<'END'
names=$(apt-cache pkgnames linux-image-6 | grep -E '^linux-image-[0-9.]+-[0-9]+-cloud-amd64$' |
    sort -V | tail -n 2)
[ "$(echo "$names" | wc -l)" -eq 2 ] || { echo "fewer than two kernels: $names" >&2; exit 1; }
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
    # What a root on btrfs, /boot on ext4, an ESP and a virtual machine's devices need.
    mkdir -p "/kernels/$version/modules"
    cp "$directory"/modules.builtin* "$directory/modules.order" "/kernels/$version/modules"
    for module in btrfs ext4 vfat nls_ascii nls_cp437 nls_iso8859-1 nls_utf8 crc32c_generic \
        virtio_blk virtio_pci virtio_console loop efivarfs; do
        modprobe --dirname=/tmp/debs/tree --set-version="$version" --show-depends "$module"
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

# Nothing here is installed again, and every byte is copied for every machine.
rm -rf "$root"/tmp/debs "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* \
    "$root"/usr/share/bash-completion "$root"/usr/share/zoneinfo "$root"/usr/lib/udev/hwdb.*
find "$root/usr" -name '*.a' -delete

# Under emulation each process that is started costs a tenth of a second: what has nothing to do with
# filesystems, fstab and the order of units around them is left out. Looks at the journal, at
# systemd-tmpfiles and at udev's links for disks work as ever.
mask() {
    ln -sf /dev/null "$root/etc/systemd/system/$1"
}
for unit in apt-daily-upgrade.timer apt-daily.timer dbus.service dbus.socket dev-hugepages.mount \
    dev-mqueue.mount dnf-makecache.timer dpkg-db-backup.timer e2scrub_all.timer \
    e2scrub_reap.service fstrim.timer getty.target kmod-static-nodes.service ldconfig.service \
    modprobe@.service proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-binfmt.service \
    systemd-boot-system-token.service systemd-hwdb-update.service systemd-journald-audit.socket \
    systemd-logind.service systemd-modules-load.service systemd-pstore.service \
    systemd-sysctl.service systemd-sysusers.service systemd-timesyncd.service \
    systemd-tmpfiles-clean.timer systemd-tmpfiles-setup-dev.service \
    systemd-update-utmp-runlevel.service systemd-update-utmp.service \
    systemd-user-sessions.service; do
    mask "$unit"
done
mkdir -p "$root/etc/systemd/system-generators" "$root/etc/udev/rules.d" \
    "$root/etc/systemd/system/systemd-udev-trigger.service.d"
for generator in "$root"/usr/lib/systemd/system-generators/*; do
    case ${generator##*/} in
        systemd-fstab-generator) ;;
        *) ln -s /dev/null "$root/etc/systemd/system-generators/${generator##*/}" ;;
    esac
done
for rules in "$root"/usr/lib/udev/rules.d/*; do
    case ${rules##*/} in
        50-udev-default.rules | 60-block.rules | 60-persistent-storage.rules | 64-btrfs.rules | \
            99-systemd.rules) ;;
        *) ln -s /dev/null "$root/etc/udev/rules.d/${rules##*/}" ;;
    esac
done
cat >"$root/etc/systemd/system/systemd-udev-trigger.service.d/vm.conf" <<'END'
[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=block
END
