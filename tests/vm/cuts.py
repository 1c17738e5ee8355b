# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts: the disks of a running machine at an instant, and back to that instant to boot it.

A `Camera` is given a machine that is off; while that runs, each `take` holds it still for some
tenths of a second and keeps what has changed on its disks since. So one run gives many cuts.
"""

from __future__ import annotations

import mmap
import os
import random
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .machine import Machine
from .qemu import Power

# Small changes are scattered over a disk; smaller pieces take longer to compare.
_PIECE_BYTES = 64 * 1024

# A rollback takes seconds; the machine is busy besides, and its gates wait for us.
_TIMEOUT_S = 300.0

_GATE_BYTES = 4096
_GATE = "virtio-attached-gate"

# The command itself, with an observer that stops at each step until the host lets it go on. Read
# past the page cache: the host writes to that disk.
_AT_EACH_STEP = f"""\
import mmap, os, sys, time

from fs_rollback.cli.main import main
from fs_rollback.system.rollback import perform

gate = os.open("/dev/disk/by-id/{_GATE}", os.O_RDONLY | os.O_DIRECT)
page = mmap.mmap(-1, {_GATE_BYTES})
gates = 0

def stop(what):
    global gates
    gates += 1
    print(f"gate {{gates}}: {{what}};", flush=True)
    while True:
        os.preadv(gate, [page], 0)
        if int.from_bytes(page[:8], "little") >= gates:
            return
        time.sleep(0.01)

def stopping(host, store, proposal, user, observe, operations):
    def observer(moment, index, step):
        stop(f"{{moment.value}} {{index}} {{type(step).__name__}}")
    warnings = carry_out(host, store, proposal, user, observer, operations)
    stop("the end")
    return warnings

carry_out = perform.carry_out
perform.carry_out = stopping
sys.exit(main(["rollback", "--yes"]))
"""


@dataclass(frozen=True)
class Cut:
    """The disks at one instant: of each file the pieces that differ from the start, by offset."""

    moment: str
    changed: tuple[tuple[Path, tuple[tuple[int, bytes], ...]], ...]

    def is_like(self, other: Cut) -> bool:
        """Whether the disks are the same, at another moment."""
        return self.changed == other.changed


class Camera:
    """Takes the disks of a machine at any instant, and puts them back; made while it is off."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._originals = machine.directory / "originals"
        self._originals.mkdir()
        # The firmware's variables are in it, where there are any.
        self._files = [*machine.disks.images, *machine.directory.glob("variables.fd")]
        self._kept: dict[bytes, bytes] = {}
        for path in self._files:
            _copy(path, self._original(path))

    def take(self, moment: str, power: Power) -> Cut:
        """Hold a running machine still and take its disks, with all that they were given so far."""
        power.pause()
        try:
            return self.take_still(moment)
        finally:
            power.resume()

    def take_still(self, moment: str) -> Cut:
        """Take the disks of a machine that is off."""
        return Cut(moment, tuple((path, tuple(self._changed(path))) for path in self._files))

    def put_back(self, cut: Cut | None = None) -> None:
        """Make the disks what they were at a cut, or at the start; the machine is off."""
        for path in self._files:
            _copy(self._original(path), path)
        for path, pieces in cut.changed if cut else ():
            with path.open("r+b") as file:
                for offset, piece in pieces:
                    file.seek(offset)
                    file.write(piece)

    def _original(self, path: Path) -> Path:
        return self._originals / path.name

    def _changed(self, path: Path) -> Iterator[tuple[int, bytes]]:
        with _mapped(path) as now, _mapped(self._original(path)) as before:
            for start, end in _written(path):
                for offset in range(start, end, _PIECE_BYTES):
                    piece = now[offset : offset + _PIECE_BYTES]
                    if piece != before[offset : offset + _PIECE_BYTES]:
                        yield offset, self._kept.setdefault(piece, piece)


def at_each_step(machine: Machine, camera: Camera) -> list[Cut]:
    """Roll a machine back; return a cut before and after each step, and cut the power at the end.

    The last two are at the end of the command and a second later.
    """
    gate = machine.directory / "gate.img"
    gate.write_bytes(bytes(_GATE_BYTES))
    job = "/usr/bin/python3 files/driver.py; echo 'gates passed;'; sleep 600"
    cuts: list[Cut] = []
    files = {"driver.py": _AT_EACH_STEP.encode()}
    with machine.start(job, files, attached=[gate]) as (power, _):
        moment = ""
        while moment != "the end":
            start = f"\ngate {len(cuts) + 1}: "
            power.wait_for(start, timeout_s=_TIMEOUT_S)
            while ";" not in power.output.partition(start)[2]:
                time.sleep(0.01)
            moment = power.output.partition(start)[2].partition(";")[0]
            cuts.append(camera.take(moment, power))
            with gate.open("r+b") as file:
                file.write(len(cuts).to_bytes(8, "little"))
        power.wait_for("\ngates passed;", timeout_s=_TIMEOUT_S)
        cuts.append(camera.take("done", power))
        time.sleep(1)
        power.cut()
    return [*cuts, camera.take_still("killed after it")]


