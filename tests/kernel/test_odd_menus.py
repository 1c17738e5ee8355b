# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot menu after what people do by hand, and beside what is not this machine's."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path

import pytest

from fs_rollback.config import Config
from fs_rollback.core.snapshots.record import Outcome, Transaction
from fs_rollback.system.execute import trees
from fs_rollback.system.hooks import transaction
from tests.kernel.boots import BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import in_child
from tests.kernel.machine import run
from tests.kernel.test_menu import assert_boots, trial_of, trials

__all__ = ["make_boot"]  # a fixture


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    return make_boot("ext4")


def copies(entries: Path) -> list[str]:
    """Return the copies that the entries of snapshots in a directory boot, oldest first."""
    texts = (path.read_text() for path in entries.glob("*.conf"))
    return sorted({name for text in texts for name in re.findall(r"fs-snapshots/(try_\d+)", text)})


def delete_subvolume(boot: BootMachine, name: str) -> None:
    run("btrfs", "subvolume", "delete", str(boot.store() / name))


@pytest.mark.parametrize("number", [0, 2])
def test_the_menu_of_a_new_root_is_todays(make_boot: MakeBoot, number: int) -> None:
    """Its own /boot has the entries of its time; the way out is wanted before its first boot."""
    boot = make_boot("in the root")
    names = [boot.transact()[0] for _ in range(5)]
    done(boot.root, "rollback", names[number], "--yes")
    entries = boot.machine.next_root() / "boot/loader/entries"
    assert copies(entries) == [trial_of(name) for name in names[3:]]
    done(boot.root, "undo", "--yes")
    assert copies(boot.place / "loader/entries") == [trial_of(name) for name in names[3:]]


def test_copies_deleted_by_hand_where_none_are_wanted(ext4: BootMachine) -> None:
    for _ in range(2):
        ext4.transact()
    for name in trials(ext4):
        delete_subvolume(ext4, name)
    ext4.transact(config=Config(boot_entries=0))
    assert ext4.ours() == []


def test_a_subvolume_that_is_not_ours(ext4: BootMachine) -> None:
    ext4.transact()
    mine = ext4.store() / "try_my-experiment"
    run("btrfs", "subvolume", "create", str(mine))
    ext4.transact()
    assert mine.exists()


def test_the_copies_of_another_system(ext4: BootMachine, tmp_path: Path) -> None:
    """Two systems share a filesystem, and each has a /boot."""
    (ext4.root / "etc/machine-id").write_text("a" * 32 + "\n")
    other = ext4.machine.top / "other"
    run("btrfs", "subvolume", "snapshot", str(ext4.root), str(other))
    (other / "etc/machine-id").write_text("b" * 32 + "\n")
    for name in ("etc/fstab", "etc/kernel/cmdline"):
        (other / name).write_text((other / name).read_text().replace("subvol=root", "subvol=other"))
    device = run("findmnt", "-no", "SOURCE", str(ext4.machine.top)).strip()
    root, image = tmp_path / "other", tmp_path / "boot.img"
    root.mkdir()
    run("sync", "--file-system", str(ext4.place))
    run("cp", str(ext4.image), str(image))
    run("mount", "-o", "subvol=other", device, str(root))
    run("mount", "-o", "loop", str(image), str(root / "boot"))
    try:
        for path in (root / "boot/loader/entries").iterdir():
            path.write_text(path.read_text().replace("subvol=root", "subvol=other"))
        theirs = transaction.before(Transaction("dnf4", ("dnf",), "admin", ()), str(root))
        assert isinstance(theirs, transaction.Taken)
        assert transaction.after(theirs, Outcome.DONE, 1) == []
        assert copies(root / "boot/loader/entries") == [trial_of(theirs.record.name)]
        time.sleep(1.1)  # names have seconds
        name, _ = ext4.transact()
    finally:
        run("umount", str(root / "boot"))
        run("umount", str(root))
    assert trials(ext4) == {trial_of(theirs.record.name), trial_of(name)}


def test_a_snapshot_deleted_by_hand_while_boot_is_not_mounted(ext4: BootMachine) -> None:
    names = [ext4.transact()[0] for _ in range(2)]
    ext4.unmount()
    delete_subvolume(ext4, names[1])
    fs_rollback(ext4.root, "pin", names[0])
    ext4.mount()
    assert set(copies(ext4.place / "loader/entries")) <= trials(ext4)


def test_a_copy_deleted_by_hand_and_cut_off_while_remade(
    ext4: BootMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write(self: trees.Operations, tree: str, path: str, text: str) -> None:
        if trial_of(name) in tree:
            os.kill(os.getpid(), 9)
        real(self, tree, path, text)

    real = trees.Operations.write_file
    name, _ = ext4.transact()
    delete_subvolume(ext4, trial_of(name))
    monkeypatch.setattr(trees.Operations, "write_file", write)
    assert in_child(ext4.transact) == 9
    monkeypatch.undo()
    ext4.transact(config=Config(boot_entries=3))
    assert_boots(ext4, name)
    table = (ext4.store() / trial_of(name) / "etc/fstab").read_text()
    assert f"subvol=fs-snapshots/{trial_of(name)}" in table


@pytest.mark.parametrize("kind", ["ext4", "in the root", "efi"])
def test_an_entry_of_ours_that_was_emptied(make_boot: MakeBoot, kind: str) -> None:
    boot = make_boot(kind)
    boot.transact()
    (ours,) = boot.ours()
    entry = boot.place / f"loader/entries/{ours}.conf"
    entry.write_text("")
    for _ in range(3):
        boot.transact()
    assert not entry.exists()
    assert len(boot.ours()) == 2


def test_an_fstab_that_is_a_link(ext4: BootMachine) -> None:
    table = ext4.root / "etc/fstab"
    table.rename(table.with_suffix(".real"))
    table.symlink_to("fstab.real")
    before = table.read_text()
    name, problems = ext4.transact()
    assert problems == ()
    assert_boots(ext4, name)
    copied = ext4.store() / trial_of(name) / "etc/fstab"
    assert copied.is_symlink()
    assert f"subvol=fs-snapshots/{trial_of(name)}" in copied.with_suffix(".real").read_text()
    assert table.read_text() == before


def test_the_default_entry_boots_a_copy_that_is_gone(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    (ours,) = ext4.ours()
    ext4.write_grubenv({"saved_entry": ours})
    delete_subvolume(ext4, trial_of(name))
    ended = fs_rollback(ext4.root, "delete", name)
    assert ended.code != 0
    assert "default of the boot menu" in ended.err
    assert (ext4.store() / name).exists()
