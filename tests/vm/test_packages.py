# SPDX-License-Identifier: GPL-2.0-or-later
"""What the packages bring along beside the command, on machines that were installed with dnf.

Every machine of this tier is: here it is looked at.
"""

from __future__ import annotations

import pytest

from tests.sandbox.rpms import Package
from tests.vm.design import Boot, Design, Root
from tests.vm.machine import Machine, repository_files
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, wanted

_DESIGN = Design(Root.NAMED, Boot.IN_ROOT, subvolumes=("home",))

_INSTALLED = """
rpm --verify fs-rollback python3-dnf-plugin-fs-snapshot
not rpm --query libdnf5-plugin-fs-snapshot
[ "$(systemctl is-enabled fs-rollback-boot.service fs-rollback-settle.service | uniq)" = enabled ]
not systemctl --quiet is-enabled fs-rollback-prune.timer
[ "$(systemctl show --property NoNewPrivileges --value fs-rollback-boot.service)" = yes ]
[ -z "$(systemctl --failed --plain --no-legend)" ]
# Three snapshots, of which one goes: the one by hand is counted apart. The timer has missed a day.
dnf --assumeyes install app
fs-rollback create
dnf --assumeyes reinstall app
[ "$(fs-rollback list --json | grep -c '"name": "yum_')" -eq 3 ]
printf 'keep_last = 1\\nkeep_days = 0\\n' >/etc/fs-rollback.conf
mkdir -p /var/lib/systemd/timers /etc/systemd/system/fs-rollback-prune.timer.d
touch --date='2 days ago' /var/lib/systemd/timers/stamp-fs-rollback-prune.timer
printf '[Timer]\\nRandomizedDelaySec=0\\nAccuracySec=1s\\n' \
    >/etc/systemd/system/fs-rollback-prune.timer.d/at-once.conf
systemctl daemon-reload
systemctl enable --now fs-rollback-prune.timer
# systemd says it in the journal when the service has ended. What the service itself said may get
# there after that.
for _ in $(seq 60); do
    journalctl -b -u fs-rollback-prune --no-pager >journal
    not grep -E 'Finished|Failed' journal || break
    sleep 1
done
journalctl --sync
journalctl -b -u fs-rollback-prune --no-pager | tee journal
grep 'deleted 1 of 3 snapshots' journal
[ "$(systemctl show --property Result --value fs-rollback-prune.service)" = success ]
echo old >/home/new-since
fs-rollback rollback --yes
echo new >/home/new-since
echo new >/root/new-since
"""

_SETTLED = """
journalctl -b -u fs-rollback-boot --no-pager | tee journal
grep 'came up in the new root' journal
grep 'brought over .* /root' journal
[ "$(cat /home/new-since /root/new-since | uniq)" = new ]
fs-rollback status | grep Last
[ -z "$(systemctl --failed --plain --no-legend)" ]
"""


def _installed(machine: Machine) -> None:
    machine.boot(_INSTALLED, repository_files([_app("1")]))
    machine.boot(_SETTLED)


# PackageKit with its libdnf backend is not to be had on the system of these machines. What stands
# in for it does what that does: remove the link, update, write to dnf's history, reboot.
_PACKAGEKIT = """
rm /etc/systemd/system-generators/systemd-system-update-generator
mkdir -p /var/lib/PackageKit /var/repository
cp -r /run/job/files/repository/. /var/repository
sed -i 's,^baseurl=.*,baseurl=file:///var/repository,' /etc/yum.repos.d/*.repo
cat >/usr/libexec/pk-offline-update <<'END'
#!/bin/sh
rm /system-update
dnf --assumeyes --disableplugin=fs-snapshot upgrade
systemctl --no-block reboot
END
chmod +x /usr/libexec/pk-offline-update
cat >/usr/lib/systemd/system/packagekit-offline-update.service <<'END'
[Unit]
DefaultDependencies=no
Requires=sysinit.target
After=sysinit.target system-update-pre.target
Before=shutdown.target system-update.target
FailureAction=reboot
[Service]
Type=oneshot
ExecStart=/usr/libexec/pk-offline-update
END
mkdir -p /usr/lib/systemd/system/system-update.target.wants
ln -s ../packagekit-offline-update.service /usr/lib/systemd/system/system-update.target.wants/
ln -s /var/lib/PackageKit/prepared-update /system-update
"""

_UPDATED = """
[ "$(app)" = 2 ]
[ ! -L /system-update ]
fs-rollback show latest | tee shown
grep 'pk-offline-update' shown
grep -i 'done' shown
[ "$(fs-rollback list --json | grep -c '"name": "yum_')" -eq 1 ]
fs-rollback rollback --yes
"""

_ROLLED_BACK = """
# And not into system-update.target again, with what is still prepared in the snapshot.
[ "$(app)" = 1 ]
[ ! -L /system-update ]
# The next one cannot have its snapshot.
cp -r /run/job/files/repository/. /var/repository
echo nonsense >/etc/fs-rollback.conf
ln -s /var/lib/PackageKit/prepared-update /system-update
"""

_STOPPED = """
[ "$(app)" = 1 ]
[ ! -L /system-update ]
cat /var/lib/PackageKit/offline-update-competed
grep nonsense /var/lib/PackageKit/offline-update-competed
"""


def _updated_offline(machine: Machine) -> None:
    machine.boot(_PACKAGEKIT, repository_files([_app("2")]))
    _boots_and_reboots(machine)
    machine.boot(_UPDATED)
    machine.boot(_ROLLED_BACK, repository_files([_app("3")]))
    _boots_and_reboots(machine)
    machine.boot(_STOPPED)


def _boots_and_reboots(machine: Machine) -> None:
    """A boot into system-update.target: nothing there does a job, and it ends in a reboot."""
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot("true")


def _app(version: str) -> Package:
    return Package("app", version, files={"/usr/bin/app": f"#!/bin/sh\necho {version}\n"})


STORIES = [
    Story("packages", _DESIGN, _installed),
    Story("offline-update", _DESIGN, _updated_offline, packages=(_app("1"),), rare=True),
]


@pytest.mark.parametrize("story", wanted(STORIES), ids=str)
def test_packages(story: Story, telling: Telling) -> None:
    telling.hear(story)
