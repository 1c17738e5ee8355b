# SPDX-License-Identifier: GPL-2.0-or-later
"""Part K: many files in a kept path, few of them changed, against copying all.

In a rollback, and once more at the first boot of its new root.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Case, Promise, Samples, in_turns, promises, table
from tests.kernel import commands, running
from tests.kernel.machine import Machine
from tests.kernel.machine import run as run_program

ROUNDS = 7
_SIZE = 50_000
_IN_A_DIRECTORY = 100
_OURS, _WITHOUT = "fs-rollback rollback --keep", "fs-rollback rollback --no-keep"
_PEER = "cp -a --reflink=always"
_ARRIVAL = "fs-rollback settle --at-boot, 1 % to bring over"
_NOTHING = "fs-rollback settle --at-boot, nothing to bring over"
_PROMISED = (Promise(_OURS, _PEER, 0.15), Promise(_ARRIVAL, _PEER, 0.15))


def run(directory: Path, installation: Installation, rounds: int) -> Samples:
    """Measure part K and print it."""
    samples = Samples()
    with filling.machine(directory / "keeping", image_bytes=1 << 30) as machine:
        for number in range(_SIZE):
            _file(machine.root, number).parent.mkdir(parents=True, exist_ok=True)
            _file(machine.root, number).write_text(f"file {number}\n" * 10, encoding="ascii")
        arrivals = Samples()
        for cases, into in (
            (_rollbacks(machine, installation, samples), samples),
            (_arrivals(machine, installation, arrivals), arrivals),
        ):
            in_turns([*cases, partial(_copy, machine, into)], rounds, into, warm_up=1)
    changed = f"{_SIZE} files in a kept path, 1 % changed since"
    print(table(f"K. {changed} the snapshot ({rounds} rounds)", samples, _PEER))
    print(promises(samples, _PROMISED[:1]))
    print(table(f"K. {changed} the rollback ({rounds} rounds)", arrivals, _PEER))
    print(promises(arrivals, _PROMISED[1:]))
    samples.seconds.update({line: arrivals.seconds[line] for line in (_ARRIVAL, _NOTHING)})
    return samples


def _rollbacks(machine: Machine, installation: Installation, samples: Samples) -> list[Case]:
    name = machine.upgrade()
    _change(machine.root, "changed\n")
    begin = (installation.command, "rollback", name, "--root", str(machine.root), "--yes")

    def case(line: str, *options: str) -> Case:
        def once() -> None:
            filling.settle(machine.top)
            with samples.time(line):
                subprocess.run(
                    (*begin, *options),
                    env=installation.environment,
                    check=True,
                    capture_output=True,
                )
            assert _has_changed(machine.next_root(), "changed\n") == (line == _OURS)
            machine.take_back()

        return once

    return [case(_OURS, "--no-keep", "--keep", "/data"), case(_WITHOUT, "--no-keep")]


def _arrivals(machine: Machine, installation: Installation, samples: Samples) -> list[Case]:
    """Return the first boots of new roots, a rollback before each."""
    command = commands.arguments(machine.root, ("settle", "--at-boot"))
    text = iter(f"late {number}\n" for number in range(10_000))

    def case(line: str) -> Case:
        def once() -> None:
            machine.roll_back(machine.upgrade(), keep=("/data",))
            late = next(text)
            if line == _ARRIVAL:
                _change(machine.root, late)
            _reboot(machine)
            filling.settle(machine.top)
            with samples.time(line):
                subprocess.run(
                    command, env=installation.environment, check=True, capture_output=True
                )
            assert _has_changed(machine.root, late) == (line == _ARRIVAL)

        return once

    return [case(_ARRIVAL), case(_NOTHING)]


def _reboot(machine: Machine) -> None:
    """Boot it again; its image has no name any more."""
    device = run_program("findmnt", "--noheadings", "--output", "SOURCE", str(machine.top))
    run_program("umount", str(machine.root))
    running.begin_boot(machine.root)
    options = ("-o", "subvol=root", device.partition("[")[0].strip())
    run_program("mount", *options, str(machine.root))


def _change(root: Path, text: str) -> None:
    for number in range(0, _SIZE, 100):
        _file(root, number).write_text(text, encoding="ascii")


def _has_changed(root: Path, text: str) -> bool:
    return {_file(root, n).read_text() for n in range(0, _SIZE, 100)} == {text}


def _file(root: Path, number: int) -> Path:
    return root / f"data/{number // _IN_A_DIRECTORY:05}/{number}"


def _copy(machine: Machine, samples: Samples) -> None:
    filling.settle(machine.top)
    copy = machine.root / "copy"
    command = ("cp", "-a", "--reflink=always", str(machine.root / "data"), str(copy))
    with samples.time(_PEER):
        subprocess.run(command, check=True)
    shutil.rmtree(copy)
