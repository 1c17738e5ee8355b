# SPDX-License-Identifier: GPL-2.0-or-later
"""The product as its own RPMs: built as users build them, `make rpm`, without running its tests."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Optional

CHECKOUT = Path(__file__).parents[2]
_VERSIONED = ("rollback/fs_rollback/__init__.py", "packaging/fs-rollback.spec")
_NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "*.egg-info")


def copy_checkout(tree: Path) -> None:
    """Copy what packages are made of to `tree`: the checkout may be someone else's."""
    shutil.copytree(CHECKOUT, tree, ignore=_NOT_COPIED)


def build_product(directory: Path, version: Optional[str] = None) -> list[Path]:
    """Build the packages of this checkout into `directory`; return the binary ones by name.

    `version` is another one than the checkout's own, for a package to upgrade to; its configuration
    files differ by a line. Raises RuntimeError with what was printed.
    """
    with tempfile.TemporaryDirectory() as top:
        tree = Path(top, "checkout")
        copy_checkout(tree)
        if version is not None:
            _change_version(tree, version)
        # A home of its own: nobody's ~/.rpmmacros takes part.
        environment = {**os.environ, "HOME": top, "LC_ALL": "C.UTF-8"}
        command = ["make", "--silent", "rpm", "RPMBUILD=rpmbuild --nocheck --quiet"]
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"make rpm failed:\n{done.stdout}{done.stderr}")
        return sorted(
            Path(shutil.copy(rpm, directory)) for rpm in (tree / "dist").glob("*.noarch.rpm")
        )


def _change_version(tree: Path, version: str) -> None:
    old = (tree / _VERSIONED[0]).read_text().partition('__version__ = "')[2].partition('"')[0]
    for name in _VERSIONED:
        path = tree / name
        text = path.read_text()
        if text.count(old) == 0:
            raise RuntimeError(f"{name} does not name the version {old}")
        path.write_text(text.replace(old, version))
    for path in (tree / "etc").rglob("*.conf"):
        path.write_text(f"{path.read_text()}# changed by {version}\n")
