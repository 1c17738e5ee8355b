#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Run by mmdebstrap after prepare.sh: makes the system one whose only dnf is dnf 5, as on Fedora 41 and
# later, and lets it have what an offline transaction needs.
#
# dnf5.sh ROOT
set -eu
root=$1
units=$root/usr/lib/systemd/system

ln -s dnf5 "$root/usr/bin/dnf"
# The plugin `local` looks for packages of the administrator, at a second's cost.
printf '[main]\nname = local\nenabled = 0\n' >"$root/etc/dnf/libdnf5-plugins/local.conf"

# dnf 5 asks logind to reboot, and has its inhibitor locks. D-Bus starts both when somebody asks.
for unit in dbus.service dbus.socket systemd-logind.service; do
    rm "$root/etc/systemd/system/$unit"
done
rm "$units/multi-user.target.wants/dbus.service" \
    "$units/multi-user.target.wants/systemd-logind.service"
rm "$root/etc/systemd/system-generators/systemd-system-update-generator"

# What this release starts beside what prepare.sh knows of.
for unit in imports.target systemd-ask-password.socket systemd-factory-reset.socket \
    systemd-journalctl.socket systemd-mute-console.socket systemd-sysinstall.socket \
    systemd-udevd-varlink.socket; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done

# Debian's package leaves the units of dnf 5 out. They are those of its sources, 5.4.4:
# dnf5/config/systemd/system, and the link is that of dnf5.spec.
cat >"$units/dnf5-offline-transaction.service" <<'END'
[Unit]
Description=Offline upgrades/transactions using DNF 5
Documentation=https://www.freedesktop.org/wiki/Software/systemd/SystemUpdates

DefaultDependencies=no
Requires=sysinit.target dbus.socket
After=sysinit.target systemd-journald.socket system-update-pre.target
Before=poweroff.target reboot.target shutdown.target system-update.target
OnFailure=dnf5-offline-transaction-cleanup.service

[Service]
# We are done when the script exits, not before
Type=oneshot
# Upgrade output goes to journal and on-screen.
StandardOutput=journal+console
ExecStart=/usr/bin/dnf5 offline _execute

[Install]
WantedBy=system-update.target
END
cat >"$units/dnf5-offline-transaction-cleanup.service" <<'END'
[Unit]
Description=Offline upgrade/transaction using DNF 5 failed
DefaultDependencies=no

[Service]
Type=oneshot
# Remove the symlink if it's still there, to protect against reboot loops.
ExecStart=/usr/bin/rm -fv /system-update
# If anything goes wrong, reboot back to the normal system.
ExecStart=/usr/bin/systemctl --no-block reboot
END
mkdir -p "$units/system-update.target.wants"
ln -s ../dnf5-offline-transaction.service "$units/system-update.target.wants/"
