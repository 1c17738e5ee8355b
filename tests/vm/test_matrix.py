# SPDX-License-Identifier: GPL-2.0-or-later
"""Upgrade, break, roll back, boot, look, undo, boot, look: on every kind of machine, for real."""

from __future__ import annotations

import re

import pytest

from tests.sandbox.rpms import Package
from tests.vm.design import Boot, Design, Root
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted

_NESTED = ("/var/lib/machines/x",)

CELLS = (
    Design(Root.TOP_LEVEL, Boot.IN_ROOT, nested=_NESTED),
    Design(Root.TOP_LEVEL, Boot.EXT4),
    Design(Root.DEFAULT, Boot.IN_ROOT),
    Design(Root.DEFAULT, Boot.ESP, nested=_NESTED),
    Design(Root.NAMED, Boot.IN_ROOT, subvolumes=("home",), nested=_NESTED),
    Design(Root.NAMED, Boot.SUBVOLUME, subvolumes=("home",)),
    Design(Root.NAMED, Boot.EXT4, subvolumes=("home",)),
    Design(Root.NAMED, Boot.ESP),
    Design(Root.ORACLE, Boot.SUBVOLUME, subvolumes=("home",), nested=_NESTED),
)

# What a machine says of its root; read back by `_roots`.
_SAY_ROOT = """
echo "root: $(findmnt --noheadings --output FSROOT --mountpoint /)" \
    "$(btrfs inspect-internal rootid /)"
"""

_UPGRADE_AND_BREAK = """
[ "$(app)" = 1 ]
echo before >/home/before
for nested in {nested}; do echo before >"$nested/data"; done
dnf --assumeyes upgrade | tee upgrade
[ "$(grep -c fs-snapshot upgrade)" -eq 1 ]
grep -Ex 'fs-snapshot: snapshotting /: /fs-snapshots/yum_[0-9]{{14}}' upgrade
[ "$(app)" = 2 ]
printf '#!/bin/sh\\necho broken\\n' >/usr/bin/app
rm /usr/share/app/data
for nested in {nested}; do echo after >"$nested/data"; done
echo after >/home/after
fs-rollback rollback --yes
[ "$(app)" = broken ]
"""

_LOOK_AND_UNDO = """
[ "$(app)" = 1 ]
[ "$(rpm -q app)" = app-1-1.noarch ]
[ -z "$(rpm -V app)" ]
[ "$(cat /usr/share/app/data)" = 1 ]
[ "$(cat /home/before /home/after)" = "$(printf 'before\\nafter')" ]
for nested in {nested}; do
    [ "$(cat "$nested/data")" = after ]
    [ "$(stat --format=%i "$nested")" = 256 ]
done
findmnt --verify --tab-file /etc/fstab
for mounted in {mounted}; do findmnt --mountpoint "$mounted"; done
fs-rollback undo --yes
"""

_LOOK_AGAIN = """
[ "$(app)" = broken ]
[ "$(rpm -q app)" = app-2-1.noarch ]
[ ! -e /usr/share/app/data ]
[ "$(cat /home/before /home/after)" = "$(printf 'before\\nafter')" ]
for nested in {nested}; do [ "$(cat "$nested/data")" = after ]; done
for mounted in {mounted}; do findmnt --mountpoint "$mounted"; done
"""


def _app(version: str) -> Package:
    files = {
        "/usr/bin/app": f"#!/bin/sh\necho {version}\n",
        "/usr/share/app/data": f"{version}\n",
    }
    return Package("app", version, files=files)


def _job(design: Design, text: str) -> str:
    mounted = [f"/{name}" for name in design.subvolumes]
    mounted += [design.boot_mount] if design.boot_mount else []
    filled = text.format(nested=" ".join(design.nested), mounted=" ".join(mounted))
    return _SAY_ROOT + filled


def _root(output: str) -> tuple[str, int]:
    """Return the path and the ID of the subvolume that a machine said it runs from."""
    found = re.search(r"^root: (\S+) (\d+)$", output, re.MULTILINE)
    assert found is not None, output
    return found.group(1), int(found.group(2))


def _there_and_back(machine: Machine) -> None:
    design = machine.design
    offered = repository_files([_app("2")])
    first = _root(machine.boot(_job(design, _UPGRADE_AND_BREAK), offered).output)
    second = _root(machine.boot(_job(design, _LOOK_AND_UNDO)).output)
    third = _root(machine.boot(_job(design, _LOOK_AGAIN)).output)
    assert first[0] == "/" + design.root.subvolume
    assert second[1] != first[1], "another subvolume booted"
    assert third[1] not in (first[1], second[1]), "a copy of the root that was replaced"
    if design.root.is_named:
        assert second[0] == third[0] == first[0], "and the name stays with what boots"


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
    said = machine.boot(_REFUSED, repository_files([_app("2")])).output
    assert "/var" in said


STORIES = [Story(cell.name, cell, _there_and_back, packages=(_app("1"),)) for cell in CELLS]
STORIES.append(Story(_VAR_OF_ITS_OWN.name, _VAR_OF_ITS_OWN, _refused, packages=(_app("1"),)))


# All of them are rare. Machines like these are each time in the other tests of this tier; the demo
# and the other tiers have the top level; what a database elsewhere means is in
# tests/dnf/test_trouble.py and tests/kernel/test_rpmdb_places.py.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_there_and_back(story: Story, telling: Telling) -> None:
        telling.hear(story)
