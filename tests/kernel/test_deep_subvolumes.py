# SPDX-License-Identifier: GPL-2.0-or-later
"""Subvolumes nested at paths longer than PATH_MAX: any user can make one, where no call leads."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.snapshots.snapshot import LONGEST_PATH
from tests.kernel.commands import arguments, done, environment, fs_rollback
from tests.kernel.faults import Fault, Faulty, faulty, in_child
from tests.kernel.machine import Machine, run
from tests.kernel.reboots import arrive, journal_of, left_behind, reboot, replaced
from tests.kernel.test_arrival_cut_off import bring_with
from tests.kernel.test_long_paths import bottom, opened
from tests.kernel.test_store import edit_record, listed, store_of

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


def test_they_are_carried_over_and_brought_over(machine: Machine) -> None:
    for place in (_KEPT, _OTHER):
        _nest(machine.root / place)
    name = machine.upgrade()
    for place in (_KEPT, _OTHER):
        _write(machine.root / place, "2")
    ended = done(machine.root, "rollback", name, "--yes", "--no-keep", "--keep", "/root")
    assert max(map(len, (ended.out + ended.err).splitlines())) < 2000
    assert _read(machine.next_root() / _KEPT) == _texts("2")
    assert _read(machine.next_root() / _OTHER) == _texts("2", outside="1")
    for place in (_KEPT, _OTHER):
        _write(machine.root / place, "3")
    reboot(machine)
    ended = arrive(machine)
    assert (ended.code, ended.err) == (0, "")
    assert _read(machine.root / _KEPT) == _texts("3")
    assert _read(machine.root / _OTHER) == _texts("3", outside="1")
    assert left_behind(machine) == set()
    for command in ("list", "status", "prune", "create"):
        assert fs_rollback(machine.root, command).code in (0, 1), command
    if machine.layout == "top-level":  # what is mounted in the test is not deleted
        return
    new = [number for place in (_KEPT, _OTHER) for number in _numbers(machine.root / place)]
    done(machine.root, "delete", replaced(machine))
    assert _present(machine, new) == new
    assert _read(machine.root / _KEPT) == _texts("3")


def test_the_directories_that_lead_to_them_may_be_newer(machine: Machine) -> None:
    name = machine.upgrade()
    _nest(machine.root / _OTHER)
    with _deep(machine.root / _OTHER) as here:
        Path(here).chmod(0o711)
    done(machine.root, "rollback", name, "--yes", "--no-keep")
    with _deep(machine.next_root() / _OTHER) as here:
        assert os.stat(here).st_mode & 0o777 == 0o711
        assert Path(f"{here}/nest/file").read_text() == "1"
        assert not os.path.exists(f"{here}/file")
    reboot(machine)
    assert (arrive(machine).code, left_behind(machine)) == (0, set())
    with _deep(machine.root / _OTHER) as here:
        assert Path(f"{here}/nest/sealed/file").read_text() == "1"


def test_undone_before_the_reboot_and_after_it(named: Machine) -> None:
    place = named.root / _OTHER
    numbers = _nest(place)
    name = named.upgrade()
    before = _named(named)
    done(named.root, "rollback", name, "--yes", "--no-keep")
    done(named.root, "undo", "--yes")
    assert _named(named) == before
    assert _numbers(place) == numbers
    done(named.root, "rollback", name, "--yes", "--no-keep")
    reboot(named)
    assert arrive(named).code == 0
    _write(place, "2")
    with _deep(place) as here:
        btrfsutil.delete_subvolume(f"{here}/beside")
    done(named.root, "undo", "--yes", "--to-replaced", "--no-keep")
    reboot(named)
    assert arrive(named).code == 0
    # Only the replaced root had it.
    wanted = {**_texts("2", outside="1"), "beside/file": ("1", False)}
    assert _read(place) == wanted


@pytest.mark.parametrize("fault", [Fault.KILL_BEFORE, Fault.KILL_AFTER])
def test_a_rollback_that_is_killed_leaves_none(named: Machine, fault: Fault) -> None:
    numbers = _nest(named.root / _KEPT)
    name = named.upgrade()
    before = _named(named)
    for point in range(200):
        if in_child(partial(named.roll_back, name, faulty(point, fault))) == 0:
            assert point > 10
            break
        with named.writing():
            pass
        if _named(named) == before:
            assert _numbers(named.root / _KEPT) == numbers
            continue
        assert _read(named.next_root() / _KEPT) == _texts("1")
        named.take_back()
        assert _named(named) == before, f"point {point}"
    assert _read(named.next_root() / _KEPT) == _texts("1")


@pytest.mark.parametrize("fault", [Fault.ERROR_BEFORE, Fault.ERROR_AFTER])
def test_a_rollback_that_fails_leaves_none(named: Machine, fault: Fault) -> None:
    _nest(named.root / _OTHER)
    name = named.upgrade()
    before = _named(named)
    for point in range(4, 16):
        with pytest.raises(Exception, match="Input/output error"):
            named.roll_back(name, faulty(point, fault))
        assert _named(named) == before, f"point {point}"


def test_a_first_boot_that_is_killed_is_finished_by_the_next(named: Machine) -> None:
    for place in (_KEPT, _OTHER):
        _nest(named.root / place)
    name = named.upgrade()
    named.roll_back(name)
    for place in (_KEPT, _OTHER):
        _write(named.root / place, "2")
    reboot(named)
    for point in range(200):
        cut = partial(Faulty, point=point, fault=Fault.KILL_AFTER)
        if in_child(partial(bring_with, named, cut)) == 0:
            assert point > 10
            break
    assert _read(named.root / _KEPT) == _texts("2")
    assert _read(named.root / _OTHER) == _texts("2", outside="1")
    assert left_behind(named) == set()


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


def test_those_whose_path_is_too_long_to_be_told_are_named(named: Machine) -> None:
    _nest(named.root / _KEPT, times=_DEEPER)
    name = named.upgrade()
    with _deep(named.root / _KEPT, times=_DEEPER) as here:
        tops = [btrfsutil.subvolume_id(f"{here}/{name}") for name in ("beside", "nest")]
    asked = fs_rollback(named.root, "rollback", name, "--dry-run", "--json")
    warnings = [text for text in asked.json["warnings"] if "16000 bytes" in text]
    assert len(warnings) == 1
    assert all(str(number) in warnings[0] for number in tops)
    assert "/root/deep/0" in warnings[0]
    with _deep(named.root / _KEPT, times=_DEEPER) as here:
        for number in range(7):
            os.mkdir(f"{here}/d{number}")
            for other in range(7):
                btrfsutil.create_subvolume(f"{here}/d{number}/{other}")
    asked = fs_rollback(named.root, "rollback", name, "--dry-run", "--json")
    (warning,) = (text for text in asked.json["warnings"] if "16000 bytes" in text)
    assert " and 2 more in /root/deep/0" in warning
    assert warning.endswith("; and those in 3 more directories")
    assert max(len(warnings[0]), len(warning)) < 2000
    done(named.root, "rollback", name, "--yes")
    done(named.root, "undo", "--yes")
    done(named.root, "rollback", name, "--yes")
    reboot(named)
    assert arrive(named).code == 0
    done(named.root, "delete", replaced(named))


@pytest.mark.parametrize("more", [0, 1])
def test_the_longest_path_that_comes_along(named: Machine, more: int) -> None:
    names = ["srv", *["d" * 199] * 79]
    names.append("n" * (LONGEST_PATH + more - len("/".join(names)) - 1))
    named.root.joinpath("srv").mkdir()

    def make(directory: int, name: str) -> None:
        os.mkdir(name, dir_fd=directory)

    def last(tree: Path, go: Callable[[int, str], None] = lambda *_: None) -> int:
        directory = os.open(tree / "srv", os.O_RDONLY)
        for name in names[1:-1]:
            go(directory, name)
            below = os.open(name, os.O_RDONLY, dir_fd=directory)
            os.close(directory)
            directory = below
        return directory

    def write(text: str) -> None:
        directory = last(named.root)
        Path(f"/proc/self/fd/{directory}/{names[-1]}/file").write_text(text)
        os.close(directory)

    directory = last(named.root, make)
    btrfsutil.create_subvolume(f"/proc/self/fd/{directory}/{names[-1]}")
    os.close(directory)
    write("1")
    name = named.upgrade()
    ended = done(named.root, "rollback", name, "--yes", "--no-keep")
    assert ("not carried over" in ended.out + ended.err) == bool(more)
    write("2")
    reboot(named)
    ended = arrive(named)
    assert (ended.code, ended.err) == (0, "")
    if not more:
        write("3")
        done(named.root, "rollback", "--yes", "--no-keep", replaced(named))
    done(named.root, "undo", "--yes", *(["--to-replaced"] if more else []))
    assert fs_rollback(named.root, "settle").code == 0


def test_the_journal_that_names_many_of_them_is_read(named: Machine) -> None:
    done(named.root, "rollback", named.upgrade(), "--yes")
    journal = json.loads(journal_of(named).read_text())
    journal["roots"]["more"] = ["x" * 16000] * 1100
    journal_of(named).write_text(json.dumps(journal))
    done(named.root, "undo", "--yes")


def test_a_machine_with_little_memory(named: Machine) -> None:
    """No room is made for a journal that there is not."""
    name, limit = named.upgrade(), 512 << 20
    command = ["prlimit", f"--as={limit}", *arguments(named.root, ["rollback", name, "--yes"])]
    subprocess.run(command, check=True, capture_output=True, env=environment(), cwd="/")


def test_the_record_that_names_many_is_read(named: Machine) -> None:
    name = named.upgrade()
    edit_record(named, name, more=["x" * 16000] * 1100)
    assert listed(named)[name]["kind"] == "pre"
