# SPDX-License-Identifier: GPL-2.0-or-later
"""What the dnf tier does again and again: publish packages, run dnf, ask what was recorded.

`both` runs a test, or a module, with dnf 4 and with dnf 5, `dnf5_always` with dnf 4 only in the
full runs; `dnf5` only with that; `once_each` runs one that has `any_sandbox` with both dnfs and in
both layouts, but not each with each.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from tests.sandbox.engine import Engine
from tests.sandbox.layout import Layout
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package, build, publish

both = pytest.mark.parametrize("engine", list(Engine), ids=lambda engine: engine.value)
once_each = pytest.mark.parametrize(
    ("layout", "engine"),
    [(Layout.TOP_LEVEL, Engine.DNF4), (Layout.NAMED, Engine.DNF5)],
    ids=lambda value: value.value,
)
dnf5_always = pytest.mark.parametrize(
    "engine", [pytest.param(Engine.DNF4, marks=pytest.mark.rare), Engine.DNF5], ids=["dnf4", "dnf5"]
)
dnf5 = pytest.mark.parametrize("engine", [Engine.DNF5], ids=lambda engine: engine.value)

LINE = "fs-snapshot: snapshotting /: /fs-snapshots/"


def app(version: str, **more: Any) -> Package:
    """Return a package `app` whose one program says its version."""
    return Package("app", version, files={"/usr/bin/app": f"#!/bin/sh\necho {version}\n"}, **more)


def offer(sandbox: Sandbox, *packages: Package) -> None:
    """Put packages into the machine's repository."""
    build(packages, sandbox.repository)
    publish(sandbox.repository)


def dnf(sandbox: Sandbox, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run dnf in the machine; it has to end with `code`. Its snapshot has its record then."""
    done = sandbox.run(["dnf", "--assumeyes", *arguments], check=False)
    assert done.returncode == code, done.stdout + done.stderr
    wait_for_keepers(sandbox)
    return done


def said(done: subprocess.CompletedProcess[str]) -> str:
    """Return all that a person has seen: dnf 4 tells us on stdout, dnf 5 on stderr."""
    return done.stdout + done.stderr


def lines_of_ours(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return what a person has seen of fs-snapshot."""
    return [line for line in said(done).splitlines() if "fs-snapshot" in line]


def wait_for(reached: Callable[[], bool], what: object, *, timeout_s: float = 60) -> None:
    """Wait until something is true; it has to become so."""
    deadline = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def wait_for_path(path: Path, *, timeout_s: float = 60) -> None:
    """Wait until a file is there."""
    wait_for(path.exists, path, timeout_s=timeout_s)


def keepers(sandbox: Sandbox) -> list[int]:
    """Return the PIDs of what runs in the machine of fs-snapshot for dnf 5.

    It takes the snapshot; a child of it completes the record, milliseconds after dnf 5 has ended.
    """
    return [pid for pid, line in processes(sandbox).items() if b"/fs-snapshot-dnf5" in line]


def processes(sandbox: Sandbox) -> dict[int, bytes]:
    """Return the command lines of the processes of the machine, by PID as the test sees it."""
    machine = os.stat(sandbox.path("/"))
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            root = os.stat(path / "root")
            line = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if (root.st_dev, root.st_ino) == (machine.st_dev, machine.st_ino):
            found[int(path.name)] = line
    return found


def wait_for_keepers(sandbox: Sandbox, *, timeout_s: float = 10) -> None:
    """Wait until nothing of fs-snapshot runs any more: all records are complete then."""
    wait_for(lambda: not keepers(sandbox), "fs-snapshot still runs", timeout_s=timeout_s)


def snapshots(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Return what `fs-rollback list --json` says."""
    answer = json.loads(sandbox.output("fs-rollback", "list", "--json"))
    found: list[dict[str, Any]] = answer["snapshots"]
    return found


def records(sandbox: Sandbox, top: Optional[Path] = None) -> dict[str, dict[str, Any]]:
    """Return the records as they are on the disk, by name; `top` is where that is open already."""
    if top is None:
        with sandbox.top() as opened:
            return records(sandbox, opened)
    paths = (top / "fs-snapshots").glob("*.json")
    named = sorted(path for path in paths if path.name != "pending.json")
    return {path.stem: json.loads(path.read_text()) for path in named}


def installed(sandbox: Sandbox, package: str = "app") -> str:
    """Return the installed version of a package as rpm has it, "" if it has none."""
    query = ["rpm", "-q", "--queryformat", "%{VERSION}\\n", package]
    done = sandbox.run(query, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
