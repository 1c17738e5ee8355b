# SPDX-License-Identifier: GPL-2.0-or-later
"""The power is cut while a boot converts the root: no file is lost, and there is a way on.

Every moment of the few in which ext4 becomes btrfs is in tests/kernel/test_convert_cuts.py; here
are the others, and the boot loader, the initramfs and a person who chooses in the menu.
"""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.manifest import Manifest
from tests.vm import converting, cuts
from tests.vm.converting import LOADER, RUNNING, WELL, by_the_entry
from tests.vm.cuts import Camera, Cut
from tests.vm.design import Boot, Ext4Design
from tests.vm.loader import NoBootError
from tests.vm.machine import Machine
from tests.vm.qemu import Power
from tests.vm.stories import Story

_MOMENTS = 20
_MOST_RUNS = 4
_GAP_S = 0.25  # a quick host converts in half a minute
_TIMEOUT_S = 900.0
# In place of btrfs-convert: what that does first in its last moment, and then no power any more.
_LAST_MOMENT = """#!/bin/sh
for device; do :; done
[ -b "$device" ] || PATH=${PATH#*:} exec btrfs-convert "$@"
dd if=/dev/zero of="$device" bs=64K count=1 conv=notrunc,fsync status=none
kill -KILL "$CONVERT_RUN"
"""
_DESIGNS = (Ext4Design(), Ext4Design(boot=Boot.EXT4, systemd=False), Ext4Design(lvm=True))


def _cut_off(machine: Machine) -> None:
    """Boot what is left of a conversion at 20 moments: each ends as a whole btrfs."""
    before = converting.prepare(machine, "--at-next-boot", copies=0)
    camera = Camera(machine)
    chance = random.Random(machine.design.name)
    taken: list[Cut] = []
    # A quick conversion is seen at fewer moments: then there is another one.
    for _ in range(_MOST_RUNS):
        taken += cuts.distinct(_take(machine, camera, chance))
        camera.put_back()
        if len(taken) >= _MOMENTS:
            break
    assert len(taken) >= _MOMENTS, f"{len(taken)} moments: its disks are to be taken more often"
    # The last ones are those in which most changes.
    chosen = [*chance.sample(taken[:-5], _MOMENTS - 5), *taken[-5:]]
    kinds = []
    for number, cut in enumerate(chosen):
        camera.put_back(cut)
        kind = converting.ext4(machine).root_type
        print(f"{machine.design.name}: cut at {cut.moment}: {kind or 'no filesystem'}")
        kinds.append(kind)
        try:
            if kind == "ext4":
                converting.expect_files(machine, before, LOADER)
                converting.check_filesystem(machine)
                camera.put_back(cut)  # that look has replayed the journal
            _go_on(machine, before, kind, as_ever=number % 5 == 0)
        except Exception as error:
            raise AssertionError(f"cut at {cut.moment}, {kind}: {error}") from error
    assert "ext4" in kinds
    assert "btrfs" in kinds


def _take(machine: Machine, camera: Camera, chance: random.Random) -> list[Cut]:
    found: list[Cut] = []
    with machine.start("true") as (power, _):
        _wait_for(power, "fs-rollback: checking the ext4")
        begin = time.monotonic()
        while "Converted: " not in power.console:
            time.sleep(chance.uniform(0, 2 * _GAP_S))
            assert power.is_on(), power.explain("it ended")
            assert time.monotonic() - begin < _TIMEOUT_S, power.explain("it does not end")
            found.append(camera.take(_moment(power), power))
        power.cut()
    return [*found, camera.take_still("killed after it")]


def _moment(power: Power) -> str:
    said = [line for line in power.console.splitlines() if line.startswith("fs-rollback: ")]
    return repr(said[-1])


def _wait_for(power: Power, text: str) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while text not in power.console:
        assert power.is_on(), power.explain(f"it ended before it wrote {text!r}")
        assert time.monotonic() < deadline, power.explain(f"no {text!r}")
        time.sleep(0.1)


def _go_on(machine: Machine, before: Manifest, kind: str, *, as_ever: bool) -> None:
    if kind == "ext4" and as_ever:
        machine.boot(WELL + "well ext4\n", timeout_s=_TIMEOUT_S)
    with by_the_entry(machine):
        try:
            machine.boot(WELL + "well btrfs\nchecked\n", timeout_s=_TIMEOUT_S)
        except NoBootError:
            # The loader reads nothing of it either: from a rescue system, then.
            assert not kind
            done = converting.convert_run(machine, "--have-backup")
            assert done.returncode == 0, done.stderr
            machine.boot(WELL + "well btrfs\nchecked\n", timeout_s=_TIMEOUT_S)
    converting.check_filesystem(machine)
    converting.expect_files(machine, before, RUNNING)


@contextmanager
def _without_superblock(machine: Machine) -> Iterator[None]:
    """Take the superblock away for a moment, as btrfs-convert does."""
    disks = converting.ext4(machine)
    with disks.root.open("r+b") as disk:
        disk.seek(disks.offset + 1024)
        kept = disk.read(1024)
        disk.seek(disks.offset + 1024)
        disk.write(bytes(1024))
        disk.flush()
        yield
        disk.seek(disks.offset + 1024)
        disk.write(kept)


def _no_filesystem(machine: Machine) -> None:
    """Where no root is found, the console says what to do; where it has a name, it is done."""
    before = converting.prepare(machine, "--at-next-boot", copies=0)
    disks = converting.ext4(machine)
    with disks.boot_partition() as boot:
        (entry,) = (boot / "loader/entries").glob("*convert.conf")
        # dracut counts rounds, and one takes seconds under emulation.
        entry.write_text(entry.read_text().replace("fsck.mode", "rd.retry=20 fsck.mode"))
    with _without_superblock(machine):
        assert disks.root_type == ""
        with by_the_entry(machine), machine.start("true") as (power, _):
            _wait_for(power, "fs-rollback convert run --device DEV --have-backup")
    with by_the_entry(machine):
        machine.boot(WELL + "well btrfs\nchecked\n", timeout_s=_TIMEOUT_S)
    converting.expect_files(machine, before, RUNNING)


def _no_filesystem_in_a_volume(machine: Machine) -> None:
    """The last moment, which a volume's name leads to: it is saved before, and given back."""
    before = converting.prepare(machine, "--at-next-boot", copies=0)
    disks = converting.ext4(machine)
    tools = machine.directory / "tools"
    tools.mkdir()
    (tools / "btrfs-convert").write_text(_LAST_MOMENT)
    (tools / "btrfs-convert").chmod(0o755)
    done = converting.convert_run(machine, "--have-backup", before_path=str(tools))
    assert done.returncode == -signal.SIGKILL, done
    assert disks.root_type == ""
    with by_the_entry(machine):
        machine.boot(WELL + "well btrfs\nchecked\n", timeout_s=_TIMEOUT_S)
    assert "blocks of /dev/mapper/" in converting.console(machine), "it was restored"
    converting.expect_files(machine, before, RUNNING)


def stories() -> list[Story]:
    """Return them, a kind of cut and of machine each."""
    found = [Story(f"convert-cut-{d.name}", d, _cut_off) for d in _DESIGNS]
    for systemd in (True, False):
        design = Ext4Design(boot=Boot.EXT4, systemd=systemd)
        name = f"convert-nothing-{design.name}"
        found.append(Story(name, design, _no_filesystem))
    in_volume = Ext4Design(boot=Boot.EXT4, lvm=True)
    name = f"convert-nothing-{in_volume.name}"
    found.append(Story(name, in_volume, _no_filesystem_in_a_volume))
    return found
