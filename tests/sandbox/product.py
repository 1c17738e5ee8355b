# SPDX-License-Identifier: GPL-2.0-or-later
"""The product as its own RPMs: built as users build them, `make rpm`, without running its tests.

Built once for all tests, and the demos: what was built lies in the cache for as long as it is used,
by all that it was made of. tests/packaging/test_rpm.py builds it anew each time.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Optional

from .base import built_once, cache_directory, digest
from .engine import Engine

CHECKOUT = Path(__file__).parents[2]
_VERSIONED = ("rollback/fs_rollback/__init__.py", "packaging/fs-rollback.spec")
# What takes part in a build, of all that is copied, though no package has it.
_MACROS = Path("tests/packaging/macros")
_KEPT_S = 24 * 3600.0
_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".*_cache", ".hypothesis", "__pycache__", "build", "dist", "*.egg-info"
)


def copy_checkout(tree: Path) -> None:
    """Copy what packages are made of to `tree`: the checkout may be someone else's."""
    shutil.copytree(CHECKOUT, tree, ignore=_NOT_COPIED)


def build_product(directory: Path, version: Optional[str] = None) -> list[Path]:
    """Put the packages of this checkout into `directory`; return the binary ones by name.

    `version` is another one than the checkout's own, for a package to upgrade to; its configuration
    files differ by a line. Raises RuntimeError with what was printed.
    """
    with tempfile.TemporaryDirectory() as top:
        tree = Path(top, "checkout")
        copy_checkout(tree)
        if version is not None:
            _change_version(tree, version)
        archive = cache_directory() / f"product-{_key(tree)}.tar"
        with built_once(archive) as unfinished:
            if unfinished is not None:
                _sweep(archive.parent)
                _build(tree, Path(top))
                command = ["tar", "--create", f"--file={unfinished}", f"--directory={tree}/dist"]
                names = sorted(rpm.name for rpm in (tree / "dist").glob("*.noarch.rpm"))
                subprocess.run([*command, *names], check=True)
        os.utime(archive)
        command = ["tar", "--extract", "--verbose", f"--file={archive}", f"--directory={directory}"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return [directory / name for name in done.stdout.splitlines()]


def _key(tree: Path) -> str:
    """Return what names the packages by all that they are made of."""
    files = (path for path in tree.rglob("*") if path.is_file())
    names = sorted(path.relative_to(tree) for path in files)
    command = ["rpmbuild", "--version"]
    rpm = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return digest(
        rpm,
        platform.python_version(),
        *(
            (str(name), (tree / name).stat().st_mode, _checksum(tree / name))
            for name in names
            if name.parts[0] != "tests" or _MACROS in (name, *name.parents)
        ),
    )


def _checksum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _sweep(cache: Path) -> None:
    """Remove what nobody has used for a day."""
    for path in cache.glob("product-*"):
        if path.stat().st_mtime < time.time() - _KEPT_S:
            path.unlink(missing_ok=True)


def _build(tree: Path, home: Path) -> None:
    # A home of its own: nobody's ~/.rpmmacros takes part.
    environment = {**os.environ, "HOME": os.fspath(home), "LC_ALL": "C.UTF-8"}
    command = ["make", "--silent", "rpm", "RPMBUILD=rpmbuild --without tests --quiet"]
    done = subprocess.run(
        command, cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError(f"make rpm failed:\n{done.stdout}{done.stderr}")


_OF_ANSIBLE = "ansible-collection-fs_rollback-snapshots"


def rpms_for(engine: Engine, rpms: Iterable[Path]) -> list[Path]:
    """Return what a machine with this dnf gets of the packages.

    All but the plugins for others, and the collection, which is for a machine with Ansible.
    """
    others = {other.plugin for other in Engine if other is not engine} | {_OF_ANSIBLE}
    return [rpm for rpm in rpms if rpm.name.rsplit("-", 2)[0] not in others]


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
