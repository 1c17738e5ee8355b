# SPDX-License-Identifier: GPL-2.0-or-later
"""Part R: a directory of many files from a snapshot, against the copy of it alone."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from fs_rollback.core.snapshots.snapshot import STORE
from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Promise, Samples, in_turns, promises, table

ROUNDS = 10
_FILES, _A_DIRECTORY = 10_000, 100
_OURS = f"fs-rollback restore, {_FILES} files"
_PEER = f"cp -a --reflink=always, {_FILES} files"
_MADE = (Promise(_OURS, _PEER, 1.1),)
_PLACE = "srv/data"


def run(directory: Path, installation: Installation, rounds: int) -> Samples:
    """Measure part R and print it: whole processes, with nothing in the place of the copy."""
    samples = Samples()
    with filling.machine(directory / "restoring") as machine:
        _fill(machine.root / _PLACE)
        filling.settle(machine.top)
        name = machine.take()
        shutil.rmtree(machine.root / _PLACE)
        ours = (installation.command, "restore", "--root", str(machine.root), name, f"/{_PLACE}")
        peer = ("cp", "-a", "--reflink=always", str(machine.top / STORE / name / _PLACE), _PLACE)

        def timed(line: str, *command: str) -> None:
            filling.settle(machine.top)
            with samples.time(line):
                subprocess.run(
                    command,
                    check=True,
                    env=installation.environment,
                    stdout=subprocess.DEVNULL,
                    cwd=machine.root,
                )
            shutil.rmtree(machine.root / _PLACE)

        cases = [lambda: timed(_OURS, *ours, "--yes"), lambda: timed(_PEER, *peer)]
        in_turns(cases, rounds, samples, warm_up=1)
    print(table(f"R. Restore of a directory ({rounds} rounds)", samples, _PEER))
    print(promises(samples, _MADE))
    return samples


def _fill(place: Path) -> None:
    """Make files of 700 bytes, which lie in the metadata, and some of 9000."""
    for number in range(_FILES):
        directory = place / f"{number // _A_DIRECTORY}"
        directory.mkdir(parents=True, exist_ok=True)
        size = 9000 if number % 3 == 0 else 700
        (directory / f"{number}").write_bytes(os.urandom(size))
