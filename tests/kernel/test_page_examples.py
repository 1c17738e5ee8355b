# SPDX-License-Identifier: GPL-2.0-or-later
"""The examples of fs-rollback-json(7) are run as they are, by a shell with jq."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.kernel.commands import arguments, done, environment, fs_rollback
from tests.kernel.machine import Machine
from tests.pages import MANUAL, commands

_PAGE = MANUAL / "fs-rollback-json.7.rst"


def _run(line: str, named: Machine, place: Path) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell in which fs-rollback works on the machine."""
    program = place / "fs-rollback"
    start = shlex.join(arguments(named.root, ["COMMAND"])).replace("COMMAND", '"$@"')
    program.write_text(f"#!/bin/sh\nexec {start}\n")
    program.chmod(0o755)
    return subprocess.run(
        ["bash", "-c", line],
        env=environment(PATH=f"{place}:{os.environ['PATH']}"),
        capture_output=True,
        text=True,
        check=False,
    )


def test_examples_of_json(named: Machine, tmp_path: Path) -> None:
    fit, names, packages, create, waits = commands(_PAGE, "EXAMPLES")

    def printed(line: str) -> list[str]:
        """Return the lines that an example prints, and nothing else but them."""
        ended = _run(line, named, tmp_path)
        assert (ended.returncode, ended.stderr) == (0, "")
        return ended.stdout.splitlines()

    taken = named.upgrade()
    named.take("by hand")
    assert printed(names) == [taken]
    links = fs_rollback(named.root, "check", "--json").json["links"]
    assert printed(fit) == [link["text"] for link in links if link["grade"] != "ok"]
    assert printed(packages) == [], "its rpm database is empty"
    (made,) = printed(f"{create}; echo $id")
    newest = named.snapshots()[-1]
    assert (int(made), newest.record and newest.record.description) == (newest.id, "before the job")
    assert _run(waits, named, tmp_path).returncode == 1
    done(named.root, "rollback", "--yes")
    assert printed(waits) == []
