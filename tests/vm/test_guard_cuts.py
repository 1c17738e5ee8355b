# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts while a boot is guarded, while it runs, and while that is taken back.

Whenever it is, the next boot comes up, in one of the two, and says what is true. Told where all is
wanted; every image of the disks while the loader is told is in tests/kernel/test_guard.py.
"""

from __future__ import annotations

import random
import time
from dataclasses import replace

import pytest

from tests.sandbox.rpms import Package
from tests.vm import cuts, grub
from tests.vm.cuts import Camera, Cut
from tests.vm.design import MACHINE_ID, Boot, Design, Root
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted
from tests.vm.there_and_back import app

_MOMENTS = 10  # of telling the loader, and as many of a boot
_BOOT_S = 40.0

_UPGRADE = """
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
"""
_TELL = "fs-rollback guard on; fs-rollback guard off"
# In the snapshot the message says so; in the own root all can be taken back.
_LOOK = """
root=$(findmnt --noheadings --output FSROOT --mountpoint /)
case $root in
    */try_*)
        [ "$(app)" = 1 ]
        for second in $(seq 60); do
            [ ! -e /run/motd.d/fs-rollback ] || break
            sleep 1
        done
        grep 'this machine fell back to yum_' /run/motd.d/fs-rollback
        echo 'came up: snapshot' ;;
    *)
        [ "$(app)" = 2 ]
        systemctl start fs-rollback-guard
        fs-rollback guard off
        fs-rollback guard status | grep '^The next boot is not guarded'
        echo 'came up: own' ;;
esac
"""


def _anywhere(machine: Machine) -> None:
    if machine.design.boot is Boot.EXT4:
        machine.loader = grub.Grub(machine.disks, machine.directory)
    keep = "echo guard_then = stay >>/etc/fs-rollback.conf\n"
    machine.boot(keep + _UPGRADE, repository_files([app("2")]))
    camera, chance = Camera(machine), random.Random(20)
    told = cuts.distinct(cuts.at_random(machine, camera, chance, 0.15, _TELL))
    came_up = [_look(machine, camera, cut) for cut in _some(told, chance)]
    assert set(came_up) == {"own"}, "nothing has failed"
    camera.put_back()
    machine.boot("fs-rollback guard on")
    of_boot: list[Cut] = []
    with machine.start("sleep 600") as (power, _):
        begin = time.monotonic()
        while time.monotonic() < begin + _BOOT_S:
            time.sleep(chance.uniform(0, 2))
            of_boot.append(camera.take(f"{time.monotonic() - begin:.1f} s", power))
        power.cut()
    came_up = [_look(machine, camera, cut) for cut in _some(cuts.distinct(of_boot), chance)]
    assert came_up[-1] == "own", "it was healthy"
    assert "snapshot" in came_up, "it was cut off"


def _some(found: list[Cut], chance: random.Random) -> list[Cut]:
    """Return some of the cuts in their order, the last one too."""
    few = chance.sample(range(len(found) - 1), min(_MOMENTS - 1, len(found) - 1))
    return [found[number] for number in sorted(few)] + found[-1:]


def _look(machine: Machine, camera: Camera, cut: Cut) -> str:
    """Boot what a cut has left; returns what came up."""
    camera.put_back(cut)
    try:
        said = machine.boot(_LOOK).output
    except Exception as error:
        raise AssertionError(f"cut at {cut.moment}: {error}") from error
    return said.rpartition("came up: ")[2].split()[0]


_APP: tuple[Package, ...] = (app("1"),)
_EXT4 = replace(Design(Root.NAMED, Boot.EXT4), machine_id="e" + MACHINE_ID[1:])
STORIES = [
    Story("guard-cut-ext4", _EXT4, _anywhere, _APP),
    Story("guard-cut-esp", Design(Root.NAMED, Boot.ESP), _anywhere, _APP),
]


if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_guard_cut(story: Story, telling: Telling) -> None:
        telling.hear(story)
