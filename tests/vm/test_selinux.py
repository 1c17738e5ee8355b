# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that enforces SELinux, with the reference policy as Debian has it.

Fedora's is another one: there dnf and rpm have types of their own, and rpm labels what it installs.
Rare, for what its boots cost: labels are in tests/kernel/test_labels.py each time.
"""

from __future__ import annotations

import os
from pathlib import Path

import btrfsutil
import pytest

from tests.vm.design import Boot, Design, Root
from tests.vm.kernels import kernel_package
from tests.vm.machine import Machine, repository_files
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, all_wanted
from tests.vm.there_and_back import app

_NESTED = "/var/lib/machines"
_DESIGN = Design(Root.NAMED, Boot.EXT4, nested=(_NESTED,), selinux=True)
_LABEL = "security.selinux"
_OLD = "yum_20260101000000"
# It labels some 20,000 files.
_LABELLING_TIMEOUT_S = 1800.0

# `as_labelled` fails where restorecon(8) would change a type, `no_denials` where the policy has
# denied something to other programs than those of Debian's which it denies it in a machine without
# us, too: depmod in a scriptlet, the others in each boot.
_FUNCTIONS = f"""
[ "$(getenforce)" = Enforcing ]
[ "$(id -Z | cut -d: -f3)" = unconfined_t ]
# It may not write to files.
mislabelled() {{
    restorecon -R -n -v "$@" | cat
}}
as_labelled() {{
    mislabelled /boot /etc /root {_NESTED} /var/cache/fs-rollback /usr/bin/app >would
    cat would
    [ ! -s would ]
}}
no_denials() {{
    journalctl --boot --no-pager | grep 'avc:  denied' >denied
    cat denied
    not grep -vE 'comm="(depmod|systemd-tmpfile|systemd-udevd)"' denied
}}
"""

# The kernel takes the place of the old one, whose files come back with the rollback.
_UPGRADE = """
for file in /srv/none /srv/unknown /boot/grub2/grubenv; do
    mislabelled $file | grep 'Would relabel'
done
printf 'guard = updates\\nguard_then = stay\\n' >>/etc/fs-rollback.conf
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
fs-rollback guard status | grep '^The next boot is guarded: '
as_labelled
no_denials
"""
_WELL = """
grep fs_rollback.guard /proc/cmdline
for second in $(seq 120); do
    fs-rollback guard status | grep '^The next boot is not guarded' && break
    sleep 1
done
[ "$(app)" = 2 ]
not systemctl --quiet is-failed fs-rollback-healthy fs-rollback-health
for file in /root/late /srv/none /srv/unknown; do echo late >$file; done
fs-rollback rollback --yes >said
cat said
not grep SELinux said
for file in /root/later /var/log/later; do echo later >$file; done
as_labelled
no_denials
"""
_ARRIVED = """
[ "$(app)" = 1 ]
journalctl --boot --no-pager --unit=fs-rollback-boot | tee journal
grep 'came up in the new root' journal
grep 'brought over .*/root' journal
[ "$(cat /root/late /srv/none /srv/unknown | uniq)" = late ]
[ "$(cat /root/later /var/log/later | uniq)" = later ]
mislabelled /var/log/later | not grep relabel
as_labelled
fs-rollback check >checked || [ $? -eq 1 ]
not grep SELinux checked
cp /etc/fs-rollback.conf /tmp/before
echo '# changed' >>/etc/fs-rollback.conf
fs-rollback restore --yes latest /etc/fs-rollback.conf
ls -Z /etc/fs-rollback.conf*
fs-rollback mount latest
mislabelled -x /run/fs-rollback | not grep relabel
fs-rollback umount latest
as_labelled
fs-rollback undo --yes --to-replaced
no_denials
"""
_BACK = """
[ "$(app)" = 2 ]
as_labelled
no_denials
"""


def _there_and_back(machine: Machine) -> None:
    """A guarded upgrade, its rollback, and the way back, with files among it that have no label."""
    with machine.disks.top() as top:
        for name in ("none", "unknown"):
            top.joinpath("root/srv", name).write_text("early\n")
        # What is left where a module of the policy was removed.
        unknown = b"system_u:object_r:removed_t:s0\0"
        os.setxattr(top / "root/srv/unknown", _LABEL, unknown)
    with machine.disks.boot_partition() as boot:
        os.removexattr(boot / "grub2/grubenv", _LABEL)
    kernel = kernel_package(machine.base.kernels[1], replaces=True)
    machine.boot(_FUNCTIONS + _UPGRADE, repository_files([app("2"), kernel]))
    for job in (_WELL, _ARRIVED, _BACK):
        machine.boot(_FUNCTIONS + job)


_TO_UNLABELLED = f"""
fs-rollback rollback {_OLD} --yes >said 2>&1
cat said
grep 'labels all its files for SELinux' said
grep 'enforcing=0' said
no_denials
"""
_LABELLED = """
[ ! -e /.autorelabel ]
journalctl --no-pager --unit=fs-rollback-boot | grep 'came up in the new root'
as_labelled
no_denials
"""


def _from_before_labels(machine: Machine) -> None:
    """The snapshot has its policy, and was taken before its files were labelled."""
    with machine.disks.top() as top:
        copy = top / "fs-snapshots" / _OLD
        copy.parent.mkdir(mode=0o700)
        btrfsutil.create_snapshot(str(top / "root"), str(copy))
        for path in (copy, *copy.rglob("*")):
            _take_label(path)
        btrfsutil.set_subvolume_read_only(str(copy), True)
    machine.boot(_FUNCTIONS + _TO_UNLABELLED)
    # Nothing in this policy can do that while it is enforced: not even systemd has its label.
    _edit_entries(machine, "enforcing=1", "enforcing=0")
    with pytest.raises(LostMachineError, match="without an answer"):  # it labels, and reboots
        machine.boot("true", timeout_s=_LABELLING_TIMEOUT_S)
    _edit_entries(machine, "enforcing=0", "enforcing=1")
    machine.boot(_FUNCTIONS + _LABELLED)


def _edit_entries(machine: Machine, old: str, new: str) -> None:
    """Change a command line as a person does in the menu, for one boot."""
    with machine.disks.boot_partition() as boot:
        for entry in boot.glob("loader/entries/*.conf"):
            entry.write_text(entry.read_text().replace(old, new))


def _take_label(path: Path) -> None:
    if _LABEL in os.listxattr(path, follow_symlinks=False):
        os.removexattr(path, _LABEL, follow_symlinks=False)


_APP = (app("1"),)
STORIES = [
    Story("selinux", _DESIGN, _there_and_back, _APP),
    Story("selinux-from-before-labels", _DESIGN, _from_before_labels, _APP),
]


# Both are rare: with the policy a boot takes twice as long. tests/kernel/test_labels.py looks at
# labels each time.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_selinux(story: Story, telling: Telling) -> None:
        telling.hear(story)