_BEGIN, _END = "the work begins;", "the work ended;"
_WORK = f"""
fs-rollback --version  # read from the disk, as if it had been used before
echo '{_BEGIN}'
{{work}}
echo '{_END}'
sleep 600
"""
ROLLBACK = "fs-rollback rollback --yes"


def at_random(
    machine: Machine, camera: Camera, chance: random.Random, gap_s: float, work: str = ROLLBACK
) -> list[Cut]:
    """Let a machine do some work; return cuts from the start of it to a second after its end.

    `gap_s` is the mean time between two of them, in seconds of the machine's running. At the end
    the power is cut.
    """
    cuts: list[Cut] = []
    with machine.start(_WORK.format(work=work)) as (power, _):
        power.wait_for(f"\n{_BEGIN}", timeout_s=_TIMEOUT_S)
        ran_s, ended_s = 0.0, None
        while ended_s is None or ran_s < ended_s + 1:
            wait_s = chance.uniform(0, 2 * gap_s)
            time.sleep(wait_s)
            ran_s += wait_s
            if not power.is_on() or ran_s > _TIMEOUT_S:
                raise AssertionError(power.explain("the work did not end"))
            if ended_s is None and f"\n{_END}" in power.output:
                ended_s = ran_s
            when = "" if ended_s is None else ", after it"
            cuts.append(camera.take(f"{ran_s:.2f} s{when}", power))
        power.cut()
    return [*cuts, camera.take_still("killed after it")]


def kill_at(machine: Machine, after_s: float) -> None:
    """Roll a machine back and kill its QEMU some seconds after the start of that."""
    with machine.start(_WORK.format(work=ROLLBACK)) as (power, _):
        power.wait_for(f"\n{_BEGIN}", timeout_s=_TIMEOUT_S)
        time.sleep(after_s)
        power.cut()


def distinct(cuts: Sequence[Cut]) -> list[Cut]:
    """Return the cuts without those whose disks are those of the one before."""
    return [
        cut for number, cut in enumerate(cuts) if not number or not cut.is_like(cuts[number - 1])
    ]


@contextmanager
def loader_tree(machine: Machine) -> Iterator[Path]:
    """Give the filesystem of the boot loader as that reads it, from its top."""
    disks = machine.disks
    if not disks.esp.exists():
        with disks.as_the_loader() as top:
            yield top
        return
    with tempfile.TemporaryDirectory(dir=machine.directory) as scratch:
        partition = Path(scratch, "partition.img")
        disks.copy_esp(partition)
        tree = Path(scratch, "tree")
        tree.mkdir()
        subprocess.run(["mcopy", "-Q", "-s", "-i", partition, "::", tree], check=True)
        yield tree


# What a filesystem without a journal cannot but have when its power is cut while it is mounted: the
# mark that says so (byte 65, and not in the backup), a count of free clusters that is behind,
# clusters that belong to no file yet.
_HARMLESS = re.compile(
    r"\s*(?:$|fsck\.fat|65:01/00|There are differences between boot sector|This is mostly harmless|"
    r"Not automatically fixing|Dirty bit is set|Automatically removing dirty bit|Auto-correcting|"
    r"Free cluster summary|Reclaimed \d+ unused|Leaving filesystem unchanged|.*: \d+ files, )"
)


def check_esp(machine: Machine) -> None:
    """Assert that an ESP is whole, but for what a power cut cannot but leave."""
    partition = machine.directory / "fsck.img"
    machine.disks.copy_esp(partition)
    done = subprocess.run(
        ["fsck.vfat", "-n", partition], capture_output=True, text=True, check=False
    )
    partition.unlink()
    lines = (done.stdout + done.stderr).splitlines()
    assert all(_HARMLESS.match(line) for line in lines), done.stdout + done.stderr


def _copy(source: Path, target: Path) -> None:
    command = ["cp", "--reflink=auto", "--sparse=auto", os.fspath(source), os.fspath(target)]
    subprocess.run(command, check=True)


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        yield mapped


def _written(path: Path) -> Iterator[tuple[int, int]]:
    """Give the parts of a sparse file that have data, in whole pieces."""
    with path.open("rb") as file:
        size, end = path.stat().st_size, 0
        while end < size:
            try:
                data = os.lseek(file.fileno(), end, os.SEEK_DATA)
            except OSError:  # ENXIO: nothing but a hole from here
                return
            hole = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            start = max(end, data - data % _PIECE_BYTES)
            end = min(size, hole + -hole % _PIECE_BYTES)
            yield start, end
