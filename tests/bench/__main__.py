# SPDX-License-Identifier: GPL-2.0-or-later
"""The options of tests/bench/run, which starts this."""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path
from typing import Any, Optional

from tests.bench import (
    comparison,
    fleet,
    hooks,
    keeping,
    listing,
    many,
    memory,
    question,
    restoring,
    sizes,
    startup,
    transactions,
)
from tests.bench.installation import Installation


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run", description="Measure the promises about time."
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="the same number for each part")
    parser.add_argument(
        "--only",
        choices="ABCDEFGHKMRS",
        help="A: a transaction, B: list with many snapshots, C: start-up, D: the hook of dnf 5,"
        " E: a transaction and pruning with many snapshots, F: memory, G: diff,"
        " H: the question of a rollback, K: a rollback with many kept files, M: many machines,"
        " R: restore of a directory, S: what snapshots hold",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all samples, in seconds")
    return parser.parse_args()


def main() -> None:
    """Measure what was asked for."""
    options = _options()
    results: dict[str, Any] = {"kernel": platform.release(), "python": platform.python_version()}
    print(f"Linux {results['kernel']}, Python {results['python']}, {os.cpu_count()} processors")
    with tempfile.TemporaryDirectory(prefix="fs-bench-") as name:
        directory = Path(name)
        installation = Installation(directory / "installation")
        results.update(_parts(directory, installation, options.rounds, options.only))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="ascii")


def _parts(
    directory: Path, installation: Installation, rounds: Optional[int], only: Optional[str]
) -> dict[str, Any]:
    results: dict[str, Any] = {}
    if only in (None, "A"):
        both, imports = transactions.run(directory, installation, rounds or transactions.ROUNDS)
        results["A"] = {**both.seconds, **imports.seconds}
    if only in (None, "B"):
        listed = listing.run(directory, installation, rounds or listing.ROUNDS)
        results["B"] = {size: samples.seconds for size, samples in listed.items()}
    if only in (None, "C"):
        results["C"] = startup.run(directory, installation, rounds or startup.ROUNDS).seconds
    if only in (None, "D"):
        results["D"] = hooks.run(directory, rounds or hooks.ROUNDS).seconds
    if only in (None, "E"):
        prunings = rounds or many.PRUNINGS
        found = many.run(directory, installation, rounds or many.ROUNDS, prunings)
        results["E"] = found.seconds
    if only in (None, "F"):
        results["F"] = memory.run(directory, installation)
    if only in (None, "G"):
        compared = comparison.run(directory, installation, rounds or comparison.ROUNDS)
        results["G"] = {name: samples.seconds for name, samples in compared.items()}
    if only in (None, "H"):
        asked = question.run(directory, installation, rounds or question.ROUNDS)
        results["H"] = asked.seconds
    if only in (None, "K"):
        results["K"] = keeping.run(directory, installation, rounds or keeping.ROUNDS).seconds
    if only in (None, "M"):
        results["M"] = fleet.run(directory, rounds or fleet.ROUNDS)
    if only in (None, "R"):
        results["R"] = restoring.run(directory, installation, rounds or restoring.ROUNDS).seconds
    if only in (None, "S"):
        held = sizes.run(directory, installation, rounds or sizes.ROUNDS)
        results["S"] = {name: samples.seconds for name, samples in held.items()}
    return results


if __name__ == "__main__":
    main()
