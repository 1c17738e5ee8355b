# SPDX-License-Identifier: GPL-2.0-or-later
"""Part M: Ansible asks many machines how they stand, against its own ping.

The machines are directories with a local connection and a program that answers what was recorded,
with as many snapshots as a machine keeps: what they do is done here, too, and counts. Memory is the
peak of the controller's largest process, which is the one that keeps what each machine answered.
"""

from __future__ import annotations

import os
import statistics
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.bench.measure import plain_table
from tests.packaging.stand_in import COLLECTION, Machines, environment, install_collection

ROUNDS = 1
SIZES = (10, 100, 1000)
_FORKS = 20
_SNAPSHOTS, _PACKAGES = 40, 100
_PING = """\
- name: Ping
  hosts: all
  gather_facts: false
  tasks:
    - name: Ping
      ansible.builtin.ping:
"""


class Cost(NamedTuple):
    """What a run of the controller takes."""

    seconds: float
    peak_mb: float


def run(directory: Path, rounds: int) -> dict[str, list[Cost]]:
    """Measure part M and print it."""
    fleet = Machines(directory / "fleet")
    _fill(fleet)
    collections = directory / "collections"
    install_collection(collections)
    home = directory / "home"
    home.mkdir()
    base = {"PATH": os.environ["PATH"], "TMPDIR": str(directory), "ANSIBLE_FORKS": str(_FORKS)}
    around = environment(collections, home, base)
    ping = directory / "ping.yml"
    ping.write_text(_PING)
    lines: list[str] = []
    found: dict[str, list[Cost]] = {}
    for size in SIZES:
        names = [f"host{number:04}" for number in range(len(lines), size)]
        lines += [fleet.add(name, "before").inventory_line() for name in names]
        inventory = directory / f"inventory-{size}"
        inventory.write_text("\n".join(lines) + "\n")
        for _ in range(rounds):
            for name, playbook in (
                ("ping", ping),
                ("table", COLLECTION / "playbooks/fleet_table.yml"),
            ):
                cost = _run(playbook, inventory, around)
                found.setdefault(f"{name}, {size}", []).append(cost)
    _print(found, rounds)
    return found


def _fill(fleet: Machines) -> None:
    """Have each machine keep as much as a machine does after a year."""
    answer = fleet.words("before", "list")
    (row,) = answer["snapshots"]
    (package,) = row["transaction"]["packages"]
    packages = [{**package, "name": f"package-{number}"} for number in range(_PACKAGES)]
    transaction = {**row["transaction"], "packages": packages}
    rows = [
        {**row, "id": number, "name": f"yum_{20260000000000 + number}", "transaction": transaction}
        for number in range(_SNAPSHOTS)
    ]
    fleet.answer("before", ["list", "--json"], 0, {**answer, "snapshots": rows})


def _run(playbook: Path, inventory: Path, around: dict[str, Any]) -> Cost:
    tools = os.environ.get("FS_ROLLBACK_TOOLS", "")
    program = os.path.join(tools, "ansible-playbook")
    command: Sequence[str] = (program, "-i", str(inventory), "-e", "ansible_become=false")
    begin = os.times().elapsed
    process = subprocess.Popen(
        [*command, str(playbook)], env=around, stdout=subprocess.DEVNULL, text=True
    )
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, command
    return Cost(os.times().elapsed - begin, used.ru_maxrss * 1024 / 1e6)


def _print(found: dict[str, list[Cost]], rounds: int) -> None:
    rows = []
    for size in SIZES:
        ping, table = (_median(found[f"{name}, {size}"]) for name in ("ping", "table"))
        rows.append(
            [
                str(size),
                f"{ping.seconds:.1f}",
                f"{table.seconds:.1f}",
                f"{table.seconds / ping.seconds:.2f}",
                f"{ping.peak_mb:.0f}",
                f"{table.peak_mb:.0f}",
                f"{table.peak_mb / ping.peak_mb:.2f}",
            ]
        )
    print(f"\nM. Many machines, {_FORKS} at a time ({rounds} rounds)\n")
    headers = ["hosts", "ping s", "table s", "ratio", "ping MB", "table MB", "ratio"]
    print(plain_table(rows, headers))


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.seconds for cost in costs),
        statistics.median(cost.peak_mb for cost in costs),
    )
