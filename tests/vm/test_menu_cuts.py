# SPDX-License-Identifier: GPL-2.0-or-later
"""The power is cut while snapshots come into the boot menu: an entry is whole or absent.

What the loader finds is read from the disks. Booting each cut would show no more: an entry that is
there is byte for byte one that was written, and all that it leads to is there.
"""

from __future__ import annotations

import random
import re

import pytest

from tests.vm import cuts
from tests.vm.cuts import Camera
from tests.vm.design import Boot, Design, Root
from tests.vm.machine import Machine
from tests.vm.stories import Story, Telling, all_wanted

_FIRST = """
for number in 1 2; do fs-rollback create; sleep 1; done
[ "$(ls {entries} | grep -c fs-snapshot-)" -eq 2 ]
"""

# Each brings an entry and takes the oldest away; all that there ever were are kept.
_WORK = """
mkdir /root/seen
cp {entries}/*fs-snapshot-* /root/seen
for number in 1 2 3; do
    fs-rollback create
    cp {entries}/*fs-snapshot-* /root/seen
    sleep 1
done
sync
"""


def _menu_is_cut_off(machine: Machine) -> None:
    design, chance = machine.design, random.Random(machine.design.name)
    machine.boot(_FIRST.format(entries=design.entries))
    camera = Camera(machine)
    taken = cuts.at_random(machine, camera, chance, 0.05, _WORK.format(entries=design.entries))
    with machine.disks.top() as top:
        seen = top / design.root.subvolume / "root/seen"
        whole = {path.name: path.read_text() for path in seen.iterdir()}
    assert len(whole) == 5
    there: set[frozenset[str]] = set()
    for cut in cuts.distinct(taken):
        camera.put_back(cut)
        try:
            there.add(frozenset(_whole_entries(machine, whole)))
            if design.boot is Boot.ESP:
                cuts.check_esp(machine)
        except AssertionError as error:
            raise AssertionError(f"cut at {cut.moment}: {error}") from error
    print(f"{design.name}: {len(taken)} moments, {len(there)} menus")
    assert len(there) >= 4, "the menu changed, three times in all"


def _whole_entries(machine: Machine, whole: dict[str, str]) -> list[str]:
    """Return the entries of snapshots that the loader finds, after proving what they lead to."""
    found = []
    directory = machine.design.path_for_loader(machine.design.entries)
    with cuts.loader_tree(machine) as tree, machine.disks.top() as top:
        for path in (tree / directory.lstrip("/")).glob("*fs-snapshot-*.conf"):
            text = path.read_text()
            assert text == whole[path.name], path.name
            (copy,) = re.findall(r"subvol=(fs-snapshots/try_\d+)", text)
            table = (top / copy / "etc/fstab").read_text()
            assert f"subvol={copy}" in table, copy
            assert not re.search(r"subvol=root\s", table), copy
            for name in re.findall(r"^(?:linux|initrd)\s+(/\S+)", text, re.MULTILINE):
                assert (tree / name.lstrip("/")).stat().st_size, name
            found.append(path.name)
    return found


_CELLS = (
    Design(Root.NAMED, Boot.ESP),
    Design(Root.NAMED, Boot.EXT4),
    Design(Root.NAMED, Boot.IN_ROOT),
)
STORIES = [Story(f"menu-cut-{cell.name}", cell, _menu_is_cut_off) for cell in _CELLS]

# All of them are rare: tests/kernel/test_menu_cut_off.py looks at the disk after every change.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_menu_cuts(story: Story, telling: Telling) -> None:
        telling.hear(story)
