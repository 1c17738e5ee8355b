# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that was converted from ext4, where the package fs-rollback-convert is gone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.kernel import commands
from tests.kernel.commands import Done
from tests.kernel.machine import Machine

_PACKAGE = Path(__file__).parents[2] / "rollback/fs_rollback"


@pytest.fixture
def library(tmp_path: Path) -> str:
    """The directory of a program without its wing."""
    directory = tmp_path / "library"
    ignored = shutil.ignore_patterns("__pycache__", "convert")
    shutil.copytree(_PACKAGE, directory / "fs_rollback", ignore=ignored)
    return str(directory)


def test_all_but_the_conversion_itself_works(named: Machine, library: str) -> None:
    def run(*words: str) -> Done:
        return commands.fs_rollback(named.root, *words, env={"PYTHONPATH": library})

    name = named.upgrade()
    directory = named.top / "fs-snapshots/conversion"
    directory.mkdir()
    (directory / "state.json").write_text(json.dumps({"version": 1, "stage": "converted"}))

    status = run("status", "--json").json
    assert status["unfinished_conversion"] is True
    assert not any("conversion" in line for line in status["attention"])
    finish = "Conversion:    from ext4; 'fs-rollback convert finish' does the rest\n"
    assert finish in run("status").out
    refused = run("convert", "finish")
    refused.expect_refusal("fs-rollback-convert, which is not installed", code=2)

    assert [row["name"] for row in run("list", "--json").json["snapshots"]] == [name]
    assert run("rollback", "--yes").code == 0
    assert run("status", "--json").json["waiting"] == "reboot"
    assert run("undo", "--yes").code == 0
    assert run("rollback", "--yes", name).code == 0
    named.reboot()
    assert named.read("usr/bin/app") == "version 1\n"
    assert run("settle").code == 0
    assert run("status", "--json").json["unfinished_conversion"] is True
