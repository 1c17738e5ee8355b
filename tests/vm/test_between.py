# SPDX-License-Identifier: GPL-2.0-or-later
"""Between a rollback and its reboot: the menu is used, another tool puts a root in the place."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.vm.design import Boot, Design, Root
from tests.vm.loader import GrubLike
from tests.vm.machine import Machine
from tests.vm.stories import Story, Telling, all_wanted

_LATE = """
fs-rollback create -m good
fs-rollback rollback latest --yes
for place in /srv /root /var/lib/machines/x; do echo late >"$place/late"; done
"""

# The new root was never booted; what is newest is in the old one.
_FROM_THE_MENU = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x '/fs-snapshots/try_[0-9]*'
[ ! -e /srv/late ]
journalctl -b -u fs-rollback-boot --no-pager | grep 'THE MACHINE WAS ROLLED BACK'
fs-rollback rollback --yes 2>&1 | tee said
grep 'copied the changes made since .*: .*/srv' said
"""

# Then Timeshift, or a person: the new root is moved away, and a copy of the old one put there.
_ANOTHER_TOOL = """
for place in /srv /root /var/lib/machines/x; do [ "$(cat "$place/late")" = late ]; done
fs-rollback rollback latest --yes
mkdir -p /run/top
mount -o subvolid=5 "$(findmnt --noheadings --nofsroot --output SOURCE /)" /run/top
mv /run/top/root /run/top/moved-away
btrfs subvolume snapshot / /run/top/root
echo precious >/run/top/root/srv/only-copy
umount /run/top
code=0
fs-rollback undo --yes 2>said || code=$?
[ "$code" -eq 3 ]
grep -e 'settle --forget' said
"""

_GIVEN_UP = """
findmnt --noheadings --output FSROOT --mountpoint / | grep -x /root
journalctl -b -u fs-rollback-boot --no-pager | tee journal
grep 'THE MACHINE WAS ROLLED BACK' journal
not grep 'came up' journal
[ "$(cat /srv/only-copy)" = precious ]
code=0
fs-rollback rollback latest --yes || code=$?
[ "$code" -eq 3 ]
fs-rollback settle --forget
[ "$(cat /srv/only-copy)" = precious ]
fs-rollback status --json | grep '"waiting": "nothing"'
fs-rollback rollback latest --yes
fs-rollback undo --yes
"""


def _snapshot(names: Sequence[str]) -> str:
    return max(name for name in names if "fs-snapshot-" in name)


def _in_between(machine: Machine) -> None:
    machine.boot(_LATE)
    assert isinstance(machine.loader, GrubLike)
    machine.loader.at_the_menu = _snapshot
    machine.boot(_FROM_THE_MENU)
    machine.loader.at_the_menu = None
    machine.boot(_ANOTHER_TOOL)
    machine.boot(_GIVEN_UP)


_NAMED = Design(Root.NAMED, Boot.EXT4, nested=("/var/lib/machines/x",))
STORIES = [Story("between-a-rollback-and-its-reboot", _NAMED, _in_between)]


# It is rare: tests/kernel/test_late_writes.py and test_whose_root.py do all of it on mounted
# machines, and what the unit says at such a boot is in test_settle.py.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_between(story: Story, telling: Telling) -> None:
        telling.hear(story)
