# SPDX-License-Identifier: GPL-2.0-or-later
"""Upgrade, break, roll back, boot, look, undo, boot, look: on every kind of machine, for real."""

from __future__ import annotations

import pytest

from tests.vm.design import Boot, Design, Root
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, wanted
from tests.vm.there_and_back import app, there_and_back

_NESTED = ("/var/lib/machines/x",)

# Here the upgrade has a kernel that takes the place of the old one: what boots has to be put back
# first, but in a named root with /boot inside, where all of that follows the exchange.
_KERNEL_REPLACED = (
    Design(Root.ORACLE, Boot.SUBVOLUME, subvolumes=("home",), nested=_NESTED),
    Design(Root.TOP_LEVEL, Boot.IN_ROOT, nested=_NESTED),
    Design(Root.NAMED, Boot.ESP),
    Design(Root.NAMED, Boot.EXT4, subvolumes=("home",)),
    Design(Root.NAMED, Boot.IN_ROOT, subvolumes=("home",), nested=_NESTED),
)
_KERNEL_STAYS = (
    Design(Root.TOP_LEVEL, Boot.EXT4),
    Design(Root.DEFAULT, Boot.IN_ROOT),
    Design(Root.DEFAULT, Boot.ESP, nested=_NESTED),
    Design(Root.NAMED, Boot.SUBVOLUME, subvolumes=("home",)),
)
CELLS = (*_KERNEL_REPLACED, *_KERNEL_STAYS)
# With a named root and an ext4 /boot it is told each time with GRUB itself, in test_grub.py.
_EACH_TIME = _KERNEL_REPLACED[:3]


def _there_and_back(machine: Machine) -> None:
    there_and_back(machine, kernel=machine.design in _KERNEL_REPLACED)


# An rpm database outside the root is newer than /usr after a rollback: that is refused, and dnf
# goes on without a snapshot, saying so.
_VAR_OF_ITS_OWN = Design(Root.NAMED, Boot.IN_ROOT, subvolumes=("home", "var"))

_REFUSED = """
findmnt --mountpoint /var
dnf --assumeyes upgrade 2>&1 | tee upgrade
[ "$(app)" = 2 ]
[ "$(grep -c fs-snapshot: upgrade)" -eq 1 ]
not grep snapshotting upgrade
# A snapshot that is asked for is taken; a rollback to it is refused.
fs-rollback create
code=0
fs-rollback rollback latest --yes || code=$?
[ "$code" -eq 3 ]
code=0
fs-rollback status >status || code=$?
cat status
[ "$code" -eq 1 ]
grep /var status
"""


def _refused(machine: Machine) -> None:
    said = machine.boot(_REFUSED, repository_files([app("2")])).output
    assert "/var" in said


_APP = (app("1"),)
STORIES = [
    Story(cell.name, cell, _there_and_back, _APP, rare=cell not in _EACH_TIME) for cell in CELLS
]
# What a database elsewhere means is in tests/dnf/test_trouble.py and
# tests/kernel/test_rpmdb_places.py, too.
STORIES.append(Story(_VAR_OF_ITS_OWN.name, _VAR_OF_ITS_OWN, _refused, _APP, rare=True))


@pytest.mark.parametrize("story", wanted(STORIES), ids=str)
def test_there_and_back(story: Story, telling: Telling) -> None:
    telling.hear(story)
