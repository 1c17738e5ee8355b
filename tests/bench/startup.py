# SPDX-License-Identifier: GPL-2.0-or-later
"""Part C: how long the command takes to begin, and which imports that time goes to."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.bench import filling
from tests.bench.installation import FLAGS, PYTHON, Installation
from tests.bench.measure import Promise, Samples, commands_in_turns, plain_table, promises, table

ROUNDS = 40
_SNAPSHOTS = 10
_BARE = "python3 -I -S -c pass"
_SITE = f"python3 {FLAGS} -c pass"
_VERSION = "fs-rollback --version"
_LIST = f"fs-rollback list, {_SNAPSHOTS}"
_STATUS = "fs-rollback status"
_MADE = (Promise(_VERSION, _BARE, 3), Promise(_LIST, _BARE, 6), Promise(_STATUS, _BARE, 9))
# No dnf of that machine takes snapshots, and it says so.
_CODES = {_STATUS: 1}
_SHOWN = 5
_LOOKS = 9
_LINE = re.compile(r"import time: +(\d+) \| +(\d+) \| *(\S+)")
# Runs the command in an interpreter that has imported nothing for it, and counts afterwards.
_COUNT = """\
import sys
before = len(sys.modules)
sys.argv = sys.argv[1:]
try:
    exec(open(sys.argv[0]).read())
except SystemExit:
    pass
print(before, len(sys.modules), file=sys.stderr)
"""


class Import(NamedTuple):
    """What one module costs, alone and with all that it imports first."""

    name: str
    own_us: float
    all_us: float


def run(directory: Path, installation: Installation, rounds: int) -> Samples:
    """Measure part C and print it."""
    with filling.machine(directory / "startup") as machine:
        store = filling.make_store(machine)
        for number in range(_SNAPSHOTS):
            filling.add_snapshot(store, machine.top / "home", number, filling.utc_now())
        arguments = {
            _VERSION: (installation.command, "--version"),
            _LIST: (installation.command, "list", "--root", str(machine.root)),
            _STATUS: (installation.command, "status", "--root", str(machine.root)),
        }
        commands = {
            _BARE: (PYTHON, "-I", "-S", "-c", "pass"),
            _SITE: (PYTHON, FLAGS, "-c", "pass"),
            **arguments,
        }
        samples = commands_in_turns(commands, installation.environment, rounds, _CODES)
        print(table(f"C. Start-up ({rounds} rounds)", samples, _BARE))
        print(promises(samples, _MADE))
        for line, command in arguments.items():
            _print_imports(line, command, installation.environment)
    return samples


def _print_imports(line: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    counted = _errors((PYTHON, FLAGS, "-c", _COUNT, *command), environment).split()
    before, after = map(int, counted[-2:])
    print(f"\nC. {line}: {after} modules, {before} of them the interpreter's\n")
    found = sorted(_imports(command, environment), key=lambda i: -i.own_us)
    total = sum(i.own_us for i in found)
    rows = [[i.name, f"{i.own_us / 1000:.2f}", f"{i.all_us / 1000:.2f}"] for i in found[:_SHOWN]]
    rows.append(["all", f"{total / 1000:.2f}", ""])
    print(plain_table(rows, ["the most expensive imports", "own ms", "with its imports ms"]))


def _imports(command: Sequence[str], environment: Mapping[str, str]) -> list[Import]:
    """Return what is imported after the interpreter has started (-X importtime), as medians."""
    own: defaultdict[str, list[int]] = defaultdict(list)
    everything: defaultdict[str, list[int]] = defaultdict(list)
    for _ in range(_LOOKS):
        text = _errors((PYTHON, FLAGS, "-X", "importtime", *command), environment)
        found = _LINE.findall(text)
        begin = next(i for i, line in enumerate(found) if line[2] == "site") + 1
        for own_us, all_us, name in found[begin:]:
            own[name].append(int(own_us))
            everything[name].append(int(all_us))
    return [
        Import(name, statistics.median(times), statistics.median(everything[name]))
        for name, times in own.items()
    ]


def _errors(command: Sequence[str], environment: Mapping[str, str]) -> str:
    return subprocess.run(
        command,
        env=environment,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ).stderr
