# SPDX-License-Identifier: GPL-2.0-or-later
"""Part S: what 20 snapshots hold, against `btrfs filesystem du -s` of them."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
from pathlib import Path

from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Case, Promise, Samples, in_turns, promises, table
from tests.kernel.machine import Machine
from tests.kernel.machine import run as run_command

ROUNDS = 3
SIZES = (100_000, 500_000)
_SNAPSHOTS = 20
_CHANGED = 100  # one of so many files, before each snapshot
_BYTES, _IN_A_DIRECTORY = 5000, 100
_OURS, _REMEMBERED, _DU = "list --size", "list --size, once more", "btrfs filesystem du -s"
_PROMISES = (Promise(_OURS, _DU, 0.1),)


def run(directory: Path, installation: Installation, rounds: int) -> dict[str, Samples]:
    """Measure part S and print it."""
    return {f"{size} files": _measure(directory, installation, size, rounds) for size in SIZES}


def _measure(directory: Path, installation: Installation, size: int, rounds: int) -> Samples:
    samples = Samples()
    cache = directory / "cache"
    environment = {**installation.environment, "CACHE_DIRECTORY": str(cache)}
    with filling.machine(directory / f"{size}", image_bytes=size * 32768 + (1 << 29)) as machine:
        paths = _history(machine, size)
        ours = (installation.command, "list", "--root", str(machine.root), "--size", "--json")

        def told(line: str, command: tuple[str, ...]) -> str:
            with samples.time(line):
                return subprocess.run(
                    command, env=environment, capture_output=True, text=True, check=True
                ).stdout

        def first() -> None:
            for file in cache.glob("*"):
                file.unlink()
            found = _alone(told(_OURS, ours))
            assert _alone(told(_REMEMBERED, ours)) == found

        def du() -> None:
            rows = re.findall(r"^ *\d+ +(\d+) ", told(_DU, _du(paths)), re.MULTILINE)
            expected = dict(zip((os.path.basename(p) for p in paths), map(int, rows)))
            assert _alone(subprocess.run(
                ours, env=environment, capture_output=True, text=True, check=True
            ).stdout) == expected  # fmt: skip

        cases: list[Case] = [first, du]
        in_turns(cases, rounds, samples, warm_up=1)
    title = f"S. Sizes of {_SNAPSHOTS} snapshots of {size} files, 1 % changed ({rounds} rounds)"
    print(table(title, samples, _DU))
    print(promises(samples, _PROMISES))
    return samples


def _du(paths: list[str]) -> tuple[str, ...]:
    return ("btrfs", "filesystem", "du", "-s", "--raw", *paths)


def _alone(answer: str) -> dict[str, int]:
    return {row["name"]: row["alone_bytes"] for row in json.loads(answer)["snapshots"]}


def _history(machine: Machine, size: int) -> list[str]:
    """Fill the root and take the snapshots; return their paths."""
    place, store = machine.root / "data", filling.make_store(machine)
    for number in range(0, size, _IN_A_DIRECTORY):
        folder = place / f"{number // _IN_A_DIRECTORY:05}"
        folder.mkdir(parents=True)
        for file in range(_IN_A_DIRECTORY):
            (folder / f"{file:03}").write_bytes(os.urandom(_BYTES))
    chosen = random.Random(1)
    names = []
    for number in range(1, _SNAPSHOTS + 1):
        names.append(filling.add_snapshot(store, machine.root, number, filling.utc_now()))
        for file in chosen.sample(range(size), size // _CHANGED):
            folder, name = place / f"{file // _IN_A_DIRECTORY:05}", f"{file % _IN_A_DIRECTORY:03}"
            (folder / "new").write_bytes(os.urandom(_BYTES))
            (folder / "new").rename(folder / name)
        run_command("btrfs", "filesystem", "sync", str(machine.top))
    filling.settle(machine.top)
    return [str(store / name) for name in names]
