# SPDX-License-Identifier: GPL-2.0-or-later
"""Part G: the files of two snapshots compared, against the first `snapper status` of the same."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import btrfsutil

from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.listing import CONFIGURATION, INFO
from tests.bench.measure import Case, Promise, Samples, in_turns, promises, table
from tests.kernel.machine import Machine
from tests.kernel.machine import run as run_command

ROUNDS = 7
SIZES = (100_000, 500_000)
_IN_A_DIRECTORY = 100
# What part of the files is changed, and where.
_CHANGES = {"1 % spread": (100, 1), "1 % clustered": (100, 100), "0.1 % spread": (1000, 1)}
_KNOWN, _START = "fs-rollback diff, known", "fs-rollback --version"
_PROMISED = {"1 % spread": 0.65, "1 % clustered": 0.65, "0.1 % spread": 2.0}


def run(directory: Path, installation: Installation, rounds: int) -> dict[str, Samples]:
    """Measure part G and print it."""
    # snapper writes a log, which is not to be found on this machine afterwards.
    run_command("mount", "-t", "tmpfs", "tmpfs", "/var/log")
    return {
        f"{size} files, {change}": _measure(directory, installation, size, change, rounds)
        for size in SIZES
        for change in _CHANGES
    }


def _measure(
    directory: Path, installation: Installation, size: int, change: str, rounds: int
) -> Samples:
    samples = Samples()
    # rpm takes a "%" in a path for a macro.
    place = directory / f"{size}-{change.replace(' ', '-').replace('%', 'percent')}"
    with _machine(place, size) as machine:
        first, second = _history(machine, size, *_CHANGES[change])
        ours = (installation.command, "diff", "--root", str(machine.root), "--json")
        snapper = ("snapper", "--no-dbus", "--root", str(machine.root), "status", "1..2")
        known = machine.root / ".snapshots/2"  # where snapper keeps what it has found
        changed = size // _CHANGES[change][0]

        def case(line: str, cache: Path, *command: str, says: int = changed) -> Case:
            environment = {**installation.environment, "CACHE_DIRECTORY": str(cache)}

            def once() -> None:
                for file in known.glob("filelist-*"):
                    file.unlink()
                with samples.time(line):
                    told = subprocess.run(
                        command, env=environment, stdout=subprocess.PIPE, check=True
                    ).stdout
                assert told.count(b"/data/") == says, (line, told[:500])

            return once

        names = "fs-rollback diff", "first snapper status"
        nowhere, cache = Path("/dev/null/cache"), place / "cache"
        cases = [
            case(names[0], nowhere, *ours, first, second, "--path", "/data"),
            case(_KNOWN, cache, *ours, first, second, "--path", "/data"),
            case(_START, nowhere, ours[0], "--version", says=0),
            case(names[1], nowhere, *snapper),
        ]
        in_turns(cases, rounds, samples, warm_up=1)
    print(table(f"G. {size} files, {change} ({rounds} rounds)", samples, names[1]))
    made = Promise(*names, _PROMISED[change]), Promise(_KNOWN, _START, 1, more_s=0.05)
    print(promises(samples, made))
    return samples


@contextmanager
def _machine(directory: Path, size: int) -> Iterator[Machine]:
    with filling.machine(directory, image_bytes=max(1 << 29, size * 4096)) as machine:
        for number in range(0, size, _IN_A_DIRECTORY):
            folder = machine.root / f"data/{number // _IN_A_DIRECTORY:05}"
            folder.mkdir(parents=True)
            for file in range(_IN_A_DIRECTORY):
                (folder / f"{file:03}").write_bytes(b"old")
        yield machine


def _history(machine: Machine, size: int, every: int, together: int) -> tuple[str, str]:
    """Take a snapshot before some files are changed and one after, with both programs."""
    store, snapshots = filling.make_store(machine), machine.root / ".snapshots"
    configurations = machine.root / "etc/snapper/configs"
    configurations.mkdir(parents=True)
    (configurations / "root").write_text(CONFIGURATION, encoding="ascii")
    btrfsutil.create_subvolume(str(snapshots))
    names = []
    for number in (1, 2):
        names.append(filling.add_snapshot(store, machine.root, number, filling.utc_now()))
        (snapshots / str(number)).mkdir()
        copy = snapshots / str(number) / "snapshot"
        btrfsutil.create_snapshot(str(machine.root), str(copy), read_only=True)
        text = INFO.format(number=number, date=filling.utc_now())
        (snapshots / str(number) / "info.xml").write_text(text, encoding="ascii")
        for begin in range(0, size, every * together):
            for file in range(begin, begin + together):
                folder, name = divmod(file, _IN_A_DIRECTORY)
                (machine.root / f"data/{folder:05}/{name:03}").write_bytes(b"new")
    filling.settle(machine.top)
    return names[0], names[1]
