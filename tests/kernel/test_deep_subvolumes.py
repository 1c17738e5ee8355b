# SPDX-License-Identifier: GPL-2.0-or-later
"""Subvolumes nested at paths longer than PATH_MAX: any user can make one, where no call leads."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import btrfsutil
import pytest

from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive, reboot, replaced
from tests.kernel.test_long_paths import bottom, opened
from tests.kernel.test_store import store_of

_FILES = ("file", "nest/file", "nest/made/inner/file", "nest/sealed/file", "beside/file")
_SUBVOLUMES = ("nest", "nest/made/inner", "nest/sealed", "beside")
_SEALED = "nest/sealed"
_KEPT = "root/deep"  # in a kept path
_OTHER = "srv/deep"  # in none
_DEEPER = 2  # how often the way of 10 kB is gone, where no path is told any more

Found = dict[str, tuple[str, bool]]


@contextmanager
def _deep(place: Path, *, make: bool = False, times: int = 1) -> Iterator[str]:
    """Give a path, of use in this process, to the directory where the subvolumes are."""
    if make:
        place.mkdir(parents=True, exist_ok=True)
    with bottom(place, make=make) as directory:
        here = f"/proc/self/fd/{directory}"
        if times == 1:
            yield here
            return
        with _deep(Path(here), make=make, times=times - 1) as below:
            yield below


def _nest(place: Path, *, times: int = 1) -> list[int]:
    """Make subvolumes there; returns their IDs."""
    with _deep(place, make=True, times=times) as here:
        for name in _SUBVOLUMES:
            os.makedirs(os.path.dirname(f"{here}/{name}"), exist_ok=True)
            btrfsutil.create_subvolume(f"{here}/{name}")
    _write(place, "1", times=times)
    return _numbers(place, times=times)


def _numbers(place: Path, *, times: int = 1) -> list[int]:
    with _deep(place, times=times) as here:
        return [btrfsutil.subvolume_id(f"{here}/{name}") for name in _SUBVOLUMES]


def _write(place: Path, text: str, *, times: int = 1) -> None:
    with _deep(place, times=times) as here:
        btrfsutil.set_subvolume_read_only(f"{here}/{_SEALED}", False)
        for name in _FILES:
            Path(f"{here}/{name}").write_text(text)
        btrfsutil.set_subvolume_read_only(f"{here}/{_SEALED}", True)


def _read(place: Path) -> Found:
    """Return the texts of the files, and whether each lies in a read-only subvolume."""
    found = {}
    with _deep(place) as here:
        for name in _FILES:
            above = os.path.dirname(name)
            if above:
                assert btrfsutil.is_subvolume(f"{here}/{above}"), above
            sealed = bool(above) and btrfsutil.get_subvolume_read_only(f"{here}/{above}")
            found[name] = Path(f"{here}/{name}").read_text(), sealed
    return found


def _texts(text: str, *, outside: str = "") -> Found:
    """Return what `_read` finds after all was written; `outside` is what no subvolume has."""
    found = {name: (text, name.startswith(_SEALED)) for name in _FILES}
    return {**found, "file": (outside or text, False)}


def _present(machine: Machine, numbers: Iterable[int]) -> list[int]:
    """Return those of the IDs that the kernel has a subvolume of with a name."""
    return [number for number in numbers if number in _named(machine)]


def _named(machine: Machine) -> set[int]:
    run("sync", "-f", str(machine.top))
    listed = run("btrfs", "inspect-internal", "dump-tree", "-t", "root", str(machine.image))
    return {
        int(line.partition("(")[2].split()[0])
        for line in listed.splitlines()
        if "key (" in line and "ROOT_BACKREF" in line
    }


@contextmanager
def _mounted(place: Path, name: str, target: Path, *, times: int = 1) -> Iterator[None]:
    """Have a directory there mounted, by who has gone to it."""
    target.mkdir()
    with _deep(place, times=times) as here, opened(int(here.split("/")[-1]), name) as below:
        command = ("mount", "--no-canonicalize", "--bind", ".", str(target))
        run_in = f"/proc/self/fd/{below}"
        subprocess.run(command, check=True, cwd=run_in, pass_fds=(below,))
    try:
        yield
    finally:
        run("umount", str(target))


@pytest.mark.parametrize("times", [1, _DEEPER])
def test_they_go_with_the_root_that_has_them(named: Machine, times: int) -> None:
    numbers = _nest(named.root / _KEPT, times=times)
    with _deep(named.root / _KEPT, times=times) as here:
        for protected in ("nest/made/inner", "nest/made", "beside"):
            command = ("chattr", "+i", f"{here}/{protected}")
            subprocess.run(command, check=True, pass_fds=(int(here.split("/")[-1]),))
    name = named.upgrade()
    done(named.root, "rollback", name, "--yes")
    reboot(named)
    assert arrive(named).code == 0
    doomed = replaced(named)
    whole = store_of(named) / doomed / _KEPT
    with _mounted(whole, "nest/made/inner", named.image.parent / "mnt", times=times):
        ended = fs_rollback(named.root, "delete", doomed)
    assert ended.code == 3
    assert "mounted" in ended.err
    assert _present(named, numbers) == numbers
    with _deep(whole, times=times) as here:
        subprocess.run(
            ("chattr", "-i", f"{here}/nest/made"), check=True, pass_fds=(int(here.split("/")[-1]),)
        )
        os.rename(f"{here}/nest/made", f"{here}/nest/moved")
    ended = done(named.root, "delete", doomed)
    assert ended.err.count("\n") <= 1, ended
    assert _present(named, numbers) == []
    assert not list(store_of(named).glob("*replaced*"))
