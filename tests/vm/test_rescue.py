# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that no longer boots, put right from a rescue system that has its disks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.sandbox.engine import Engine
from tests.sandbox.product import build_product, rpms_for
from tests.sandbox.rpms import Package
from tests.vm.design import Boot, Design, Root
from tests.vm.kernels import kernel_package
from tests.vm.loader import NoBootError
from tests.vm.machine import Machine, repository_files
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, all_wanted

_RESCUE = Design(Root.TOP_LEVEL, Boot.IN_ROOT)

# It does not come up, and no file shows that: a root without an init nobody would be let back to.
_UPGRADE_AND_RUIN = """
[ "$(app)" = 1 ]
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
echo after >/home/after
printf '#!/bin/sh\nexit 1\n' >/usr/lib/systemd/broken
chmod +x /usr/lib/systemd/broken
mv /usr/lib/systemd/broken /usr/lib/systemd/systemd
"""

_FITS = """
[ "$(app)" = 1 ]
[ "$(rpm -q app)" = app-1-1.noarch ]
[ -z "$(rpm -V app)" ]
[ "$(rpm -q kernel-core)" = {package} ]
[ "$(uname -r)" = {kernel} ]
modprobe loop
[ "$(cat /home/after)" = after ]
findmnt --verify --tab-file /etc/fstab
fs-rollback status || [ $? -eq 1 ]
fs-rollback status --json | grep '"waiting": "nothing"'
"""

# `begin` and `end`: nothing of it stays mounted, or in use, or lies in /run.
_ON_DEVICE = """
device=$(readlink -f /dev/disk/by-id/virtio-attached-root)
uuid=$(blkid -s UUID -o value "$device")
findmnt /
begin() { cat /proc/self/mountinfo >/run/before; }
end() {
    cmp /run/before /proc/self/mountinfo
    not findmnt --source "$device"
    [ ! -e "/sys/fs/btrfs/$uuid" ]
    [ -z "$(find /run -maxdepth 1 -name 'fs-rollback.*')" ]
}
"""

_ROLL_BACK = f"""{_ON_DEVICE}
begin
fs-rollback status --device "$device" || [ $? -eq 1 ]
fs-rollback list --json --device "$device" | grep '"name": "yum_'
fs-rollback rollback --yes --dry-run --device "$device"
end
fs-rollback rollback --yes --device "$device"
end
# Second thoughts: it was not booted since, and is taken back, not rolled back once more.
fs-rollback undo --yes --device "$device" | grep 'Rollback canceled'
end
fs-rollback rollback --yes --device "$device"
code=0
fs-rollback delete 9999 --device "$device" || code=$?
[ "$code" -eq 2 ]
code=0
fs-rollback status --json --device "$device" >status || code=$?
[ "$code" -eq 1 ]
grep '"waiting": "reboot"' status
end
# The rescue system has no part in it.
code=0
fs-rollback rollback --yes || code=$?
[ "$code" -eq 2 ]
"""

_UNDO_ON_DEVICE = f"""{_ON_DEVICE}
begin
fs-rollback undo --yes --to-replaced --device "$device"
end
fs-rollback undo --yes --device "$device" | grep 'Rollback canceled'
end
"""

_UNDO_ON_ROOT = f"""{_ON_DEVICE}
begin
mount -o subvol=root "$device" /mnt
mount /dev/disk/by-id/virtio-attached-boot /mnt/boot
fs-rollback undo --yes --to-replaced --root /mnt
umount --recursive /mnt
mount -o subvol=root "$device" /mnt
mount /dev/disk/by-id/virtio-attached-boot /mnt/boot
grep 'exit 1' /mnt/usr/lib/systemd/systemd
fs-rollback list --root /mnt
umount --recursive /mnt
fs-rollback undo --yes --device "$device" | grep 'Rollback canceled'
end
"""


def _rescued(machine: Machine, undo: str) -> None:
    old, new = (kernel_package(kernel, replaces=True) for kernel in machine.base.kernels)
    machine.boot(_UPGRADE_AND_RUIN, repository_files([_app("2"), new]))
    _is_ruined(machine)
    rescue = Machine.build(_RESCUE, machine.directory / "rescue", machine.base, _product(machine))
    disks = machine.disks.images
    package = old.file_name[: -len(".rpm")]
    fits = _FITS.format(package=package, kernel=machine.base.kernels[0].version)
    rescue.boot(_ROLL_BACK, attached=disks)
    machine.boot(fits)
    if all_wanted():  # two boots more: tests/kernel/test_rescue.py has the undo in each layout
        rescue.boot(undo, attached=disks)
        machine.boot(fits)
    machine.boots += rescue.boots


def _is_ruined(machine: Machine) -> None:
    # Not one that merely took too long.
    with pytest.raises((LostMachineError, NoBootError), match=r"without an answer|not found"):
        machine.boot("true")


def _product(machine: Machine) -> list[Path]:
    return rpms_for(Engine.DNF4, build_product(machine.directory))


def _app(version: str) -> Package:
    files = {"/usr/bin/app": f"#!/bin/sh\necho {version}\n"}
    return Package("app", version, files=files)


def _by_device(machine: Machine) -> None:
    _rescued(machine, _UNDO_ON_DEVICE)


def _by_device_and_by_root(machine: Machine) -> None:
    _rescued(machine, _UNDO_ON_ROOT)


_NAMED = Design(Root.NAMED, Boot.EXT4, subvolumes=("home",))
_TOP_LEVEL = Design(Root.TOP_LEVEL, Boot.IN_ROOT)
STORIES = [
    Story(f"rescue-{_NAMED.name}", _NAMED, _by_device_and_by_root, packages=(_app("1"),)),
    Story(f"rescue-{_TOP_LEVEL.name}", _TOP_LEVEL, _by_device, packages=(_app("1"),)),
]


# All of them are rare: tests/kernel/test_rescue.py and tests/dnf/test_rescue.py do the same to
# disks and roots, without a boot.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_rescue(story: Story, telling: Telling) -> None:
        telling.hear(story)
