# SPDX-License-Identifier: GPL-2.0-or-later
"""The stories of tests/tmt, told by tmt on machines that it reaches by ssh, as on Fedora itself.

Told where all is wanted: ten minutes of each machine, on a host that does little else. What is told
of each is in tests/tmt/plans.fmf.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import pytest

from tests.need import need
from tests.packaging.test_tmt import TMT
from tests.sandbox.base import cache_directory
from tests.sandbox.engine import Engine
from tests.sandbox.product import CHECKOUT, build_product
from tests.sandbox.rpms import Package, build
from tests.vm.conversion import conversion_base
from tests.vm.design import Boot, Design, Ext4Design, Root, Uuids
from tests.vm.fleet import Key, Member
from tests.vm.machine import Machine, repository_files
from tests.vm.stories import Story, Telling, all_wanted

_ANSWERS_S, _RUN_S = 300, 7200
_DESIGN = Design(Root.NAMED, Boot.EXT4, subvolumes=("home",))
# On these machines is what tmt would have dnf install, but rpm does not know that: it is Debian's.
_THERE = Package("there", "1", provides=("/usr/bin/flock", "dracut", "e2fsprogs", "rpm-build"))
# A run of dracut is minutes under emulation, and with all that it has by itself many more.
_DRACUT = "etc/dracut.conf.d/vm.conf"


def _told(plan: str, boots: int, machine: Machine) -> None:
    """Tell the stories of a plan on a machine that has never had the product."""
    need("rsync")  # with which tmt brings its files
    base = machine.base
    if plan == "convert":
        system = conversion_base(cache_directory(), say=print)
        base = dataclasses.replace(base, tarball=system.tarball)
    directory = machine.directory
    machine.disks.create(base, build([_THERE], directory))
    if plan == "convert":
        configuration = Ext4Design().files("", Uuids(""))[_DRACUT].encode()
        machine.boot(f"cp files/dracut /{_DRACUT}", {"dracut": configuration})
    key = Key.made(directory)
    member = Member(machine, key, repository_files([_THERE]))
    with member.running():
        member.wait(timeout_s=_ANSWERS_S)
        code, said = _tmt(plan, member.port, key, directory)
    print(said)
    assert code == 0, said
    assert "fail /" not in said, said
    for story in ("install", "convert" if plan == "convert" else "upgrade"):
        assert f"pass /tests/tmt/stories/{story} (on" in said, said
    # There is no SELinux on these machines, and nobody may take that for a success.
    assert "skip /tests/tmt/stories/labels (on" in said, said
    assert "skip /SELinux does not enforce here" in said, said
    assert member.boots == boots, said


def _tmt(plan: str, port: int, key: Key, directory: Path) -> tuple[int, str]:
    """Run tmt as CONTRIBUTING.md has it for a rented machine; its exit code, and its words."""
    tree = directory / "tree"
    shutil.copytree(CHECKOUT / ".fmf", tree / ".fmf")
    shutil.copytree(CHECKOUT / "tests/tmt", tree / "tests/tmt")
    (tree / "rpms").mkdir()
    build_product(tree / "rpms")
    # The machine has tmt's files at the same place, and keeps them there over its reboots.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        command: list[str | Path] = [
            TMT, "--root", tree, "run", "--id", f"{place}/run", "--all",
            "--environment", "RPMS=rpms", "plan", "--name", f"/{plan}$",
            "provision", "--how", "connect", "--guest", "127.0.0.1", "--port", str(port),
            "--key", key.private, "execute", "-vvv", "report", "-vvv",
        ]  # fmt: skip
        environment = {
            **os.environ,
            "TMT_CONNECT_TIMEOUT": str(_ANSWERS_S),
            "TMT_REBOOT_TIMEOUT": str(3 * _ANSWERS_S),
            "NO_COLOR": "1",
        }
        done = subprocess.run(
            command, env=environment, cwd=tree, timeout=_RUN_S, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
    return done.returncode, done.stdout


STORIES = [
    Story("tmt-dnf4", _DESIGN, partial(_told, "dnf4", 3), long=True),
    Story("tmt-dnf5", _DESIGN, partial(_told, "dnf5", 3), engine=Engine.DNF5, long=True),
    Story("tmt-convert", _DESIGN, partial(_told, "convert", 1), long=True),
]


# All of them are rare: the same is told in test_matrix.py and test_convert.py, without tmt.
if all_wanted():

    @pytest.mark.parametrize("story", STORIES, ids=str)
    def test_tmt(story: Story, telling: Telling) -> None:
        telling.hear(story)
