# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback whose power is cut: whenever that is, the machine boots, whole, and knows where it is.

A cut chosen by chance is booted, and the last one. All of them, before and after each step of a
plan and at 50 moments of each rollback, some to the other root and back, with kills of the machine
itself: an hour or so,

    FS_ROLLBACK_VM=full tests/run vm -- -k power_cut
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.sandbox.rpms import Package
from tests.vm import cuts
from tests.vm.cuts import Camera, Cut
from tests.vm.design import Boot, Design, Root
from tests.vm.kernels import kernel_package
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted, wanted

# The first one has a kernel to be put back to a /boot that does not follow the root, and the
# default entry with it; so has the second, on vfat.
_DESIGNS = (
    Design(Root.NAMED, Boot.EXT4, subvolumes=("home",)),
    Design(Root.NAMED, Boot.ESP),
    Design(Root.TOP_LEVEL, Boot.EXT4),
)

_MOMENTS = 50
_KILLS = 3
_FEW = 1  # cuts that are booted of each rollback where not all are

# The upgrade takes the kernel away that the snapshot needs.
_UPGRADE = """
dnf --assumeyes upgrade
[ "$(app)" = 2 ]
"""

# The program's own word is not asked before what is true has been found without it.
_LOOK = """
say() {{ echo "fact: $*"; }}
say app "$(app)"
say kernel "$(uname -r)"
say package "$(rpm -q app)"
say running "$(btrfs inspect-internal rootid /)"
say named "$(btrfs subvolume list / | sed -n 's/^ID \\([0-9]*\\) .* path root$/\\1/p')"
say default "$(btrfs subvolume get-default / | sed 's/^ID \\([0-9]*\\).*/\\1/')"
say failed "$(systemctl list-units --failed --plain --no-legend | tr '\\n' ',')"
[ -z "$(rpm -V app)" ]
[ "$(cat /usr/share/app/data)" = "$(app)" ]
modprobe loop
findmnt --verify --tab-file /etc/fstab
for point in {points}; do findmnt --mountpoint "$point"; done
journalctl --boot --unit fs-rollback-boot --no-pager --output cat
say status "$(fs-rollback status --json | tr -d '\\n')"
fs-rollback settle
say settled "$(fs-rollback status --json | tr -d '\\n')"
say subvolumes "$(btrfs subvolume list / | wc -l)"
say snapshots "$(fs-rollback list --json | tr -d '\\n')"
"""


class Found(NamedTuple):
    """What came up after a cut: the old root or the new one."""

    new: bool
    subvolumes: int


