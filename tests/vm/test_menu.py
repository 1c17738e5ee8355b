# SPDX-License-Identifier: GPL-2.0-or-later
"""The way back from the boot menu, when nothing else comes up; and what the first boot settles."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.sandbox.rpms import Package
from tests.vm.design import Boot, Design, Root
from tests.vm.loader import GrubLike
from tests.vm.machine import Machine, repository_files
from tests.vm.qemu import LostMachineError
from tests.vm.stories import Story, Telling, all_wanted

_ENTRY = "fs-snapshot-"

_UPGRADE = """
[ "$(app)" = 1 ]
echo before >/home/data
dnf --assumeyes upgrade 2>&1 | tee upgrade
not grep -i 'boot menu' upgrade
[ "$(app)" = 2 ]
[ "$(ls {entries} | grep -c fs-snapshot-)" -eq 1 ]
cat {entries}/*fs-snapshot-*.conf |
    grep -E '^title .* snapshot [0-9]+, before dnf upgrade, 20[0-9-]+ [0-9:]+$'
code=0
fs-rollback check --json >check || code=$?
[ "$code" -le 1 ]
grep '"grade": "ok"' check
not grep '"grade": "broken"' check
"""

# Nothing is left to start.
_RUIN = "rm /usr/lib/systemd/systemd\n"

# A trial: what the snapshot has, in a root that can be written to, and nothing of the old one.
_IN_A_TRIAL = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x '/fs-snapshots/try_[0-9]*'
[ "$(app)" = 1 ]
[ "$(rpm -q app)" = app-1-1.noarch ]
fs-rollback status >status || [ $? -eq 1 ]
head -1 status | grep 'This machine runs a trial of yum_'
findmnt --noheadings --raw --output FSROOT --types btrfs >mounted
not grep -vE '^/(fs-snapshots/try_|home|boot)' mounted
findmnt --verify --tab-file /etc/fstab
echo works >/var/lib/works
touch /var/lib/machines/works
systemctl --failed --no-legend --plain >failed
cat failed
[ ! -s failed ]
"""

# Without an argument; and what is done in the trial can be taken back in it.
_BACK_FROM_THE_TRIAL = """
fs-rollback rollback --yes
fs-rollback status | grep -i 'waiting.*reboot'
not dnf --assumeyes remove app
fs-rollback undo --yes
fs-rollback status >status || true
grep -i 'waiting:.*nothing' status
fs-rollback rollback --yes
"""

_ROLLED_BACK = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -v try_
[ "$(app)" = 1 ]
[ "$(rpm -q app)" = app-1-1.noarch ]
[ -z "$(rpm -V app)" ]
[ "$(cat /home/data)" = before ]
[ ! -e /var/lib/works ]
fs-rollback status --json | grep '"waiting": "nothing"'
fs-rollback status | grep 'Last rollback'
fs-rollback create
fs-rollback delete yum_
""".replace(
    "fs-rollback delete yum_",
    "fs-rollback delete $(fs-rollback list --json | sed -n "
    '\'s/.*"name": "\\(yum_[0-9]*\\)".*/\\1/p\')',
)

_NOTHING_LEFT = """
[ "$(ls {entries} | grep -c fs-snapshot-)" -eq 0 ]
btrfs subvolume list / >subvolumes
grep fs-snapshots subvolumes
not grep try_ subvolumes
"""


def _job(design: Design, *texts: str) -> str:
    return "".join(texts).replace("{entries}", design.entries)


def _newest_snapshot(names: Sequence[str]) -> str:
    found = [name for name in names if _ENTRY in name]
    assert set(names[-len(found) :]) == set(found), "they are behind all others in the menu"
    return max(found)


def _oldest_snapshot(names: Sequence[str]) -> str:
    return min(name for name in names if _ENTRY in name)


def _does_not_come_up(machine: Machine) -> None:
    # Not one that merely took too long.
    with pytest.raises(LostMachineError, match="without an answer"):
        machine.boot("true")


def _from_the_menu(machine: Machine) -> None:
    design = machine.design
    machine.boot(_job(design, _UPGRADE, _RUIN), repository_files([_app("2")]))
    _does_not_come_up(machine)
    assert isinstance(machine.loader, GrubLike)
    machine.loader.at_the_menu = _newest_snapshot
    machine.boot(_job(design, _IN_A_TRIAL, _BACK_FROM_THE_TRIAL))
    machine.loader.at_the_menu = None
    machine.boot(_job(design, _ROLLED_BACK, _NOTHING_LEFT))


_TRY = """
fs-rollback try latest
[ "$(ls {entries} | grep -c fs-snapshot-)" -eq 1 ]
"""

_USUAL_ROOT = """
[ "$(app)" = 2 ]
fs-rollback status >status || true
grep Root: status
not grep -i 'runs a trial' status
fs-rollback status --json | grep '"waiting": "nothing"'
"""


