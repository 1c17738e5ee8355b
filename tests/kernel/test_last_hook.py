# SPDX-License-Identifier: GPL-2.0-or-later
"""What runs after a transaction is loaded before it: then the files may be newer, or gone."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.kernel.commands import environment
from tests.kernel.machine import Machine

# Imports what the plugins for dnf 4 and dnf 5 import, and nothing any more after the first hook.
_BOTH_HOOKS = """\
import os, sys
from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.hooks import protection, transaction

class Gone:
    def find_spec(self, name, path=None, target=None):
        raise ImportError(f"{name} is gone")

config = Config(post_snapshot=True, keep_last=1, keep_days=0, keep_replaced_days=0, boot_entries=1)
taken = transaction.before(Transaction("dnf4", ("dnf",), "admin"), sys.argv[1], config)
sys.meta_path.insert(0, Gone())
problems = transaction.after(taken, Outcome[sys.argv[2]], 2)
assert problems == [], problems
print("both", flush=True)
os._exit(0)  # what Python itself loads at its end is of no interest
"""


@pytest.mark.parametrize("outcome", ["DONE", "FAILED", "INTERRUPTED"])
def test_the_last_hook_imports_nothing(named: Machine, outcome: str) -> None:
    named.upgrade(2)
    named.take()
    named.roll_back(named.upgrade(3))
    named.reboot()
    with named.writing():
        pass  # what settles the rollback is not loaded by the hooks below
    done = subprocess.run(
        [sys.executable, "-c", _BOTH_HOOKS, str(named.root), outcome],
        capture_output=True, text=True, check=False, env=environment(),
    )  # fmt: skip
    assert done.stdout == "both\n", done.stderr
    kinds = [s.kind.value for s in named.snapshots() if s.kind]
    expected = {"DONE": ["manual", "post"], "FAILED": ["pre", "manual", "pre", "replaced", "pre"]}
    assert kinds == expected.get(outcome, expected["FAILED"])
