# SPDX-License-Identifier: GPL-2.0-or-later
"""Part E: what grows with the number of snapshots: a transaction, and pruning many at once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import btrfsutil

from fs_rollback.config import Config
from fs_rollback.core.snapshots.names import SNAPSHOT_PREFIX
from fs_rollback.core.snapshots.record import Outcome
from fs_rollback.system.hooks import transaction
from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Case, Promise, Samples, in_turns, promises, table
from tests.kernel.machine import Machine

ROUNDS = 15
PRUNINGS = 5
SIZES = (10, 1000, 3000)
_PRUNED, _LEFT = 980, 20
_BARE, _HOOKS = "bare ioctl, {}", "before and after, {}"
_OURS, _PEER = f"fs-rollback prune, {_PRUNED}", f"btrfs subvolume delete, {_PRUNED}"
_GROWTH = (Promise(_HOOKS.format(1000), _HOOKS.format(10), 2),)
_PRUNING = (Promise(_OURS, _PEER, 1.5),)


class Snapshots:
    """A machine with as many snapshots of its root as are wanted, all older than a month."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.store = filling.make_store(machine)
        self._made = 0

    def fill(self, size: int) -> list[str]:
        """Add what is missing of so many snapshots; return the paths of all, oldest first."""
        paths = self.paths()
        now = filling.utc_now()
        for _ in range(size - len(paths)):
            self._made += 1
            name = filling.add_snapshot(self.store, self.machine.root, self._made, now)
            paths.append(str(self.store / name))
        filling.settle(self.machine.top)
        return paths

    def paths(self) -> list[str]:
        found = self.store.glob(f"{SNAPSHOT_PREFIX}*")
        return sorted(str(path) for path in found if path.suffix != ".json")

    def dirty(self) -> None:
        """Let nothing go on in the filesystem, and write a little to the root."""
        filling.settle(self.machine.top)
        for number in range(3):
            (self.machine.root / f"var/data{number}").write_bytes(os.urandom(3000))


@contextmanager
def _filled(directory: Path, sizes: Sequence[int]) -> Iterator[list[Snapshots]]:
    directory.mkdir()
    with ExitStack() as stack:
        found = []
        for number, size in enumerate(sizes):
            made = stack.enter_context(filling.machine(directory / f"many{number}"))
            found.append(Snapshots(made))
            found[-1].fill(size)
        yield found


def run(directory: Path, installation: Installation, rounds: int, prunings: int) -> Samples:
    """Measure part E and print it."""
    samples = _growth(directory, rounds)
    pruning = _prune(directory, installation, prunings)
    samples.seconds.update(pruning.seconds)
    return samples


def _growth(directory: Path, rounds: int) -> Samples:
    samples = Samples()
    config = Config(keep_last=10 * max(SIZES), boot_entries=0)
    with _filled(directory / "growth", SIZES) as machines:
        cases: list[Case] = []
        for size, machine in zip(SIZES, machines):
            cases.append(partial(_bare, machine, size, samples))
            cases.append(partial(_hooks, machine, size, samples, config))
        in_turns(cases, rounds, samples)
    first = _HOOKS.format(SIZES[0])
    print(table(f"E. A transaction with many snapshots ({rounds} rounds)", samples, first))
    print(promises(samples, _GROWTH))
    return samples


def _bare(snapshots: Snapshots, size: int, samples: Samples) -> None:
    snapshots.dirty()
    timed = samples.time(_BARE.format(size))
    made = filling.bare_snapshot(snapshots.machine.root, snapshots.store, timed)
    btrfsutil.delete_subvolume(str(made))


def _hooks(snapshots: Snapshots, size: int, samples: Samples, config: Config) -> None:
    snapshots.dirty()
    with samples.time(_HOOKS.format(size)):
        root = str(snapshots.machine.root)
        taken = transaction.before(filling.transaction(1), root, config)
        assert isinstance(taken, transaction.Taken), taken
        problems = transaction.after(taken, Outcome.DONE, 1)
    assert problems == []
    made = snapshots.store / taken.record.name
    btrfsutil.delete_subvolume(str(made))
    made.with_name(f"{made.name}.json").unlink()


def _prune(directory: Path, installation: Installation, rounds: int) -> Samples:
    samples = Samples()
    with _filled(directory / "pruning", (_LEFT, _LEFT)) as (ours, other):
        configuration = ours.machine.root / "etc/fs-rollback.conf"
        configuration.write_text(f"keep_last = {_LEFT}\nkeep_days = 0\n", encoding="ascii")
        cases = [partial(_ours, ours, installation, samples), partial(_peer, other, samples)]
        in_turns(cases, rounds, samples, warm_up=1)
    print(table(f"E. Pruning ({rounds} rounds)", samples, _PEER))
    print(promises(samples, _PRUNING))
    return samples


def _ours(snapshots: Snapshots, installation: Installation, samples: Samples) -> None:
    snapshots.fill(_PRUNED + _LEFT)
    command = (installation.command, "prune", "--root", str(snapshots.machine.root))
    with samples.time(_OURS):
        subprocess.run(command, env=installation.environment, check=True, capture_output=True)
    assert len(snapshots.paths()) == _LEFT
    assert len(list(snapshots.store.glob("*.json"))) == _LEFT


def _peer(snapshots: Snapshots, samples: Samples) -> None:
    doomed = snapshots.fill(_PRUNED + _LEFT)[:_PRUNED]
    command = ("btrfs", "subvolume", "delete", "--commit-after", *doomed)
    with samples.time(_PEER):
        subprocess.run(command, check=True, capture_output=True)
    assert len(snapshots.paths()) == _LEFT
    for path in doomed:
        os.unlink(f"{path}.json")
