# SPDX-License-Identifier: GPL-2.0-or-later
"""What the packages of this checkout install, and real filesystems for it."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.conftest import _private_mounts, make_machine, named  # noqa: F401
from tests.need import withhold
from tests.packaging.collection import Collection
from tests.sandbox.product import copy_checkout


def output(*command: str) -> str:
    """Return what a program prints; it must succeed."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


# A user without rights, as those of the build systems of Fedora and Copr.
AS_NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A clone of the checkout that belongs to that user, in a directory where nothing else is."""
    with tempfile.TemporaryDirectory() as name:
        copy_checkout(Path(name, "clone"))
        # Those of pytest let nobody in.
        subprocess.run(["chown", "--recursive", "65534:65534", name], check=True)
        yield Path(name, "clone")


@pytest.fixture(scope="session")
def unpacked(product_rpms: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What both packages install, below one directory."""
    tree = tmp_path_factory.mktemp("unpacked")
    for rpm in product_rpms:
        archive = subprocess.run(["rpm2cpio", str(rpm)], check=True, capture_output=True).stdout
        command = ["cpio", "--extract", "--make-directories", "--quiet"]
        subprocess.run(command, input=archive, cwd=tree, check=True)
    return tree


@pytest.fixture(scope="session")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """The Ansible collection, with machines for it."""
    if not (Path(sys.executable).parent / "ansible-playbook").exists():
        withhold("ansible-core is not installed beside this Python: see tests/requirements.txt")
    return Collection(tmp_path_factory.mktemp("ansible"))
