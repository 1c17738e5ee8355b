# SPDX-License-Identifier: GPL-2.0-or-later
"""Kept paths that are immutable or append-only themselves come along at the first boot."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive, left_behind, reboot
from tests.kernel.test_restore_attributes import compressed, flags


@pytest.fixture(name="machine")
def _machine(named: Machine) -> Iterator[Machine]:
    yield named
    # Where it comes upon a link, it fails and goes on.
    subprocess.run(["chattr", "-R", "-f", "-i", "-a", str(named.top)], check=False)


def _make(path: Path, kind: str, text: str) -> None:
    """Make a file, or a directory with one; what is there stays where it is of that kind."""
    if kind == "directory":
        path.mkdir(exist_ok=True)
        path = path / "file"
    path.write_text(text)


def _text(path: Path) -> str:
    return (path / "file" if path.is_dir() else path).read_text()


@pytest.mark.parametrize("kind", ["file", "directory"])
@pytest.mark.parametrize(
    ("before", "after"), [("", "i"), ("", "a"), ("i", ""), ("i", "i"), ("a", "i")]
)
def test_it_comes_along_as_it_is(machine: Machine, kind: str, before: str, after: str) -> None:
    path = machine.root / "srv/kept"
    path.parent.mkdir()
    _make(path, kind, "1")
    if before:
        run("chattr", f"+{before}", str(path))
    machine.roll_back(machine.take(), keep=("/srv/kept",))
    run("chattr", "-i", "-a", str(path))
    _make(path, kind, "2")
    if after:
        run("chattr", f"+{after}", str(path))
    reboot(machine)
    ended = arrive(machine)
    assert (ended.code, ended.err) == (0, "")
    path = machine.root / "srv/kept"
    assert (_text(path), flags(path)) == ("2", after)
    assert left_behind(machine) == set()


def test_another_file_in_its_place_and_none(machine: Machine) -> None:
    place = machine.root / "srv"
    place.mkdir()
    for name in ("replaced", "gone"):
        _make(place / name, "file", "1")
        run("chattr", "+i", str(place / name))
    machine.roll_back(machine.take(), keep=("/srv/replaced", "/srv/gone"))
    for name in ("replaced", "gone"):
        run("chattr", "-i", str(place / name))
        (place / name).unlink()
    _make(place / "replaced", "file", "2")
    compressed(place / "replaced", "zstd", "i")
    reboot(machine)
    ended = arrive(machine)
    assert (ended.code, ended.err) == (0, "")
    path = machine.root / "srv/replaced"
    assert (path.read_text(), flags(path).replace("c", "")) == ("2", "i")
    assert os.getxattr(path, "btrfs.compression") == b"zstd"
    assert not (machine.root / "srv/gone").exists()
    assert left_behind(machine) == set()
