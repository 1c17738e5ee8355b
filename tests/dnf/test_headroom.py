# SPDX-License-Identifier: GPL-2.0-or-later
"""A transaction that has no room: real upgrades on a disk that is nearly full.

rpm has a check of its own, which comes first and knows data only: it is switched off here. dnf 5
cannot do without it: there the disk becomes full after that check, right before our hook.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.dnf.holding import add_action
from tests.dnf.scenes import (
    both,
    dnf,
    dnf5_always,
    installed,
    offer,
    records,
    said,
    snapshots,
    wait_for_keepers,
)
from tests.sandbox.engine import Engine
from tests.sandbox.machine import Sandbox
from tests.sandbox.rpms import Package

MIB = 1 << 20
SIZE = 64 * MIB  # half of it is expected to be needed: the root of these machines is compressed
_NO_CHECK = "--setopt=diskspacecheck=0"
_LEAVE = """
sync --file-system /
length=$(($(stat --file-system --format='%a * %S' /) - {}))
exec fallocate --length=$length /ballast
"""


def _offer(sandbox: Sandbox, directory: Path, *versions: str) -> None:
    packages = []
    for version in versions:
        path = directory / f"large-{version}"
        path.write_bytes(os.urandom(SIZE))
        packages.append(Package("large", version, files={"/usr/share/large": path}))
    offer(sandbox, *packages)


def _rpm(version: str) -> str:
    """Return the package as a file: dnf 5 copies what comes from a repository."""
    return f"/run/repo/large-{version}-1.noarch.rpm"


def _configure(sandbox: Sandbox, text: str) -> None:
    sandbox.path("/etc/fs-rollback.conf").write_text(text)


def _leave(sandbox: Sandbox, free_bytes: int) -> None:
    """Fill the disk."""
    sandbox.run(["sh", "-c", _LEAVE.format(free_bytes)])


def _will_leave(sandbox: Sandbox, free_bytes: int) -> tuple[str, ...]:
    """Fill the disk before our hook comes; returns the option that dnf needs then."""
    if sandbox.engine is Engine.DNF4:
        _leave(sandbox, free_bytes)
        return (_NO_CHECK,)
    add_action(sandbox, _LEAVE.format(free_bytes), name="aa-other")
    return ()


def test_the_way_out_that_is_said_works(sandbox: Sandbox, tmp_path: Path) -> None:
    _configure(sandbox, "keep_last = 9\nkeep_days = 9\n")
    _offer(sandbox, tmp_path, "1", "2", "3")
    dnf(sandbox, "install", "large-1")
    dnf(sandbox, "upgrade", "large-2")
    before = snapshots(sandbox)
    _leave(sandbox, 16 * MIB)
    text = said(dnf(sandbox, _NO_CHECK, "install", _rpm("3"), code=1))
    assert re.search(r"needs about 32\.0 MiB of space for files, and 1\d\.\d MiB of that", text)
    found = re.search(r"'fs-rollback (delete [\d ]+)' deletes 2 snapshots and frees 64\.", text)
    assert found is not None, text
    assert "Nothing was changed" in text
    assert (installed(sandbox, "large"), snapshots(sandbox)) == ("2", before)
    sandbox.run(["fs-rollback", *found[1].split()])
    for wanted in ("filesystem", "subvolume", "filesystem"):  # btrfs frees it in the background
        sandbox.run(["btrfs", wanted, "sync", "/"])
    dnf(sandbox, "install", _rpm("3"))
    assert installed(sandbox, "large") == "3"
    assert len(snapshots(sandbox)) == 1


@dnf5_always
def test_what_is_no_longer_kept_goes_first(sandbox: Sandbox, tmp_path: Path) -> None:
    _configure(sandbox, "keep_last = 9\nkeep_days = 9\n")
    _offer(sandbox, tmp_path, "1", "2", "3")
    dnf(sandbox, "install", "large-1")
    dnf(sandbox, "upgrade", "large-2")
    # Retention would delete the first two only after the third.
    dnf(sandbox, "reinstall", "large")
    options = _will_leave(sandbox, 16 * MIB)
    names = list(records(sandbox))
    _configure(sandbox, "keep_last = 1\nkeep_days = 0\n")
    text = said(dnf(sandbox, *options, "install", _rpm("3")))
    assert "deleting 2 snapshots that are no longer kept" in text
    assert installed(sandbox, "large") == "3"
    assert not set(names[:2]) & set(records(sandbox))


@both
@pytest.mark.rare
def test_a_warning_where_that_is_wanted(sandbox: Sandbox, tmp_path: Path) -> None:
    """It is said, and the snapshot is taken all the same; what dnf makes of it is its own."""
    _configure(sandbox, "on_failure = warn\n")
    _offer(sandbox, tmp_path, "1")
    options = _will_leave(sandbox, 16 * MIB)
    command = ["dnf", "--assumeyes", *options, "install", _rpm("1")]
    done = sandbox.run(command, check=False)
    wait_for_keepers(sandbox)
    assert "of space for files" in said(done)
    assert len(records(sandbox)) == 1


@dnf5_always
def test_to_remove_packages_needs_no_room(sandbox: Sandbox, tmp_path: Path) -> None:
    _offer(sandbox, tmp_path, "1")
    dnf(sandbox, "install", "large")
    _leave(sandbox, 4 * MIB)
    dnf(sandbox, "remove", "large")
    assert installed(sandbox, "large") == ""
