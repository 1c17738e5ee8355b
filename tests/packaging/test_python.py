# SPDX-License-Identifier: GPL-2.0-or-later
"""The Python package as files: what `python -m build` makes of a checkout."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from fs_rollback import __version__
from tests.sandbox.product import CHECKOUT, copy_checkout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory with a wheel and an sdist of this checkout."""
    tree = tmp_path_factory.mktemp("build") / "checkout"
    copy_checkout(tree)
    # With the distribution's setuptools, which an RPM is built with; the wheel from the sdist.
    command = ["/usr/bin/python3", "-m", "build", "--no-isolation"]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return tree / "dist"


def _modules() -> set[str]:
    package = CHECKOUT / "rollback"
    found = {p.relative_to(package).as_posix() for p in package.rglob("*.py")}
    assert len(found) > 50
    return found | {"fs_rollback/py.typed"}


def test_the_wheel_is_the_package_and_nothing_else(built: Path) -> None:
    (path,) = built.glob("*.whl")
    assert path.name == f"fs_rollback-{__version__}-py3-none-any.whl"
    with zipfile.ZipFile(path) as wheel:
        names = set(wheel.namelist())
        metadata = wheel.read(f"fs_rollback-{__version__}.dist-info/METADATA").decode()
        entry_points = wheel.read(f"fs_rollback-{__version__}.dist-info/entry_points.txt").decode()
    assert {name for name in names if ".dist-info/" not in name} == _modules()
    assert any(name.rpartition("/")[2] == "LICENSE" for name in names)
    fields = metadata.partition("\n\n")[0].splitlines()
    assert f"Version: {__version__}" in fields
    assert "Requires-Python: >=3.9" in fields
    assert [f for f in fields if f.startswith("Requires-Dist:")] == ["Requires-Dist: tabulate"]
    assert "fs-rollback = fs_rollback.cli.main:program" in entry_points


def test_the_sdist_has_all_that_packages_are_made_of(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {
            member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()
        }
    wanted = {f"rollback/{name}" for name in _modules()}
    for directory in ("docs", "etc", "packaging", "plugin", "tests"):
        wanted |= {
            p.relative_to(CHECKOUT).as_posix()
            for p in (CHECKOUT / directory).rglob("*")
            if p.is_file() and "__pycache__" not in p.parts
        }
    wanted |= {"CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "Makefile", "README.md"}
    wanted |= {"SECURITY.md"}
    assert wanted - names == set()
    assert not any("__pycache__" in name for name in names)


def test_installed_with_pip_it_runs(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    target = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*command, "--target", str(target), str(wheel)], check=True)
    done = subprocess.run(
        [str(target / "bin/fs-rollback"), "--version"],
        env={"PYTHONPATH": str(target)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout == f"fs-rollback {__version__}\n"
