# SPDX-License-Identifier: GPL-2.0-or-later
"""Linters as tests: skipped where a tool is missing, failed with FS_ROLLBACK_TESTS=require."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.need import withhold

CHECKOUT = Path(__file__).parents[2]
SHELL_FILES = (
    *(
        f"tests/tmt/{name}.sh"
        for name in ("convert", "install", "labelled", "labels", "lib", "upgrade")
    ),
    "tests/vm/kernels.sh",
    "tests/vm/prepare.sh",
    "tests/run",
    "tests/demo",
    "tests/setup.sh",
    ".ci/run",
)


def _run(tool: str, *arguments: str) -> None:
    beside_python = Path(sys.executable).parent
    found = shutil.which(tool, path=f"{beside_python}:{os.environ.get('PATH', os.defpath)}")
    if found is None:
        withhold(f"{tool} is not installed")
    done = subprocess.run(
        (found, *arguments),
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{tool} {' '.join(arguments)}\n{done.stdout}"


def test_ruff() -> None:
    _run("ruff", "check", ".")


def test_format() -> None:
    _run("ruff", "format", "--check", "--diff", ".")


def test_types() -> None:
    # Ansible itself tells no types, so its modules are left out, but not what they decide with.
    collection = (f"packaging/ansible/plugins/{name}" for name in ("module_utils", "filter"))
    _run("mypy", "--config-file", "setup.cfg", "rollback", "plugin", "tests", *collection)


def test_shell() -> None:
    present = [name for name in SHELL_FILES if (CHECKOUT / name).exists()]
    assert present, "the list above is out of date"
    for name in present:
        assert (CHECKOUT / name).read_text().startswith(("#!/bin/sh\n", "# ")), name
    _run("shellcheck", "--shell=sh", "--external-sources", *present)
