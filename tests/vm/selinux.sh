#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Run by mmdebstrap after prepare.sh: makes the system one that enforces its policy, and notes all that
# this denies.
#
# selinux.sh ROOT
set -eu
root=$1

sed -i 's/^SELINUX=.*/SELINUX=enforcing/' "$root/etc/selinux/config"
# The kernel itself prints a few denials a second, at most.
rm "$root/etc/systemd/system/systemd-journald-audit.socket"
# Labels all files in a boot that finds /.autorelabel.
rm "$root/etc/systemd/system-generators/selinux-autorelabel-generator.sh"
# As an administrator does it, who is not confined.
mkdir -p "$root/etc/systemd/system/vm-job.service.d"
cat >"$root/etc/systemd/system/vm-job.service.d/selinux.conf" <<'END'
[Service]
SELinuxContext=unconfined_u:unconfined_r:unconfined_t:s0
END
