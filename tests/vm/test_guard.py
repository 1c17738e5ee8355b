# SPDX-License-Identifier: GPL-2.0-or-later
"""Guarded boots that end well, and in every other way: with nobody at the keyboard."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Callable

import pytest

from tests.sandbox.engine import Engine
from tests.sandbox.rpms import Package
from tests.vm import grub
from tests.vm.design import MACHINE_ID, Boot, Design, Root
from tests.vm.disk import Disks
from tests.vm.kernels import kernel_package
from tests.vm.loader import GrubLike, Loader
from tests.vm.machine import Machine, repository_files
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, all_wanted, wanted
from tests.vm.there_and_back import app

_ON = """
printf 'guard = updates\nguard_then = stay\n' >>/etc/fs-rollback.conf
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
fs-rollback guard status | tee said
grep '^The next boot is guarded: ' said
grep 'the machine goes back to yum_' said
fs-rollback check >said || [ $? -eq 1 ]
grep -c 'guarded' said
"""
_WELL = """
for second in $(seq 60); do
    fs-rollback guard status | grep '^The next boot is not guarded' && break
    sleep 1
done
fs-rollback guard status
[ "$(app)" = 2 ]
findmnt --noheadings --output FSROOT --mountpoint / | not grep try_
not systemctl --quiet is-failed fs-rollback-healthy fs-rollback-health
ls {entries} | not grep guarded
"""
_STILL_WELL = """
[ "$(app)" = 2 ]
not grep fs_rollback.guard /proc/cmdline
[ ! -e /run/fs-rollback-guard ]
findmnt --noheadings --output FSROOT --mountpoint / | not grep try_
"""
_BACK = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x '/fs-snapshots/try_[0-9]*'
[ "$(app)" = 1 ]
for second in $(seq 60); do
    [ ! -e /run/motd.d/fs-rollback ] || break
    sleep 1
done
cat /run/motd.d/fs-rollback
fs-rollback guard status | tee said || [ $? -eq 1 ]
grep 'The next boot goes back to' said
tr '\\n' ' ' <said | grep "{reason}"
fs-rollback status >status || [ $? -eq 1 ]
grep '^Attention: after' status
code=0
setsid dnf --assumeyes upgrade >refused 2>&1 </dev/null || code=$?
cat refused
[ $code -ne 0 ]
grep 'fs-rollback guard acknowledge' refused
[ "$(app)" = 1 ]
fs-rollback rollback --yes
"""
_HOME = """
[ "$(app)" = 1 ]
findmnt --noheadings --output FSROOT --mountpoint / | not grep try_
fs-rollback guard acknowledge
setsid dnf --assumeyes upgrade </dev/null
[ "$(app)" = 2 ]
fs-rollback guard status | grep '^The next boot is guarded: '
"""
_REASON_UNKNOWN = "ended before it could  *report a  *reason"
_FOREVER = "sleep 600\n"


def _update() -> dict[str, bytes]:
    return repository_files([app("2")])


def _entries(job: str, machine: Machine) -> str:
    return job.replace("{entries}", machine.design.entries)


def _stays(machine: Machine) -> None:
    """A boot that is well makes its entry the default again."""
    _load(machine)
    machine.boot(_ON, _update())
    machine.boot(_entries(_WELL, machine))
    machine.boot(_STILL_WELL)


def _load(machine: Machine) -> None:
    if machine.design.boot is Boot.EXT4 and machine.design.machine_id != MACHINE_ID:
        machine.loader = grub.Grub(machine.disks, machine.directory)


def _falls_back(ruin: str, reason: str, job: str = "true") -> Callable[[Machine], None]:
    """Return a story of an update after which the machine does not come up, or not well."""

    def tell(machine: Machine) -> None:
        _load(machine)
        machine.boot(_ON + ruin + "sync\n", _update())
        with pytest.raises(LostMachineError, match="without an answer"):
            machine.boot(job)
        machine.boot(_BACK.format(reason=reason), _update())
        machine.boot(_HOME, _update())

    return tell


