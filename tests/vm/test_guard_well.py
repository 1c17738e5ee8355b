# SPDX-License-Identifier: GPL-2.0-or-later
"""Guarded boots of machines that are well: what happens in them is no reason to go back."""

from __future__ import annotations

import pytest

from tests.vm.machine import Machine
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, all_wanted
from tests.vm.test_guard import _EXT4, _FOREVER, _ON, _STILL_WELL, _WELL, _entries, _story, _update

# As kdump does with its initramfs for a new kernel, in the guarded boot. And a daemon that a
# program leaves behind has its output still.
_FILL_BOOT = """
printf '#!/bin/sh\\nsleep infinity &\\n' >/etc/fs-rollback/health.d/daemon
printf '#!/bin/sh\\ncat /dev/zero >/boot/fill; i=0\\n' >/etc/fs-rollback/health.d/fill
printf 'while echo >/boot/fill-$i; do i=$((i + 1)); done 2>&-; sync; exit 0\\n' \\
    >>/etc/fs-rollback/health.d/fill
chmod 755 /etc/fs-rollback/health.d/*
sync
"""
_FULL_BOOT = """
[ -e /boot/fill-0 ] || [ -e /boot/fill ]
not cp /usr/bin/true /boot/more
"""


def _full_boot(machine: Machine) -> None:
    """A boot that is healthy makes the usual entry the default again, though /boot is full."""
    machine.boot(_ON + _FILL_BOOT, _update())
    machine.boot(_entries(_WELL, machine) + _FULL_BOOT)
    machine.boot(_STILL_WELL)


# As policycoreutils has it: selinux-autorelabel.service, .target and the generator.
_RELABEL = """
touch /.autorelabel
cat >/etc/systemd/system/selinux-autorelabel.service <<'END'
[Unit]
DefaultDependencies=no
Requires=local-fs.target
Conflicts=shutdown.target
After=local-fs.target
Before=shutdown.target
[Service]
ExecStart=/usr/bin/sh -c 'rm /.autorelabel; sync; systemctl --force reboot'
Type=oneshot
END
cat >/etc/systemd/system/selinux-autorelabel.target <<'END'
[Unit]
DefaultDependencies=no
Requires=sysinit.target selinux-autorelabel.service
Conflicts=shutdown.target
After=sysinit.target selinux-autorelabel.service
AllowIsolate=yes
END
cat >/etc/systemd/system-generators/selinux-autorelabel-generator.sh <<'END'
#!/bin/sh
[ ! -e /.autorelabel ] ||
    ln -sf /etc/systemd/system/selinux-autorelabel.target "$2/default.target"
END
chmod 755 /etc/systemd/system-generators/selinux-autorelabel-generator.sh
sync
"""


def _relabels(machine: Machine) -> None:
    """The guarded boot labels all files for SELinux and reboots: that says nothing of it."""
    machine.boot(_ON + _RELABEL, _update())
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot(_FOREVER)
    machine.boot(_entries(_WELL, machine) + "[ ! -e /.autorelabel ]\n")
    machine.boot(_STILL_WELL)


STORIES = [
    _story("full-boot-ext4", _EXT4, _full_boot),
    _story("relabel-ext4", _EXT4, _relabels),
]


if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_guard_of_what_is_well(story: Story, telling: Telling) -> None:
        telling.hear(story)
