# SPDX-License-Identifier: GPL-2.0-or-later
"""Part B: `fs-rollback list` against `snapper list`, whole processes, with as many snapshots."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import btrfsutil

from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Promise, Samples, commands_in_turns, promises, table
from tests.kernel.machine import Machine
from tests.kernel.machine import run as run_command

ROUNDS = 15
SIZES = (10, 100, 1000, 5000)
_PROMISED = {1000: 1.8, 5000: 1.0}

CONFIGURATION = 'SUBVOLUME="/"\nFSTYPE="btrfs"\nQGROUP=""\n'
# What snapper itself writes beside a snapshot.
INFO = """\
<?xml version="1.0"?>
<snapshot>
  <type>single</type>
  <num>{number}</num>
  <date>{date:%Y-%m-%d %H:%M:%S}</date>
  <description>dnf upgrade --refresh</description>
  <cleanup>number</cleanup>
</snapshot>
"""


class Ours:
    """A machine with a store that grows."""

    def __init__(self, machine: Machine, installation: Installation) -> None:
        self.machine = machine
        self.command = (installation.command, "list", "--root", str(machine.root))
        self.environment = installation.environment
        self._store = filling.make_store(machine)
        self._empty = _empty_subvolume(machine)

    def add(self, number: int) -> None:
        filling.add_snapshot(self._store, self._empty, number, filling.utc_now())

    def listed(self) -> int:
        """Return how many snapshots the command shows."""
        output = _output((*self.command, "--json"), self.environment)
        return len(json.loads(output)["snapshots"])


class Snapper:
    """A machine whose root has a configuration of snapper's."""

    def __init__(self, machine: Machine, environment: Mapping[str, str]) -> None:
        self.machine = machine
        self._snapper = ("snapper", "--no-dbus", "--root", str(machine.root))
        self.command = (*self._snapper, "list")
        self._environment = environment
        self._empty = _empty_subvolume(machine)
        self._now = filling.utc_now()
        configurations = machine.root / "etc/snapper/configs"
        configurations.mkdir(parents=True)
        (configurations / "root").write_text(CONFIGURATION, encoding="ascii")
        self._snapshots = machine.root / ".snapshots"
        btrfsutil.create_subvolume(str(self._snapshots))
        self._snapshots.chmod(0o750)

    def add(self, number: int) -> None:
        directory = self._snapshots / str(number)
        directory.mkdir()
        btrfsutil.create_snapshot(str(self._empty), str(directory / "snapshot"), read_only=True)
        text = INFO.format(number=number, date=self._now)
        (directory / "info.xml").write_text(text, encoding="ascii")

    def listed(self) -> int:
        """Return how many snapshots snapper shows; its number 0 is the present root."""
        command = (*self._snapper, "--csvout", "list", "--columns", "number")
        lines = _output(command, self._environment).split()
        assert lines[:2] == ["number", "0"], lines[:2]
        return len(lines) - 2


def _empty_subvolume(machine: Machine) -> Path:
    path = machine.top / "home"
    shutil.rmtree(path / "user", ignore_errors=True)
    return path


def _output(command: Sequence[str], environment: Mapping[str, str]) -> str:
    return subprocess.run(
        command, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def run(directory: Path, installation: Installation, rounds: int) -> dict[int, Samples]:
    """Measure part B and print it."""
    # snapper writes a log, which is not to be found on this machine afterwards.
    run_command("mount", "-t", "tmpfs", "tmpfs", "/var/log")
    results: dict[int, Samples] = {}
    with filling.machine(directory / "ours") as one, filling.machine(directory / "other") as two:
        ours, snapper = Ours(one, installation), Snapper(two, installation.environment)
        present = 0
        for size in SIZES:
            for number in range(present + 1, size + 1):
                ours.add(number)
                snapper.add(number)
            present = size
            for machine in (one, two):
                filling.settle(machine.top)
            assert (ours.listed(), snapper.listed()) == (size, size)
            results[size] = _measure(size, ours, snapper, rounds)
    return results


def _measure(size: int, ours: Ours, snapper: Snapper, rounds: int) -> Samples:
    names = f"fs-rollback list, {size}", f"snapper list, {size}"
    commands = dict(zip(names, (ours.command, snapper.command)))
    samples = commands_in_turns(commands, ours.environment, rounds)
    print(table(f"B. {size} snapshots ({rounds} rounds)", samples, names[1]))
    if size in _PROMISED:
        print(promises(samples, [Promise(*names, _PROMISED[size])]))
    return samples
