# SPDX-License-Identifier: GPL-2.0-or-later
"""Power cuts while a transaction brings the menu up to date: an entry is whole or absent.

A machine has entries for two snapshots; the transaction adds a third and takes the oldest away.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import btrfsutil
import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Transaction
from fs_rollback.system.hooks import transaction
from fs_rollback.system.linux import syscalls
from fs_rollback.system.root import roots_in_use
from fs_rollback.system.snapshots import take_and_delete
from tests.kernel.boots import BootMachine, MakeBoot, make_boot
from tests.kernel.images import Camera
from tests.kernel.test_menu import assert_boots, trial_of, trials

__all__ = ["make_boot"]  # a fixture

# All that changes what is on a disk, and all that brings it there.
_CHANGES = (
    (btrfsutil, "create_snapshot"),
    (btrfsutil, "delete_subvolume"),
    (os, "unlink"),
    (os, "rename"),
    (os, "fsync"),
    (syscalls, "sync_filesystem"),
    (syscalls, "write_out"),
)


def _observe(monkeypatch: pytest.MonkeyPatch, look: Any) -> None:
    def observed(real: Any, name: str) -> Any:
        def change(*arguments: Any, **options: Any) -> Any:
            look(f"before {name}")
            result = real(*arguments, **options)
            look(f"after {name}")
            return result

        return change

    for place, name in _CHANGES:
        monkeypatch.setattr(place, name, observed(getattr(place, name), name))


def _entries(boot: BootMachine) -> dict[str, str]:
    return {
        name: boot.place.joinpath(f"loader/entries/{name}.conf").read_text() for name in boot.ours()
    }


def _expect_whole(boot: BootMachine, known: dict[str, str]) -> None:
    """Each entry that is there is as it was written and leads to a whole copy."""
    for name, text in _entries(boot).items():
        assert text == known[name]
        copies = re.findall(r"subvol=fs-snapshots/(try_\S+)", text)
        assert_boots(boot, copies[0].replace("try_", "yum_"))
        table = (boot.store() / copies[0] / "etc/fstab").read_text()
        assert f"subvol=fs-snapshots/{copies[0]}" in table
        assert "subvol=root" not in table


def observed(
    boot: BootMachine, monkeypatch: pytest.MonkeyPatch, directory: Path, committing: Sequence[Path]
) -> Camera:
    """Take images from now on; each time these filesystems have just committed all there is."""
    places = (str(boot.root), str(boot.place))
    subprocess.run(("sync", "--file-system", *places), check=True)
    camera = Camera(boot.disks, directory)

    def look(label: str) -> None:
        for place in committing:
            subprocess.run(("sync", "--file-system", str(place)), check=True)
        camera(label)

    _observe(monkeypatch, look)
    return camera


@pytest.mark.parametrize("committed", [False, True], ids=["as it goes", "all committed"])
@pytest.mark.parametrize(
    "kind", ["in the root", pytest.param("subvolume", marks=pytest.mark.rare), "ext4", "efi"]
)
def test_every_image_of_a_transaction(
    make_boot: MakeBoot,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    committed: bool,
) -> None:
    """Where the filesystems commit at the worst moment of all, and where they never do."""
    boot = make_boot(kind)
    for _ in range(2):
        boot.transact()
    before = _entries(boot)
    committing = (boot.root, boot.place) if committed else ()
    camera = observed(boot, monkeypatch, tmp_path, committing)
    taken = transaction.before(Transaction("dnf4", ("dnf", "upgrade"), "admin", ()), str(boot.root))
    assert isinstance(taken, transaction.Taken)
    monkeypatch.undo()
    camera("it has returned")
    known = {**before, **_entries(boot)}
    taken.release()
    assert len(known) == 3
    assert len(camera.images) > 10
    for label, disks in camera.different():
        boot.adopt(*disks)
        _expect_whole(boot, known)
        if label == "it has returned":
            assert_boots(boot, taken.record.name)
        name, problems = boot.transact(config=Config(boot_entries=1))
        assert problems == (), label
        (entry,) = _entries(boot).values()
        assert trial_of(name) in entry
        assert trials(boot) == {trial_of(name)}, "nothing is left of what was cut off"
        assert not list(boot.place.glob("loader/entries/*.new")), label


@pytest.mark.parametrize("kind", ["in the root", "ext4"])
def test_every_image_of_a_deletion(
    make_boot: MakeBoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The worst for an entry elsewhere: its filesystem commits late, that of the copy at once."""
    boot = make_boot(kind)
    name, _ = boot.transact()
    before = _entries(boot)
    camera = observed(boot, monkeypatch, tmp_path, [boot.root])
    with boot.machine.writing() as (host, store):
        (snapshot,) = (s for s in store.load() if s.name == name)
        take_and_delete.delete(host, store, snapshot, roots_in_use.read(host))
    monkeypatch.undo()
    camera("it has returned")
    for _, disks in camera.different():
        boot.adopt(*disks)
        _expect_whole(boot, before)
    assert (boot.ours(), trials(boot)) == ([], set())
