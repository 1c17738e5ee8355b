# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback, its reboot, and the first boot of the new root, on a machine that is only mounted."""

from __future__ import annotations

import os
from pathlib import Path

from tests.kernel.commands import Done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.test_store import listed, store_of

# Where each layout has the user data that lies in the root.
KEPT = ("root", "var/log")


def rolled_back(machine: Machine) -> str:
    """Give a machine that waits for its reboot; returns the snapshot's name."""
    name = machine.upgrade()
    machine.use(1)
    quietly(machine)
    machine.roll_back(name)
    return name


def quietly(machine: Machine) -> None:
    """Let the test read without leaving times of access, which count as changes."""
    run("mount", "-o", "remount,noatime", str(machine.root))


def reboot(machine: Machine) -> None:
    machine.reboot()
    quietly(machine)


def arrive(machine: Machine, *options: str) -> Done:
    return fs_rollback(machine.root, "settle", *(options or ("--at-boot",)))


def replaced(machine: Machine) -> str:
    rows = listed(machine).values()
    return str(next(row["name"] for row in rows if row["kind"] == "replaced"))


def left_behind(machine: Machine) -> set[str]:
    """Return what arrivals left behind: in the root, and in the store."""
    found = {name for name in os.listdir(machine.root) if name.startswith(".fs")}
    return found | {name for name in os.listdir(store_of(machine)) if ".keep" in name}


def journal_of(machine: Machine) -> Path:
    return store_of(machine) / "pending.json"