def _tried_once(machine: Machine) -> None:
    design = machine.design
    machine.boot(_job(design, _UPGRADE, _TRY), repository_files([_app("2")]))
    machine.boot(_job(design, _IN_A_TRIAL))
    machine.boot(_job(design, _USUAL_ROOT))


_BAD_ROOT = """
fs-rollback create -m good
cp -a /usr/lib/systemd/systemd /root/systemd
rm /usr/lib/systemd/systemd
sleep 1
fs-rollback create -m 'without an init'
cp -a /root/systemd /usr/lib/systemd/systemd
code=0
fs-rollback rollback latest --yes || code=$?
[ "$code" -eq 1 ]
fs-rollback status --json | grep '"waiting": "nothing"'
rm /usr/lib/systemd/systemd
printf '#!/bin/sh\nexit 1\n' >/usr/lib/systemd/systemd
chmod +x /usr/lib/systemd/systemd
sleep 1
fs-rollback create -m bad
rm /usr/lib/systemd/systemd
cp -a /root/systemd /usr/lib/systemd/systemd
fs-rollback rollback latest --yes
"""

_FROM_A_GOOD_ONE = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x '/fs-snapshots/try_[0-9]*'
journalctl -b -u fs-rollback-boot --no-pager | tee journal
[ "$(grep -c 'THE MACHINE WAS ROLLED BACK' journal)" -eq 1 ]
fs-rollback status >status || [ $? -eq 1 ]
grep 'did not use' status
fs-rollback rollback --yes
"""

_UP_AGAIN = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -v try_
fs-rollback status --json | grep '"waiting": "nothing"'
[ "$(app)" = 1 ]
"""


def _new_root_does_not_come_up(machine: Machine) -> None:
    machine.boot("printf 'boot_entries = 3\n' >/etc/fs-rollback.conf\n" + _BAD_ROOT)
    _does_not_come_up(machine)
    assert isinstance(machine.loader, GrubLike)
    machine.loader.at_the_menu = _oldest_snapshot
    machine.boot(_FROM_A_GOOD_ONE)
    machine.loader.at_the_menu = None
    machine.boot(_UP_AGAIN)


# What is written between a rollback and its reboot, by who did not know.
_LATE = """
fs-rollback create
mkdir -p /srv
echo early >/home/early
fs-rollback rollback latest --yes
echo late >/home/late
rm /home/early
echo late >/root/late
echo late >/var/log/late
echo late >/var/lib/machines/x/late
echo lost >/etc/late
"""

_BROUGHT_OVER = """
for place in /home /root /var/log /var/lib/machines/x; do [ "$(cat $place/late)" = late ]; done
[ ! -e /home/early ]
[ ! -e /etc/late ]
[ "$(stat --format=%i /var/lib/machines/x)" = 256 ]
journalctl -b -u fs-rollback-boot --no-pager | tee journal
grep 'came up in the new root' journal
fs-rollback status | grep 'Last rollback'
systemctl is-active fs-rollback-boot
echo newer >/home/late
"""

# GRUB cannot write to this /boot: it would never forget the entry.
_NOT_AGAIN = """
[ "$(cat /home/late)" = newer ]
journalctl -b -u fs-rollback-boot --no-pager | tee journal
not grep 'came up' journal
fs-rollback create
code=0
fs-rollback try latest >said || code=$?
[ "$code" -eq 1 ]
grep 'Choose this in the boot menu' said
"""


def _the_reboot_in_between(machine: Machine) -> None:
    machine.boot(_LATE)
    machine.boot(_BROUGHT_OVER)
    machine.boot(_NOT_AGAIN)


def _app(version: str) -> Package:
    return Package("app", version, files={"/usr/bin/app": f"#!/bin/sh\necho {version}\n"})


_APP = (_app("1"),)
_MENUS = (
    Design(Root.NAMED, Boot.EXT4, subvolumes=("home",), nested=("/var/lib/machines",)),
    Design(Root.NAMED, Boot.IN_ROOT, nested=("/var/lib/machines",)),
    Design(Root.TOP_LEVEL, Boot.IN_ROOT, nested=("/var/lib/machines",)),
)
_TRIALS = (
    Design(Root.ORACLE, Boot.ESP, nested=("/var/lib/machines",)),
    Design(Root.DEFAULT, Boot.EXT4, nested=("/var/lib/machines",)),
)
_NAMED = Design(Root.NAMED, Boot.IN_ROOT, nested=("/var/lib/machines/x",))
STORIES = [
    *(Story(f"menu-{cell.name}", cell, _from_the_menu, _APP) for cell in _MENUS),
    *(Story(f"try-{cell.name}", cell, _tried_once, _APP) for cell in _TRIALS),
    Story("menu-after-a-bad-rollback", _NAMED, _new_root_does_not_come_up, _APP),
    Story("the-reboot-in-between", _NAMED, _the_reboot_in_between),
]

# All of them are rare. Each time it is GRUB itself that boots from the menu, and tries, in
# test_grub.py; and each rollback of the other tests is followed by a reboot.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_menu(story: Story, telling: Telling) -> None:
        telling.hear(story)
