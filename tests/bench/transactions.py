# SPDX-License-Identifier: GPL-2.0-or-later
"""Part A: what the plugin adds to a transaction, against the bare ioctl and the plugin of 2010."""

from __future__ import annotations

import os
import random
import subprocess
from functools import partial
from pathlib import Path

import btrfsutil

from fs_rollback.config import Config
from fs_rollback.core.snapshots.names import SNAPSHOT_PREFIX, TRIAL_PREFIX
from fs_rollback.core.snapshots.record import Kind, Outcome, Transaction
from fs_rollback.system.hooks import transaction
from fs_rollback.system.machine import host
from fs_rollback.system.snapshots import take_and_delete
from fs_rollback.system.store import store
from tests.bench import filling
from tests.bench.installation import PYTHON, Installation
from tests.bench.measure import Case, Promise, Samples, commands_in_turns, in_turns, promises, table
from tests.kernel.machine import Machine

ROUNDS = 60
_BARE = "1 bare ioctl"
_TAKE = "2 our snapshot and record"
_PLUGIN = "3 all of the plugin, no menu"
_PRUNING = "3 the same, one pruned"
_MENU = "3 all of the plugin, with the menu"
_OLD = "4 btrfs sync; btrfs snapshot"
_MANY = 300
_DNF = "import dnf.cli.main"
_LOADED = f"{_DNF}, fs_snapshot"
_MADE = (
    Promise(_TAKE, _BARE, 1.25),
    Promise(_PLUGIN, _OLD, 1),
    Promise(_PRUNING, _OLD, 1),
    Promise(_MENU, _OLD, 1.5),
)

_STORED = 20  # what retention leaves by default
_KEEP_ALL = Config(keep_last=1000, boot_entries=0)
_PRUNE = Config(keep_days=0, boot_entries=0)
_ENTRIES = Config(keep_last=1000)


class Transactions:
    """One machine, and the cases that are measured on it."""

    def __init__(self, machine: Machine, samples: Samples) -> None:
        self.machine = machine
        self.samples = samples
        self.root = str(machine.root)
        self.store = filling.make_store(machine)
        self._stored: set[str] = set()
        self._made = 0
        self._random = random.Random(1)

    def prepare(self) -> None:
        """Bring the filesystem into the state in which every case begins.

        The same number of snapshots, nothing for the cleaner to do, everything committed, and
        then the same small write to the root.
        """
        for path in self.store.iterdir():
            if path.is_dir() and path.name not in self._stored:
                self._remove(path)
        self._stored &= set(os.listdir(self.store))
        for path in self.store.glob("*.json"):
            if path.stem not in self._stored:
                path.unlink()
        self._fill()
        self._begin()

    def _remove(self, snapshot: Path) -> None:
        btrfsutil.delete_subvolume(str(snapshot))
        snapshot.with_name(f"{snapshot.name}.json").unlink(missing_ok=True)

    def _fill(self) -> None:
        while len(self._stored) < _STORED:
            self._made += 1
            now = filling.utc_now()
            self._stored.add(filling.add_snapshot(self.store, self.machine.root, self._made, now))

    def _begin(self) -> None:
        filling.settle(self.machine.top)
        for number in range(3):
            (self.machine.root / f"var/data{number}").write_bytes(self._random.randbytes(3000))

    def bare(self) -> None:
        """Time the system call that makes a read-only snapshot, and nothing else."""
        self.prepare()
        filling.bare_snapshot(self.machine.root, self.store, self.samples.time(_BARE))

    def take(self, line: str, change: Transaction) -> None:
        """Time the snapshot with its record, and the lock."""
        self.prepare()
        now = filling.utc_now()
        with host.opened(self.root) as machine, store.opened(machine) as found:
            assert found is not None
            with self.samples.time(line), found.locked():
                take_and_delete.take(machine, found, Kind.PRE, now, transaction=change)

    def plugin(self, line: str, change: Transaction, config: Config, pruned: int) -> None:
        """Time both hooks, together and each alone."""
        self.prepare()
        with self.samples.time(line):
            with self.samples.time(f"{line}: before"):
                taken = transaction.before(change, self.root, config)
            assert isinstance(taken, transaction.Taken), taken
            with self.samples.time(f"{line}: after"):
                problems = transaction.after(taken, Outcome.DONE, 1)
        assert problems == []
        assert taken.menu.problems == ()
        kept = [name for name in os.listdir(self.store) if name.startswith(SNAPSHOT_PREFIX)]
        assert len(kept) == 2 * (_STORED + 1 - pruned)

    def old(self) -> None:
        """Time what yum-plugin-fs-snapshot did."""
        self.prepare()
        snapshot = ("btrfs", "subvolume", "snapshot", self.root, str(self.store / "old"))
        with self.samples.time(_OLD):
            subprocess.run(
                ("btrfs", "filesystem", "sync", self.root), check=True, capture_output=True
            )
            subprocess.run(snapshot, check=True, capture_output=True)