class _Rollback:
    """One machine that is about to be rolled back, again and again."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        offered = [_app("2"), kernel_package(machine.base.kernels[1], replaces=True)]
        first = _boot_files(machine)
        machine.boot(_UPGRADE, repository_files(offered))
        self.camera = Camera(machine)
        self.whole = [first, _boot_files(machine)]

    def boot_from(self, cut: Cut, *, and_on: bool) -> Found:
        """Boot what a cut has left; `and_on` goes on to the other root and boots that too."""
        self.camera.put_back(cut)
        return self.boot(cut.moment, and_on=and_on)

    def boot(self, moment: str, *, and_on: bool) -> Found:
        """Look at the disks, boot them, and look around; raises AssertionError with the moment."""
        try:
            _check_boot_files(self.machine, self.whole)
            onward = _ONWARD if and_on else ""
            found = self._look(onward)
            if and_on:
                assert self._look("").new != found.new, "undone, or done at last"
        except Exception as error:
            raise AssertionError(f"cut at {moment}: {error}") from error
        return found

    def _look(self, then: str) -> Found:
        design = self.machine.design
        points = [f"/{name}" for name in design.subvolumes]
        points += [design.boot_mount] if design.boot_mount else []
        said = self.machine.boot(_LOOK.format(points=" ".join(points)) + then).output
        return _judge(design, said)


# To the other root: back to the old one, or to the new one after all.
_ONWARD = """
if [ "$(app)" = 1 ]; then fs-rollback undo --yes --to-replaced; else fs-rollback rollback --yes; fi
"""


def _judge(design: Design, said: str) -> Found:
    facts = dict(re.findall(r"^fact: (\w+) (.*)$", said, re.MULTILINE))
    new = facts["app"] == "1"
    assert facts["package"] == f"app-{facts['app']}-1.noarch", said
    assert not facts["failed"].strip(), said
    following = facts["named" if design.root.is_named else "default"]
    for when in ("status", "settled"):
        status = json.loads(facts[when])
        assert str(status["running"]["id"]) == facts["running"], said
        assert str(status["next"]["id"]) == following == facts["running"], said
        assert status["waiting"] == "nothing", said
    rows = json.loads(facts["snapshots"])["snapshots"]
    kinds = [row["kind"] for row in rows]
    assert kinds.count("pre") == 1, said
    assert kinds.count("replaced") >= int(new), said
    return Found(new, int(facts["subvolumes"]))


def _boot_files(machine: Machine) -> dict[str, str]:
    """Return the entries in what the loader reads and all files that they name, as hashes."""
    with cuts.loader_tree(machine) as tree:
        found = {}
        directory = machine.design.path_for_loader(machine.design.entries)
        for path in sorted((tree / directory.lstrip("/")).glob("*.conf")):
            names = re.findall(r"^(?:linux|initrd)\s+(/\S+)", path.read_text(), re.MULTILINE)
            for file in (path, *(tree / name.lstrip("/") for name in names)):
                found[str(file.relative_to(tree))] = _digest(file)
        return found


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else "absent"


def _check_boot_files(machine: Machine, whole: Sequence[dict[str, str]]) -> None:
    """Each entry and each file it names is one that was whole at some time, or is not there."""
    for name, digest in _boot_files(machine).items():
        assert digest in {files.get(name) for files in whole}, f"{name} is {digest}"
    if machine.design.boot is Boot.ESP:
        cuts.check_esp(machine)
        with cuts.loader_tree(machine) as tree:
            text = (tree / "loader/loader.conf").read_text()
        assert text.startswith("#timeout 3\n#console-mode keep\ntimeout 0\n"), text
        return
    with cuts.loader_tree(machine) as tree:
        block = (tree / machine.design.path_for_loader("/boot/grub2/grubenv")[1:]).read_bytes()
    assert len(block) == 1024
    assert block.startswith(b"# GRUB Environment Block\n")
    assert all(b"=" in line or line.startswith(b"#") for line in block.splitlines())


def _app(version: str) -> Package:
    files = {
        "/usr/bin/app": f"#!/bin/sh\necho {version}\n",
        "/usr/share/app/data": f"{version}\n",
    }
    return Package("app", version, files=files)


def _at_each_step(machine: Machine) -> None:
    rollback = _Rollback(machine)
    taken = cuts.at_each_step(machine, rollback.camera)
    assert len(taken) > 2
    _boot_all(rollback, taken, _chance(machine))


def _at_random(machine: Machine) -> None:
    rollback, chance = _Rollback(machine), _chance(machine)
    gap_s = 0.04 if all_wanted() else 0.3
    taken = cuts.at_random(machine, rollback.camera, chance, gap_s)
    if all_wanted():
        assert len(taken) > _MOMENTS
        chosen = sorted(chance.sample(range(len(taken) - 1), _MOMENTS))
        taken = [*(taken[number] for number in chosen), taken[-1]]
    _boot_all(rollback, taken, chance)
    for _ in range(_KILLS if all_wanted() else 0):
        rollback.camera.put_back()
        after_s = chance.uniform(0, 8)
        cuts.kill_at(machine, after_s)
        found = rollback.boot(f"killed after {after_s:.2f} s", and_on=False)
        print(f"{machine.design.name}: killed after {after_s:.2f} s: {_root_name(found)}")


def _boot_all(rollback: _Rollback, taken: Sequence[Cut], chance: random.Random) -> None:
    """Boot the cuts in their order: the old root, and from some moment on the new one."""
    different = cuts.distinct(taken)
    # The killed machine's disks come last.
    wanted = different
    if not all_wanted():
        chosen = sorted(chance.sample(range(len(different) - 1), min(_FEW, len(different) - 1)))
        wanted = [*(different[number] for number in chosen), different[-1]]
    name = rollback.machine.design.name
    print(f"{name}: {len(taken)} moments, {len(different)} states of the disks")
    onward = chance.randrange(5)
    came_up = []
    for number, cut in enumerate(wanted):
        and_on = all_wanted() and number % 5 == onward
        found = rollback.boot_from(cut, and_on=and_on)
        print(f"{name}: {cut.moment}: {_root_name(found)}, {found.subvolumes} subvolumes")
        came_up.append(found.new)
    assert came_up == sorted(came_up), "the new root is there to stay"
    assert came_up[-1], "and the end of the rollback is the end"


def _root_name(found: Found) -> str:
    return "the new root" if found.new else "the old root"


def _chance(machine: Machine) -> random.Random:
    return random.Random(machine.design.name)


def _stories() -> list[Story]:
    found = []
    for number, design in enumerate(_DESIGNS):
        for kind, tell in (("step", _at_each_step), ("random", _at_random)):
            name = f"power-cut-{kind}-{design.name}"
            rare = (kind, number) != ("step", 0)
            found.append(Story(name, design, tell, (_app("1"),), rare=rare, long=True))
    return wanted(found)


@pytest.mark.parametrize("story", _stories(), ids=str)
def test_power_cuts(story: Story, telling: Telling) -> None:
    telling.hear(story)
