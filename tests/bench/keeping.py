# SPDX-License-Identifier: GPL-2.0-or-later
"""Part K: a rollback with many files in a kept path, few of them changed, against copying all."""

from __future__ import annotations

import shutil
import subprocess
from functools import partial
from pathlib import Path

from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Case, Promise, Samples, in_turns, promises, table
from tests.kernel.machine import Machine

ROUNDS = 7
_SIZE = 50_000
_IN_A_DIRECTORY = 100
_OURS, _WITHOUT = "fs-rollback rollback --keep", "fs-rollback rollback --no-keep"
_PEER = "cp -a --reflink=always"
_PROMISED = (Promise(_OURS, _PEER, 0.15),)


def run(directory: Path, installation: Installation, rounds: int) -> Samples:
    """Measure part K and print it."""
    samples = Samples()
    with filling.machine(directory / "keeping", image_bytes=1 << 30) as machine:
        for number in range(_SIZE):
            _file(machine.root, number).parent.mkdir(parents=True, exist_ok=True)
            _file(machine.root, number).write_text(f"file {number}\n" * 10, encoding="ascii")
        name = machine.upgrade()
        for number in range(0, _SIZE, 100):
            _file(machine.root, number).write_text("changed\n", encoding="ascii")
        begin = (installation.command, "rollback", name, "--root", str(machine.root), "--yes")
        environment = installation.environment

        def case(line: str, *options: str) -> Case:
            def once() -> None:
                filling.settle(machine.top)
                with samples.time(line):
                    subprocess.run(
                        (*begin, *options), env=environment, check=True, capture_output=True
                    )
                _expect_done(machine, kept=line == _OURS)
                machine.take_back()

            return once

        cases: list[Case] = [
            case(_OURS, "--no-keep", "--keep", "/data"),
            case(_WITHOUT, "--no-keep"),
            partial(_copy, machine, samples),
        ]
        in_turns(cases, rounds, samples, warm_up=1)
    title = f"K. {_SIZE} files in a kept path, 1 % changed since the snapshot ({rounds} rounds)"
    print(table(title, samples, _PEER))
    print(promises(samples, _PROMISED))
    return samples


def _file(root: Path, number: int) -> Path:
    return root / f"data/{number // _IN_A_DIRECTORY:05}/{number}"


def _expect_done(machine: Machine, *, kept: bool) -> None:
    texts = {_file(machine.next_root(), n).read_text() for n in range(0, _SIZE, 100)}
    assert (texts == {"changed\n"}) == kept


def _copy(machine: Machine, samples: Samples) -> None:
    filling.settle(machine.top)
    copy = machine.root / "copy"
    command = ("cp", "-a", "--reflink=always", str(machine.root / "data"), str(copy))
    with samples.time(_PEER):
        subprocess.run(command, check=True)
    shutil.rmtree(copy)