_GARBAGE = "rm /usr/lib/systemd/systemd; echo garbage >/usr/lib/systemd/systemd\n"
_GARBAGE += "chmod 755 /usr/lib/systemd/systemd\n"
_SCRIPT = """
printf '#!/bin/sh\\necho the database is empty\\nexit 3\\n' >/etc/fs-rollback/health.d/database
chmod 755 /etc/fs-rollback/health.d/database
"""
_SERVICE = """
echo 'health_units = broken.service' >>/etc/fs-rollback.conf
printf '[Service]\\nExecStart=/bin/false\\n' >/etc/systemd/system/broken.service
ln -s ../broken.service /etc/systemd/system/multi-user.target.wants/
"""
_EMPTY = "the database is empty"
_MOUNT = """
echo '/dev/gone /mnt ext4 x-systemd.device-timeout=5 0 0' >>/etc/fstab
"""
# As on a machine that has no test in it: the emergency shell waits for a person.
_EMERGENCY = f"""{_MOUNT}
rm /etc/systemd/system/emergency.service.d/vm.conf
mkdir -p /etc/systemd/system/fs-rollback-emergency.service.d
printf '[Service]\\nExecStartPre=\\nExecStartPre=/usr/bin/sleep 5\\n' \\
    >/etc/systemd/system/fs-rollback-emergency.service.d/soon.conf
"""
_SOON = """
mkdir -p /etc/systemd/system/fs-rollback-healthy.service.d
printf '[Unit]\\nJobTimeoutSec=30\\n' >/etc/systemd/system/fs-rollback-healthy.service.d/soon.conf
"""
_HANGING = """
cat >/usr/sbin/hang <<'END'
#!/bin/sh
{lines}
END
chmod 755 /usr/sbin/hang
cat >/etc/systemd/system/hang.service <<'END'
[Service]
Type=oneshot
ExecStart=/usr/sbin/hang
TimeoutStartSec=infinity
END
ln -s ../hang.service /etc/systemd/system/multi-user.target.wants/
"""
_HANG = _SOON + _HANGING.format(lines="sleep infinity")
# A process that leaves the only processor to nothing else: systemd cannot feed the watchdog.
_BUSY = """modprobe i6300esb
udevadm settle
sleep 5
echo -1 >/proc/sys/kernel/sched_rt_runtime_us
exec chrt --fifo 99 sh -c 'while :; do :; done'"""
_WATCHDOG = f"""{_HANGING.format(lines=_BUSY)}
mkdir -p /etc/systemd/system.conf.d
printf '[Manager]\\nRuntimeWatchdogSec=10\\n' >/etc/systemd/system.conf.d/watchdog.conf
"""


class _WithWatchdog:
    """A loader of a machine that has QEMU's watchdog, an Intel 6300ESB."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def arguments(self, disks: Disks, directory: Path) -> list[str]:
        """Return the arguments for a boot; see loader.Loader."""
        more = ["-device", "i6300esb", "-watchdog-action", "reset"]
        return [*self._loader.arguments(disks, directory), *more]


def _watched(machine: Machine) -> None:
    """The kernel of the update hangs, and the watchdog of the hardware resets the machine."""
    machine.loader = _WithWatchdog(machine.loader)
    new = machine.base.kernels[1]
    machine.boot(_ON + _WATCHDOG + "sync\n", repository_files([kernel_package(new), app("2")]))
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot(_FOREVER)
    machine.boot(_BACK.format(reason="the guarded boot"), _update())


_CHOSEN = """
[ "$(app)" = 2 ]
not grep fs_rollback.guard /proc/cmdline
for second in $(seq 60); do
    fs-rollback guard status | grep '^The next boot is guarded: ' && break
    sleep 1
done
journalctl -b -u fs-rollback-guard --no-pager | grep 'another boot entry was used'
"""


def _chosen(machine: Machine) -> None:
    """A person chooses the usual entry in the menu: the next boot is guarded in its place."""
    assert isinstance(machine.loader, GrubLike)
    machine.boot(_ON, _update())
    machine.loader.at_the_menu = lambda names: next(n for n in names if "fs-snapshot" not in n)
    machine.boot(_CHOSEN)
    machine.loader.at_the_menu = None
    machine.boot(_entries(_WELL, machine))
    machine.boot(_STILL_WELL)


_OFF = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x '/fs-snapshots/try_[0-9]*'
systemctl start fs-rollback-guard
fs-rollback guard off | grep '^The next boot is no longer guarded'
"""
_OLD_ROOT = """
[ "$(app)" = 2 ]
not grep fs_rollback.guard /proc/cmdline
"""


def _turned_off(machine: Machine) -> None:
    """A person in the snapshot wants the old root again."""
    machine.boot(_ON + _SCRIPT + "sync\n", _update())
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot(_FOREVER)
    machine.boot(_OFF)
    machine.boot(_OLD_ROOT)


_BECOMES_ROOT = """
[ "$(app)" = 1 ]
findmnt --noheadings --output FSROOT --mountpoint / | not grep try_
fs-rollback guard status | tee said || [ $? -eq 1 ]
grep 'the database is empty' said
grep '^The next boot is not guarded' said
"""


def _goes_back(machine: Machine) -> None:
    """With guard_then = rollback nobody has to do anything at all."""
    wanted = "sed -i /^guard_then/d /etc/fs-rollback.conf\nsync\n"
    machine.boot(_ON + _SCRIPT + wanted, _update())
    for _ in ("unhealthy", "in the snapshot"):
        with pytest.raises(LostMachineError, match="without an answer"):
            machine.boot(_FOREVER)
    machine.boot(_BECOMES_ROOT)


