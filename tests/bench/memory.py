# SPDX-License-Identifier: GPL-2.0-or-later
"""Part F: the most memory that is resident at once, of `list` and of dnf 4 with the plugin."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.bench import filling
from tests.bench.installation import FLAGS, PYTHON, Installation
from tests.bench.measure import plain_table

SIZES = (10, 1000, 5000)
_BARE = "python3 -c pass"
_DNF = "import dnf.cli.main"

# What is measured reads its own peak: that of a child, getrusage(2), begins with its parent's.
_PEAK = """
lines = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(lines["VmHWM"].split()[0], file=__import__("sys").stderr)
"""
_COMMAND = """\
import sys
sys.argv = sys.argv[1:]
try:
    exec(open(sys.argv[0]).read())
except SystemExit:
    pass
"""
_HOOKS = """\
import sys
import dnf.cli.main, fs_snapshot, fs_snapshot_dnf4
from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.hooks import transaction
config = Config(keep_last=int(sys.argv[2]), keep_days=0, boot_entries=0)
taken = transaction.before(Transaction("dnf4", ("dnf",), "admin"), sys.argv[1], config)
assert transaction.after(taken, Outcome.DONE, 1) == []
"""


def run(directory: Path, installation: Installation) -> dict[str, float]:
    """Measure part F and print it; returns megabytes by line."""
    environment = installation.environment
    found = {
        _BARE: _peak_mb("pass", (), environment),
        _DNF: _peak_mb(_DNF, (), environment),
        "the plugin loaded": _peak_mb(f"{_DNF}, fs_snapshot", (), environment),
    }
    with filling.machine(directory / "memory") as machine:
        root, store = str(machine.root), filling.make_store(machine)
        made = 0
        for size in SIZES:
            for number in range(made, size):
                filling.add_snapshot(store, machine.root, number, filling.utc_now())
            made = size
            listing = (installation.command, "list", "--root", root)
            found[f"fs-rollback list, {size}"] = _peak_mb(_COMMAND, listing, environment)
            hooks = (root, str(10 * size))
            found[f"both hooks, {size}"] = _peak_mb(_HOOKS, hooks, environment)
            pruning = (root, str(size))  # one more than is kept: retention reads them all
            found[f"both hooks, {size}, one pruned"] = _peak_mb(_HOOKS, pruning, environment)
            made += 1  # two came, one went
    rows = [
        [line, f"{mb:.1f}", f"{mb / found[_floor(line)]:.2f}", _floor(line)]
        for line, mb in found.items()
    ]
    print("\nF. Memory, the peak of what is resident\n")
    print(plain_table(rows, ["", "MB", "ratio", "to"], left=(0, 3)))
    return found


def _floor(line: str) -> str:
    return _BARE if line in (_BARE, _DNF) or line.startswith("fs-rollback") else _DNF


def _peak_mb(program: str, arguments: Sequence[str], environment: Mapping[str, str]) -> float:
    command = (PYTHON, FLAGS, "-c", program + "\n" + _PEAK, *arguments)
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return int(done.stderr.split()[-1]) * 1024 / 1e6
