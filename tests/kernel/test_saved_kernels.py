# SPDX-License-Identifier: GPL-2.0-or-later
"""The saved boot files: each content once, as hard to read as the original, gone when unneeded."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from fs_rollback.config import Config
from tests.kernel.boots import OUTSIDE, A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import run

__all__ = ["make_boot"]  # the fixture of the tests below


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest, make_boot: MakeBoot) -> BootMachine:
    """Give a machine of each kind whose boot files no snapshot holds."""
    return make_boot(request.param)


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    """Give a machine laid out as Fedora Workstation's."""
    return make_boot("ext4")


def originals(boot: BootMachine, *versions: str) -> list[Path]:
    """Return the files of these kernels, boot entries included."""
    names = [boot.place / path for version in versions for path in boot.files_of(version)]
    return names + [boot.entry_of(version) for version in versions]


def digests(paths: list[Path]) -> dict[str, int]:
    """Return each content's SHA-256 and mode."""
    return {
        hashlib.sha256(path.read_bytes()).hexdigest(): path.stat().st_mode & 0o777 for path in paths
    }


def kept(boot: BootMachine) -> dict[str, int]:
    return {name: path.stat().st_mode & 0o777 for name, path in boot.saved().items()}


def test_each_content_is_kept_once_with_its_mode(outside: BootMachine) -> None:
    outside.transact(outside.install_b)
    assert kept(outside) == digests(originals(outside, A))
    outside.transact()
    outside.transact()
    assert kept(outside) == digests(originals(outside, A, B))
    for name, path in outside.saved().items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == name
    assert (outside.store() / "boot").stat().st_mode & 0o777 == 0o700


def test_the_next_snapshot_does_not_read_them_again(ext4: BootMachine) -> None:
    ext4.transact()
    run("mount", "-o", "remount,strictatime", str(ext4.place))
    paths = [ext4.place / path for path in ext4.files_of(A)]
    before = [path.stat().st_atime_ns for path in paths]
    ext4.transact()
    assert [path.stat().st_atime_ns for path in paths] == before
    paths[0].write_bytes(paths[0].read_bytes())  # a new time is reason enough to look
    ext4.transact()
    assert paths[0].stat().st_atime_ns > before[0]
    assert len(ext4.saved()) == 3


def test_what_changed_is_saved_anew(ext4: BootMachine) -> None:
    ext4.transact()
    ext4.write(ext4.files_of(A)[1], f"initramfs {A}, made anew\n", 0o600)
    first = kept(ext4)
    ext4.transact()
    assert kept(ext4) == {**first, **digests(originals(ext4, A))}


def test_a_damaged_copy_is_not_put_back(ext4: BootMachine) -> None:
    """Whatever is done then, what boots is not what was damaged."""
    name, _ = ext4.transact(ext4.install_b)
    for path in ext4.saved().values():
        path.write_bytes(path.read_bytes()[:-1] + b"!")
    before = originals(ext4, A)[1].read_bytes()
    ext4.remove_kernel(A)
    fs_rollback(ext4.root, "rollback", name, "--yes")
    linux, initrd = (ext4.place / path for path in ext4.files_of(A))
    assert not initrd.exists() or initrd.read_bytes() == before
    assert not linux.exists() or linux.read_text() == f"kernel {A}\n" * 500


def test_they_go_with_their_last_snapshot(outside: BootMachine) -> None:
    first, _ = outside.transact(outside.install_b)
    outside.remove_kernel(A)
    outside.remove_modules(A)
    second, _ = outside.transact()
    third, _ = outside.transact()
    assert len(outside.saved()) == 6
    done(outside.root, "delete", first)
    assert kept(outside) == digests(originals(outside, B))
    done(outside.root, "delete", second)
    assert kept(outside) == digests(originals(outside, B))
    done(outside.root, "delete", third)
    assert not (outside.store() / "boot").exists()


def test_pruning_takes_them_along(ext4: BootMachine) -> None:
    first, _ = ext4.transact(ext4.install_b)
    ext4.remove_kernel(A)
    ext4.remove_modules(A)
    ext4.transact(config=Config(keep_last=1, keep_days=0))
    assert not (ext4.store() / first).exists()
    assert kept(ext4) == digests(originals(ext4, B))


def test_they_stay_while_a_record_cannot_be_read(ext4: BootMachine) -> None:
    first, _ = ext4.transact(ext4.install_b)
    second, _ = ext4.transact()
    before = kept(ext4)
    (ext4.store() / f"{first}.json").write_text("{")
    done(ext4.root, "delete", second)
    assert kept(ext4) == before


def test_they_stay_while_a_list_cannot_be_read(ext4: BootMachine) -> None:
    first, _ = ext4.transact(ext4.install_b)
    second, _ = ext4.transact()
    before = kept(ext4)
    name = json.loads((ext4.store() / f"{first}.json").read_text())["boot_files"]
    (ext4.store() / f"boot/{name}.json").write_text("{")
    done(ext4.root, "delete", second)
    assert kept(ext4) == before


def test_a_rollback_saves_what_the_replaced_root_needs(ext4: BootMachine) -> None:
    """So that the way back is there when B leaves /boot after it."""
    name, _ = ext4.transact(ext4.install_b)
    ext4.remove_modules(A)
    done(ext4.root, "rollback", name, "--yes")
    ext4.reboot()
    assert ext4.boots() == A
    wanted = digests(originals(ext4, B))
    assert wanted.items() <= kept(ext4).items()
    ext4.remove_kernel(B)
    done(ext4.root, "undo", "--yes", "--to-replaced")
    ext4.reboot()
    assert ext4.boots() == B


def test_a_rollback_says_that_it_could_not_save_them(ext4: BootMachine) -> None:
    """It is done all the same, and the way back needs what is in /boot."""
    name, _ = ext4.transact(ext4.install_b)
    ext4.remove_modules(A)
    run("chattr", "+i", str(ext4.store() / "boot"))
    try:
        ended = done(ext4.root, "rollback", name, "--yes", "--json")
    finally:
        run("chattr", "-i", str(ext4.store() / "boot"))
    said = "the kernels of the old root could not be saved: cannot write "
    assert [line for line in ended.json["warnings"] if line.startswith(said)], ended
    assert f"fs-rollback: warning: {said}" in ended.err
    ext4.reboot()
    assert ext4.boots() == A
    done(ext4.root, "undo", "--yes", "--to-replaced")
    ext4.reboot()
    assert ext4.boots() == B


def test_a_list_that_cannot_be_read_is_said(ext4: BootMachine) -> None:
    """What was saved is unknown then, and not nothing: what lies in /boot may do."""
    name, _ = ext4.transact(ext4.install_b)
    of = json.loads((ext4.store() / f"{name}.json").read_text())["boot_files"]
    (ext4.store() / f"boot/{of}.json").write_text("{")
    said = "the list of what was saved for it cannot be read"
    warnings = done(ext4.root, "rollback", name, "--dry-run", "--json").json["warnings"]
    assert [line for line in warnings if line.startswith(said)]
    ext4.remove_kernel(A)
    ended = fs_rollback(ext4.root, "rollback", name, "--yes")
    ended.expect_refusal("no kernel in /boot", said)
