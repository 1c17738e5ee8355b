# SPDX-License-Identifier: GPL-2.0-or-later
"""What the dnf tier does again and again: publish packages, run dnf, ask what was recorded."""

from __future__ import annotations

import json
import subprocess
from typing import Any

from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package, build, publish

LINE = "fs-snapshot: snapshotting /: /fs-snapshots/"


def app(version: str, **more: Any) -> Package:
    """Return a package `app` whose one program says its version."""
    return Package("app", version, files={"/usr/bin/app": f"#!/bin/sh\necho {version}\n"}, **more)


def offer(sandbox: Sandbox, *packages: Package) -> None:
    """Put packages into the machine's repository."""
    build(packages, sandbox.repository)
    publish(sandbox.repository)


def dnf(sandbox: Sandbox, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run dnf in the machine; it has to end with `code`."""
    done = sandbox.run(["dnf", "--assumeyes", *arguments], check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done


def snapshots(sandbox: Sandbox) -> list[dict[str, Any]]:
    """Return what `fs-rollback list --json` says."""
    answer = json.loads(sandbox.output("fs-rollback", "list", "--json"))
    found: list[dict[str, Any]] = answer["snapshots"]
    return found


def records(sandbox: Sandbox) -> dict[str, dict[str, Any]]:
    """Return the records as they are on the disk, by name."""
    with sandbox.top() as top:
        store = top / "fs-snapshots"
        if not store.exists():
            return {}
        paths = sorted(path for path in store.glob("*.json") if path.name != "pending.json")
        return {path.stem: json.loads(path.read_text()) for path in paths}


def installed(sandbox: Sandbox, package: str = "app") -> str:
    """Return the installed version of a package as rpm has it, "" if it has none."""
    query = ["rpm", "-q", "--queryformat", "%{VERSION}\\n", package]
    done = sandbox.run(query, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