_ALWAYS = """
for second in $(seq 60); do
    fs-rollback guard status | grep '^The next boot is guarded' && break
    sleep 1
done
fs-rollback guard status
"""


def _always(machine: Machine) -> None:
    """A healthy machine is never sent back."""
    machine.boot(
        _ON + "sed -i 's/guard = updates/guard = always/' /etc/fs-rollback.conf", _update()
    )
    for _ in range(50 if all_wanted() else 3):
        machine.boot(_ALWAYS + _HEALTHY)


_HEALTHY = """
[ "$(app)" = 2 ]
grep fs_rollback.guard /proc/cmdline
"""
_EMPTY = "the database is empty"
_APP: tuple[Package, ...] = (app("1"),)
_ESP = Design(Root.NAMED, Boot.ESP)
_EXT4 = Design(Root.NAMED, Boot.EXT4)
_GRUB = replace(_EXT4, machine_id="e" + MACHINE_ID[1:])
_NOT_UP = "it did not finish booting in time"


def _story(
    name: str,
    design: Design,
    tell: Callable[[Machine], None],
    engine: Engine = Engine.DNF4,
    *,
    rare: bool = False,
) -> Story:
    return Story(f"guard-{name}", design, tell, _APP, engine, rare=rare)


# A kernel that comes with the update, whose initramfs is cut off: it panics, there is no init.
_NO_INITRAMFS = """
head --bytes=100 {initramfs} >cut
cat cut >{initramfs}
sync
"""


def _panics(machine: Machine) -> None:
    """The kernel of the update panics, long before there is anything of ours."""
    _load(machine)
    old, new = machine.base.kernels
    ruin = _NO_INITRAMFS.format(initramfs=machine.design.kernel_files(new.version)[1])
    update = repository_files([kernel_package(new), app("2")])
    machine.boot(_ON + ruin, update)
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot("true")
    look = f'[ "$(uname -r)" = {old.version} ]\n'
    machine.boot(look + _BACK.format(reason=_REASON_UNKNOWN), update)


def _lacks_modules(machine: Machine) -> None:
    """The kernel of the update has no modules: nothing mounts /boot."""
    new = machine.base.kernels[1]
    update = repository_files([kernel_package(new), app("2")])
    machine.boot(f"{_ON}rm -r /usr/lib/modules/{new.version}\nsync\n", update)
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot("true")
    machine.boot(_BACK.format(reason="the guarded boot"), update)


# What is left of the disk has room for no file.
_FILL = """
cat /dev/zero >/fill || true
sync
cat /dev/zero >/fill2 || true
"""


def _full_disk(machine: Machine) -> None:
    """A machine that is well but for its full disk is no reason to go back."""
    machine.boot(_ON + _FILL, _update())
    machine.boot(_entries(_WELL, machine))
    machine.boot(_STILL_WELL)


STORIES = [
    _story("well-esp", _ESP, _stays, rare=True),
    _story("well-ext4", _GRUB, _stays),
    _story("init-esp", _ESP, _falls_back(_GARBAGE, _REASON_UNKNOWN)),
    _story("panic-ext4", _GRUB, _panics, rare=True),
    _story("panic-esp", _ESP, _panics, rare=True),
    _story("full-disk-ext4", _EXT4, _full_disk, rare=True),
    _story("full-disk-esp", _ESP, _full_disk, rare=True),
    _story("init-ext4", _GRUB, _falls_back(_GARBAGE, _REASON_UNKNOWN), rare=True),
    _story("script-esp", _ESP, _falls_back(_SCRIPT, _EMPTY, _FOREVER), rare=True),
    _story("script-ext4", _EXT4, _falls_back(_SCRIPT, _EMPTY, _FOREVER), Engine.DNF5),
    _story("service-esp", _ESP, _falls_back(_SERVICE, "broken.service is", _FOREVER), rare=True),
    _story("modules-ext4", _EXT4, _lacks_modules, rare=True),
    _story("power-button-ext4", _EXT4, _falls_back(_MOUNT, "but ended before it"), rare=True),
    _story("emergency-ext4", _EXT4, _falls_back(_EMERGENCY, _NOT_UP), rare=True),
    _story("hang-esp", _ESP, _falls_back(_HANG, "waiting for: .*hang.service"), rare=True),
    _story("watchdog-ext4", _EXT4, _watched, rare=True),
    _story("chosen-ext4", _EXT4, _chosen, rare=True),
    _story("off-esp", _ESP, _turned_off, rare=True),
    _story("rollback-esp", _ESP, _goes_back, rare=True),
    _story("always-esp", _ESP, _always, rare=True),
]


@pytest.mark.parametrize("story", wanted(STORIES), ids=str)
def test_guard(story: Story, telling: Telling) -> None:
    telling.hear(story)
