# SPDX-License-Identifier: GPL-2.0-or-later
"""Part D: what a transaction of dnf 5 pays, in processor time, for a program and its child.

In a root with dnf 5 and the RPM, whose files are compiled for the Python of that root.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path

from tests.bench.measure import Promise, Samples, promises, table
from tests.sandbox.base import base_image, cache_directory
from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox
from tests.sandbox.product import build_product

ROUNDS = 40
_UNIT = "python3 -c pass"
_FIRST = "the entry point to its first request"
_ALL = "all that it adds, the child's part included"
_MADE = (Promise(_FIRST, _UNIT, 3.5), Promise(_ALL, _UNIT, 7))
_MOST_MB = 16
_PROGRAM = Path(__file__).with_name("hook.py")


def run(directory: Path, rounds: int) -> Samples:
    """Measure part D and print it."""
    repository = directory / "repository"
    repository.mkdir()
    image = base_image(cache_directory(), Layout.NAMED, Engine.DNF5, say=print)
    with Sandbox(image, Layout.NAMED, directory, repository, Engine.DNF5) as sandbox:
        sandbox.boot()
        sandbox.install(build_product(directory))
        sandbox.run(["python3", "-m", "compileall", "-q", "/usr/lib/python3/dist-packages"])
        sandbox.path("/run/hook.py").write_text(_PROGRAM.read_text())
        printed = sandbox.run(["python3", "/run/hook.py", str(rounds)], timeout_s=rounds * 10)
    found = json.loads(printed.stdout)
    samples = Samples()
    samples.seconds = {
        _UNIT: found["unit"],
        _FIRST: found["first"],
        _ALL: [sum(parts) for parts in zip(found["program"], found["child"])],
        "of that the child": found["child"],
    }
    print(table(f"D. A hook of dnf 5, processor time ({rounds} rounds)", samples, _UNIT))
    print(promises(samples, _MADE))
    memory = statistics.median(found["memory"]) / 1e6
    kept = "kept" if memory <= _MOST_MB else "NOT KEPT"
    print(f"memory of the child that stays: {memory:.1f} MB, at most {_MOST_MB}: {kept}\n")
    return samples
