# SPDX-License-Identifier: GPL-2.0-or-later
"""The Ansible collection where Ansible finds it, and what runs its modules and playbooks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tests.packaging.stand_in import Machine, Machines, environment, install_collection

TOOLS = Path(sys.executable).parent
NOT_BTRFS = "fs-rollback: / is ext4, not btrfs\n  Snapshots need a btrfs root filesystem.\n"


class Ended(NamedTuple):
    """How a module ended, and what the machine was asked."""

    result: dict[str, Any]
    asked: list[str]

    @property
    def changes(self) -> list[str]:
        """What was not asked only to look."""
        looks = ("status", "list", "check", "diff", "guard status")
        return [line for line in self.asked if not line.startswith(looks)]


class Collection:
    """The collection in a place of its own, and machines for it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.machines = Machines(directory / "stand-in")
        self.place = install_collection(directory / "collections", copied=True)
        home = directory / "home"
        home.mkdir()
        base = {"PATH": f"{TOOLS}:{os.environ['PATH']}", "TMPDIR": str(directory)}
        self.environment = environment(directory / "collections", home, base)
        self.environment["PYTHONPATH"] = str(directory / "collections")
        self._count = 0

    def machine(self, state: str, *moves: str) -> Machine:
        self._count += 1
        machine = self.machines.add(f"host{self._count}", state)
        machine.moves(*moves)
        return machine

    def run(self, machine: Machine, module: str, check: bool = False, **arguments: Any) -> Ended:
        """Run a module as Ansible does on a machine."""
        told = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}
        path = machine.path / "arguments.json"
        path.write_text(json.dumps({"ANSIBLE_MODULE_ARGS": told}))
        done = subprocess.run(
            [str(machine.python), str(self.place / f"plugins/modules/{module}.py"), str(path)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout.strip(), done.stderr
        result = json.loads(done.stdout)
        assert bool(result.get("failed")) == (done.returncode != 0), done
        return Ended(result, machine.log())

    def tool(self, *command: str, code: int = 0) -> str:
        """Run one of Ansible's programs, and return what it prints."""
        done = subprocess.run(
            command,
            cwd=self.place,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout

    def play(self, playbook: str, machines: Sequence[Machine], *more: str, code: int = 0) -> str:
        """Run a playbook of the collection over these machines."""
        lines = [machine.inventory_line() for machine in machines]
        inventory = self.directory / "inventory"
        inventory.write_text("\n".join(["[all]", *lines, "[canaries]", machines[0].name]) + "\n")
        tasks = self.directory / "move.yml"
        tasks.write_text("- name: Move\n  ansible.builtin.command: move\n")
        told = {
            "guarded_update_transaction": str(tasks),
            "guarded_update_reboot": str(tasks),
            "guarded_update_delay": 0,
            "ansible_become": False,
        }
        command = ["ansible-playbook", "-i", str(inventory), "-e", json.dumps(told), *more]
        return self.tool(*command, str(self.place / f"playbooks/{playbook}.yml"), code=code)
