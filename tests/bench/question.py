# SPDX-License-Identifier: GPL-2.0-or-later
"""Part H: the question of a rollback after a usual upgrade, against `rpm -qa` of both roots."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.bench import filling
from tests.bench.installation import Installation
from tests.bench.measure import Promise, Samples, in_turns, promises, table
from tests.kernel import upgrades
from tests.sandbox.rpms import Package, build

ROUNDS = 9
_INSTALLED = 1_940  # beside those that are upgraded, of which there are 60
# Of the headers, some 20 KiB: in the database of a Fedora with 2,000 packages they have twice that.
_LINES = 2_000
_FILES, _CHANGED = 20_000, 400
_OURS, _PEER = "fs-rollback rollback --dry-run", "rpm -qa of both roots"
_PROMISES = (Promise(_OURS, _PEER, 1.5),)


def run(directory: Path, installation: Installation, rounds: int) -> Samples:
    """Measure part H and print it."""
    samples = Samples()
    with filling.machine(directory / "question", image_bytes=1 << 30) as machine:
        others = directory / "others"
        build((Package("other", "1", more=_INSTALLED, lines=_LINES),), others)
        upgrades.rpm(machine, "--install", *sorted(others.glob("other-*.rpm")))
        upgrades.install(machine, directory)
        files = [machine.root / f"usr/share/files/{n // 100}/{n}" for n in range(_FILES)]
        for number, path in enumerate(files):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{number}\n", encoding="ascii")
        name = upgrades.upgrade(machine, directory)
        upgrades.work(machine)
        for path in files[:: _FILES // _CHANGED]:
            path.write_text("upgraded\n", encoding="ascii")
        databases = [directory / "now", directory / "then"]
        trees = machine.root, machine.top / "fs-snapshots" / name
        for tree, copy in zip(trees, databases):
            shutil.copytree(tree / upgrades.RPMDB, copy)
        filling.settle(machine.top)

        def ours() -> None:
            command = (installation.command, "rollback", "--root", str(machine.root), "--dry-run")
            with samples.time(_OURS):
                told = subprocess.run(
                    command, env=installation.environment, stdout=subprocess.PIPE, check=True
                ).stdout
            assert b"60 reverted" in told, told

        def peer() -> None:
            with samples.time(_PEER):
                for place in databases:
                    query = ("rpm", "--dbpath", str(place), "-qa")
                    subprocess.run(query, stdout=subprocess.DEVNULL, check=True)

        in_turns([ours, peer], rounds, samples, warm_up=1)
    print(table(f"H. The question after an upgrade ({rounds} rounds)", samples, _PEER))
    print(promises(samples, _PROMISES))
    return samples