class WithMenu(Transactions):
    """A machine whose newest snapshots are in the boot menu: each transaction adds one there.

    The oldest goes with it, as it does everywhere after the first few transactions.
    """

    def prepare(self) -> None:
        """Leave the newest snapshots with their entries, as the last transaction left them."""
        names = [p.name for p in self.store.iterdir() if p.name.startswith(SNAPSHOT_PREFIX)]
        snapshots = sorted(name for name in names if not name.endswith(".json"))
        for name in snapshots[: max(len(snapshots) - _STORED, 0)]:
            self._remove(self.store / name)
        if not snapshots:
            self._fill()
        self._begin()

    def plugin(self, line: str, change: Transaction, config: Config, pruned: int) -> None:
        """Time both hooks; one copy of a snapshot has come and one has gone."""
        super().plugin(line, change, config, pruned)
        copies = [name for name in os.listdir(self.store) if name.startswith(TRIAL_PREFIX)]
        newest = max(name for name in os.listdir(self.store) if name.startswith(SNAPSHOT_PREFIX))
        assert len(copies) == config.boot_entries
        assert newest.removesuffix(".json")[len(SNAPSHOT_PREFIX) :] in max(copies)


def run(directory: Path, installation: Installation, rounds: int) -> tuple[Samples, Samples]:
    """Measure part A and print it."""
    samples = Samples()
    one, many = filling.transaction(1), filling.transaction(_MANY)
    packages = f" ({_MANY} packages)"
    with (
        filling.machine(directory / "transactions") as machine,
        filling.machine(directory / "menu") as other,
    ):
        bench, menu = Transactions(machine, samples), WithMenu(other, samples)
        cases: list[Case] = [
            bench.bare,
            partial(bench.take, _TAKE, one),
            partial(bench.take, _TAKE + packages, many),
            partial(bench.plugin, _PLUGIN, one, _KEEP_ALL, 0),
            partial(bench.plugin, _PRUNING, one, _PRUNE, 1),
            partial(menu.plugin, _MENU, one, _ENTRIES, 0),
            partial(bench.plugin, _PLUGIN + packages, many, _KEEP_ALL, 0),
            bench.old,
        ]
        in_turns(cases, rounds, samples)
    print(table(f"A. A transaction ({rounds} rounds)", samples, _BARE))
    print(promises(samples, _MADE))
    return samples, _imports(installation, rounds)


def _imports(installation: Installation, rounds: int) -> Samples:
    """Measure what loading the plugin adds to a start of dnf."""
    first = _DNF
    commands = {
        line: (PYTHON, "-s", "-c", line)
        for line in (
            first,
            _LOADED,
            f"{_DNF}, fs_snapshot_dnf4",  # what the first transaction loads
        )
    }
    samples = commands_in_turns(commands, installation.environment, rounds)
    print(table(f"A. Loading the plugin ({rounds} rounds)", samples, first))
    print(promises(samples, [Promise(_LOADED, first, 1.03)]))
    return samples
