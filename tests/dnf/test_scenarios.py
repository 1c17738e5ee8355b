# SPDX-License-Identifier: GPL-2.0-or-later
"""Each scenario with a real dnf 4 and a real dnf 5: the snapshot, its record, what is said."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Optional

from tests.dnf.scenarios import COMPS, PACKAGES, SCENARIOS, Scenario
from tests.dnf.scenes import (
    LINE,
    both,
    lines_of_ours,
    offer,
    records,
    said,
    snapshots,
    wait_for_keepers,
)
from tests.sandbox.engine import Engine
from tests.sandbox.machine import Sandbox

# Of each dnf: where its history is, and what it calls the end of a transaction.
_HISTORY = {
    Engine.DNF4: ("/var/lib/dnf/history.sqlite", "SELECT id, state FROM trans ORDER BY id"),
    Engine.DNF5: (
        "/usr/lib/sysimage/libdnf5/transaction_history.sqlite",
        "SELECT trans.id, name FROM trans JOIN trans_state ON trans_state.id = state_id"
        " ORDER BY trans.id",
    ),
}
_ENDS = {"done": (1, "Ok"), "failed": (2, "Error")}


@both
def test_each_scenario(sandbox: Sandbox) -> None:
    offer(sandbox, *PACKAGES)
    (sandbox.repository / "comps.xml").write_text(COMPS)
    renew = ["createrepo_c", "--quiet", "--groupfile=comps.xml", str(sandbox.repository)]
    subprocess.run(renew, check=True)
    with sandbox.top() as top:  # once: there are many
        wrong = [
            text
            for s in SCENARIOS
            if sandbox.engine in s.engines
            for text in _play(sandbox, top, s)
        ]
    assert wrong == []
    assert {s["transaction"]["outcome"] for s in snapshots(sandbox)} == {"done", "failed"}


def _play(sandbox: Sandbox, top: Path, scenario: Scenario) -> list[str]:
    """Run the command; return what is not as it should be."""
    before = set(records(sandbox, top))
    words = scenario.command.split()
    done = sandbox.run(["dnf", "--assumeyes", *words], check=False)
    wait_for_keepers(sandbox)
    taken = [record for name, record in records(sandbox, top).items() if name not in before]
    expected: dict[str, Any] = {
        "code": scenario.code,
        "dnf says": scenario.seen,
        "snapshots": [],
        "lines": 0,
    }
    found: dict[str, Any] = {
        "code": done.returncode,
        "dnf says": scenario.seen if scenario.seen in said(done) else said(done),
        "snapshots": [_told(record) for record in taken],
        "lines": len([line for line in lines_of_ours(done) if "fs-snapshot:" in line]),
    }
    if scenario.packages:
        number, end = _last_of(sandbox)
        assert end in _ENDS[scenario.outcome], scenario.name
        expected["lines"] = 0 if scenario.is_quiet else 1
        expected["snapshots"] = [
            {
                "kind": "pre",
                "tool": sandbox.engine.value,
                "command_line": ["dnf", "--assumeyes", *words],
                "packages": sorted(scenario.packages),
                "outcome": scenario.outcome,
                "history_id": number,
                "is there": True,
            }
        ]
        for told, record in zip(found["snapshots"], taken):
            told["is there"] = (top / "fs-snapshots" / record["name"]).is_dir()
            heard = done.stdout if sandbox.engine is Engine.DNF4 else done.stderr
            found["lines"] -= 0 if scenario.is_quiet or LINE + record["name"][:4] in heard else 1
    return [
        f"{scenario.name}: {key} {found[key]}, not {expected[key]}"
        for key in expected
        if found[key] != expected[key]
    ]


def _told(record: dict[str, Any]) -> dict[str, Any]:
    """Return of a record what a scenario says of it."""
    keys = ("tool", "command_line", "outcome", "history_id")
    packages = [_words(package) for package in record["transaction"]["packages"]]
    told = {key: record["transaction"][key] for key in keys}
    return {"kind": record["kind"], **told, "packages": sorted(filter(None, packages))}


def _words(package: dict[str, Optional[str]]) -> str:
    """Return a change as a scenario has it; "" for one of a reason, which changes no file."""
    if package["action"] == "reason":
        return ""
    arch = "" if package["arch"] == "noarch" else f".{package['arch']}"
    words = (package["action"], f"{package['name']}{arch}", package["from"], package["to"])
    return " ".join(word for word in words if word)


def _last_of(sandbox: Sandbox) -> tuple[int, object]:
    """Return the last row of dnf's history: its number and its end."""
    path, query = _HISTORY[sandbox.engine]
    with tempfile.TemporaryDirectory() as directory:
        # A copy: SQLite does not open a file by a path through another mount namespace.
        place = sandbox.path(path)
        for file in place.parent.glob(f"{place.name}*"):
            shutil.copy(file, directory)
        with closing(sqlite3.connect(Path(directory, place.name))) as database:
            number, end = database.execute(query).fetchall()[-1]
    return int(number), end
