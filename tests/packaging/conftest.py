# SPDX-License-Identifier: GPL-2.0-or-later
"""The packages of this checkout, built once for all tests of this tier."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernel.conftest import _private_mounts, make_machine, named  # noqa: F401
from tests.sandbox.product import build_product

CHECKOUT = Path(__file__).parents[2]


def need(*tools: str) -> None:
    """Skip where a program is missing; fail where FS_ROLLBACK_TESTS=require is set."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if not missing:
        return
    reason = f"not installed: {', '.join(missing)}"
    if os.environ.get("FS_ROLLBACK_TESTS") == "require":
        pytest.fail(f"{reason}, and FS_ROLLBACK_TESTS=require is set")
    pytest.skip(reason)


def output(*command: str) -> str:
    """Return what a program prints; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="session")
def product_rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The binary packages, fs-rollback first."""
    return build_product(CHECKOUT, tmp_path_factory.mktemp("product"))


@pytest.fixture(scope="session")
def unpacked(product_rpms: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both packages install, below one directory."""
    tree = tmp_path_factory.mktemp("unpacked")
    for rpm in product_rpms:
        archive = subprocess.run(["rpm2cpio", str(rpm)], check=True, capture_output=True).stdout
        command = ["cpio", "--extract", "--make-directories", "--quiet"]
        subprocess.run(command, input=archive, cwd=tree, check=True)
    return tree
