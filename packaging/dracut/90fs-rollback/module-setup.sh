#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# dracut module "fs-rollback": an initramfs that converts the root from ext4 to btrfs before it is
# mounted. Used only on request, by "fs-rollback convert prepare --at-next-boot".

check() {
    require_binaries fs-rollback e2fsck debugfs btrfs btrfs-convert blkid mount umount udevadm || return 1
    return 255
}

depends() {
    echo btrfs
}

installkernel() {
    hostonly='' instmods btrfs ext4
}

install() {
    local files
    mapfile -t files < <("$moddir/python-files")
    if [[ ${#files[@]} -eq 0 ]]; then
        dfatal "fs-rollback: cannot find the files that Python needs"
        exit 1
    fi
    inst_multiple "${files[@]}" fs-rollback e2fsck debugfs btrfs btrfs-convert blkid mount umount \
        udevadm
    inst_multiple -o setsid
    inst_script "$moddir/convert.sh" /usr/sbin/fs-rollback-convert
    # shellcheck disable=SC2154 # dracut's
    inst_hook emergency 05 "$moddir/emergency.sh"
    # It gives up after some minutes without a root; systemd alone would wait for ever.
    dracut_need_initqueue
    if dracut_module_included systemd; then
        inst_simple "$moddir/fs-rollback-convert.service" \
            "$systemdsystemunitdir/fs-rollback-convert.service"
        mkdir -p "$initdir$systemdsystemunitdir/initrd-root-fs.target.wants"
        ln -sf ../fs-rollback-convert.service \
            "$initdir$systemdsystemunitdir/initrd-root-fs.target.wants/fs-rollback-convert.service"
        # Ctrl-Alt-Del must not restart the machine during the conversion.
        mkdir -p "$initdir/etc/systemd/system" "$initdir/etc/systemd/system.conf.d"
        ln -sf /dev/null "$initdir/etc/systemd/system/ctrl-alt-del.target"
        printf '[Manager]\nCtrlAltDelBurstAction=none\n' \
            >"$initdir/etc/systemd/system.conf.d/fs-rollback.conf"
    else
        inst_hook pre-mount 05 "$moddir/pre-mount.sh"
    fi
}
