#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Run by mmdebstrap when the packages are installed: trims what no test reads, and makes the system
# one that boots to a job in seconds.
#
# prepare.sh ROOT
set -eu
root=$1

# Nothing here is installed again, and every byte is copied for every machine.
rm -rf "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* \
    "$root"/usr/share/bash-completion "$root"/usr/share/zoneinfo "$root"/usr/lib/udev/hwdb.*
find "$root/usr" -name '*.a' -delete

# Under emulation each process that is started costs a tenth of a second: what has nothing to do with
# filesystems, fstab and the order of units around them is left out. Looks at the journal, at
# systemd-tmpfiles and at udev's links for disks work as ever.
mask() {
    ln -sf /dev/null "$root/etc/systemd/system/$1"
}
for unit in apt-daily-upgrade.timer apt-daily.timer blk-availability.service dbus.service dbus.socket \
    dev-hugepages.mount dev-mqueue.mount dm-event.socket dnf-makecache.timer \
    dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer getty.target \
    kmod-static-nodes.service ldconfig.service lvm2-lvmpolld.socket lvm2-monitor.service \
    mdcheck_continue.timer mdcheck_start.timer mdmonitor-oneshot.timer mdmonitor.service \
    modprobe@.service proc-sys-fs-binfmt_misc.automount sys-fs-fuse-connections.mount \
    sys-kernel-config.mount sys-kernel-debug.mount sys-kernel-tracing.mount \
    systemd-ask-password-console.path systemd-ask-password-wall.path systemd-binfmt.service \
    systemd-boot-system-token.service systemd-creds.socket systemd-firstboot.service \
    systemd-hibernate-clear.service systemd-hostnamed.socket systemd-hwdb-update.service \
    systemd-initctl.socket systemd-journal-catalog-update.service systemd-journald-audit.socket \
    systemd-logind.service systemd-machine-id-commit.service systemd-modules-load.service \
    systemd-pcrextend.socket systemd-pcrlock.socket systemd-pcrmachine.service \
    systemd-pcrphase-sysinit.service systemd-pcrphase.service systemd-pstore.service \
    systemd-sysctl.service systemd-sysext.socket systemd-sysusers.service \
    systemd-timesyncd.service systemd-tmpfiles-clean.timer \
    systemd-tmpfiles-setup-dev-early.service systemd-tmpfiles-setup-dev.service \
    systemd-tpm2-setup-early.service systemd-tpm2-setup.service \
    systemd-udev-load-credentials.service systemd-update-utmp-runlevel.service \
    systemd-update-utmp.service systemd-user-sessions.service; do
    mask "$unit"
done
rm -f "$root"/etc/systemd/system/*.wants/ssh.service "$root"/etc/systemd/system/sshd.service
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
            80-drivers.rules | 99-systemd.rules) ;;
        # dracut copies what is masked as masked, and an initramfs has to find more than a disk.
        *-dm.rules | *-dm-notify.rules | *-lvm.rules | *-md-raid-*.rules) ;;
        *) ln -s /dev/null "$root/etc/udev/rules.d/${rules##*/}" ;;
    esac
done
cat >"$root/etc/systemd/system/systemd-udev-trigger.service.d/vm.conf" <<'END'
[Service]
ExecStart=
ExecStart=udevadm trigger --action=add --subsystem-match=block
END
