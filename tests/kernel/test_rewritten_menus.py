# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot entries that other programs and people rewrite: whose they are comes from their name.

What grub2-mkconfig and grubby do to an entry is done here as their scripts do it, with sed.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.config import Config
from fs_rollback.system.check import everything
from fs_rollback.system.machine import host
from fs_rollback.system.snapshots import menu
from fs_rollback.system.store import store
from tests.kernel.boots import A, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import run
from tests.kernel.test_menu import assert_boots, entry_of, trial_of, trials

__all__ = ["make_boot"]  # a fixture


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    return make_boot("ext4")


def entries(boot: BootMachine) -> list[Path]:
    return sorted((boot.place / "loader/entries").glob("*.conf"))


def of_snapshots(boot: BootMachine) -> list[Path]:
    return [path for path in entries(boot) if "fs-snapshot" in path.name]


def mkconfig(boot: BootMachine, subvolume: str = "root") -> None:
    """`grub2-mkconfig --update-bls-cmdline`: one line of options for every entry there is."""
    options = f"root=UUID={boot.machine.uuid} ro rootflags=subvol={subvolume} crashkernel=1G"
    for path in entries(boot):
        run(
            "sed",
            "-i",
            "-e",
            f"s/^options.*/options {options.replace('/', chr(92) + '/')}/",
            str(path),
        )


def replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert re.search(old, text, re.MULTILINE)
    path.write_text(re.sub(old, new, text, flags=re.MULTILINE))


def told(boot: BootMachine) -> list[str]:
    """Return what `check` says about entries of snapshots."""
    with host.opened(str(boot.root)) as machine, store.opened(machine) as found:
        links = everything.walk(machine, found, datetime.now().astimezone())
        return [link.text for link in links if link.name == "snapshot entry"]


def mend(boot: BootMachine) -> None:
    """What each command that changes something does first."""
    with boot.machine.writing() as (machine, found):
        assert menu.mend(machine, found) == []


@pytest.mark.parametrize("kind", ["ext4", "in the root", "subvolume"])
def test_after_grub2_mkconfig(make_boot: MakeBoot, kind: str) -> None:
    boot = make_boot(kind)
    names = [boot.transact()[0] for _ in range(2)]
    assert told(boot) == []
    mkconfig(boot)
    said = told(boot)
    assert len(said) == 2
    assert all("its options lead elsewhere" in line for line in said)
    attention = fs_rollback(boot.root, "status", "--json").json["attention"]
    assert len([line for line in attention if "does not boot its snapshot" in line]) == 2
    done(boot.root, "pin", names[0])
    assert told(boot) == []
    for name in names:
        assert_boots(boot, name)
    mkconfig(boot)
    name, problems = boot.transact()
    assert problems == ()
    assert_boots(boot, names[1])
    assert_boots(boot, name)
    assert len(of_snapshots(boot)) == 2, "the oldest one's went, though it did not lead there"
    assert trials(boot) == {trial_of(names[1]), trial_of(name)}
    mkconfig(boot)
    done(boot.root, "delete", name, names[1])
    assert of_snapshots(boot) == []
    assert boot.boots() == A


REWRITES = {
    "grubby --args": (r" rootflags=\S+", " rootflags=subvol=root"),
    "grubby --remove-args": (r" rootflags=\S+", ""),
    "kernelopts": ("^options .*", "options $kernelopts"),
    "no options": ("^options .*\n", ""),
    "by ID": (r"rootflags=\S+", "rootflags=subvolid=256"),
    "two": (r"(rootflags=\S+)", r"\1 rootflags=subvol=root"),
    "no root": (r"root=UUID=\S+ ", ""),
    "no kernel": ("^linux .*\n", ""),
    "another kernel": ("^linux .*", "linux /vmlinuz-5.14.0-stranger"),
    "no such kernel": ("^linux .*", "linux /vmlinuz-1"),
    "no such initramfs": ("^initrd .*", "initrd /initramfs-1.img"),
    "emptied": (r"\A(.*\n)+", ""),
}


def test_other_ways_to_rewrite_an_entry(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    (path,) = of_snapshots(ext4)
    original = path.read_bytes()
    stranger = ext4.place / "vmlinuz-5.14.0-stranger"
    stranger.write_text("a kernel that somebody put there\n")
    for what, (old, new) in REWRITES.items():
        replaced(path, old, new)
        assert len(told(ext4)) == 1, what
        if "no such" in what:  # files that are gone come back with the next transaction
            ext4.transact(config=Config(boot_entries=9))
        else:
            mend(ext4)
        assert path.read_bytes() == original, what
    assert told(ext4) == []
    replaced(path, *REWRITES["another kernel"])
    run("btrfs", "subvolume", "delete", str(ext4.store() / name))
    mend(ext4)
    assert not path.exists()
    assert stranger.exists(), "it was never this program's"


def test_a_title_that_a_person_gave_stays(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    (path,) = of_snapshots(ext4)
    replaced(path, "^title .*", "title Before I broke it")
    ext4.transact()
    assert entry_of(ext4, name)["title"] == "Before I broke it"
    mkconfig(ext4)
    ext4.transact(config=Config(boot_entries=3))
    assert_boots(ext4, name)
    assert entry_of(ext4, name)["title"] == "Before I broke it"


def test_the_same_entry_under_both_prefixes(ext4: BootMachine) -> None:
    name, _ = ext4.transact()
    (path,) = of_snapshots(ext4)
    twin = path.with_name("0" + path.name)
    for good, bad in ((path, twin), (twin, path)):
        twin.write_bytes(path.read_bytes() if path.exists() else twin.read_bytes())
        path.write_bytes(twin.read_bytes())
        replaced(bad, r"rootflags=\S+", "rootflags=subvol=root")
        mend(ext4)
        assert of_snapshots(ext4) == [good]
        assert_boots(ext4, name)


@pytest.mark.parametrize("key", ["saved_entry", "next_entry"])
def test_the_entry_that_boots_next(ext4: BootMachine, key: str) -> None:
    """It stays what it is called, whatever was written into it, and however many there are."""
    name, _ = ext4.transact()
    (path,) = of_snapshots(ext4)
    ext4.write_grubenv({"saved_entry": f"abc-{A}", key: path.stem})
    mkconfig(ext4)
    for _ in range(3):
        _, problems = ext4.transact()
        assert problems == ()
        assert_boots(ext4, name)
    assert f"{key}={path.stem}".encode() in ext4.setting.read_bytes()


def test_another_systems_entries_on_a_shared_boot(ext4: BootMachine) -> None:
    """On other filesystems, and for this one's options that name no root."""
    name, _ = ext4.transact()
    (path,) = of_snapshots(ext4)
    other = "11111111-2222-3333-4444-555555555555"
    theirs = {
        path.with_name("A-fs-snapshot-20200101000000.conf"): "their/try",
        path.with_name("0A-fs-snapshot-20200101000001.conf"): "their root",
        path.with_name(f"0{path.name}"): "the same second",
    }
    for place in theirs:
        text = path.read_text().replace(ext4.machine.uuid, other)
        place.write_text(text)
    replaced(path.with_name("0A-fs-snapshot-20200101000001.conf"), r" rootflags=\S+", "")
    before = {place: place.read_bytes() for place in theirs}
    assert told(ext4) == [], "they are no business of this system"
    ext4.transact()
    done(ext4.root, "delete", name)
    ext4.transact(config=Config(boot_entries=0))
    assert {place: place.read_bytes() for place in theirs} == before
    assert [p for p in of_snapshots(ext4) if p not in theirs] == []


def test_two_systems_on_one_filesystem_with_one_boot(ext4: BootMachine, tmp_path: Path) -> None:
    (ext4.root / "etc/machine-id").write_text("a" * 32 + "\n")
    other = ext4.machine.top / "other"
    run("btrfs", "subvolume", "snapshot", str(ext4.root), str(other))
    (other / "etc/machine-id").write_text("b" * 32 + "\n")
    for file in ("etc/fstab", "etc/kernel/cmdline"):
        (other / file).write_text((other / file).read_text().replace("subvol=root", "subvol=other"))
    ours, _ = ext4.transact()
    (entry,) = of_snapshots(ext4)
    # Their own snapshot, with the entry that their run made of it.
    theirs = f"{int(ours[4:]) - 1}"
    store = ext4.store()
    run("btrfs", "subvolume", "snapshot", "-r", str(other), str(store / f"yum_{theirs}"))
    run(
        "btrfs", "subvolume", "snapshot", str(store / f"yum_{theirs}"), str(store / f"try_{theirs}")
    )
    foreign = entry.with_name(f"A-fs-snapshot-{theirs}.conf")
    foreign.write_text(entry.read_text().replace(trial_of(ours), f"try_{theirs}"))
    run("sed", "-i", "s/rootflags=[^ ]*/rootflags=subvol=other/", str(foreign))
    before = foreign.read_bytes()
    assert told(ext4) == []
    for _ in range(3):
        ext4.transact()
    done(ext4.root, "delete", ours)
    assert foreign.read_bytes() == before
    assert f"try_{theirs}" in trials(ext4)


def test_mkconfig_in_a_running_trial(ext4: BootMachine) -> None:
    """It writes the trial's own subvolume into each entry, and the usual ones with it."""
    names = [ext4.transact()[0] for _ in range(2)]
    mkconfig(ext4, f"fs-snapshots/{trial_of(names[1])}")
    run("sed", "-i", "s/fs-snapshots.try_[0-9]*/root/", str(ext4.entry_of(A)))
    assert len(told(ext4)) == 1
    done(ext4.root, "create")
    assert_boots(ext4, names[1])
    assert told(ext4) == []


def test_a_subvolume_that_a_copy_mounts_is_deleted(ext4: BootMachine) -> None:
    """The copy would wait for it at its boot, and stop."""
    top = ext4.machine.top
    btrfsutil.create_subvolume(str(top / "data"))
    line = f"UUID={ext4.machine.uuid} /data btrfs subvol=data 0 0\n"
    with (ext4.root / "etc/fstab").open("a") as table:
        table.write(line)
    name, _ = ext4.transact()
    copy = top / "fs-snapshots" / trial_of(name)
    (copy / "root/work").write_text("kept\n")
    assert told(ext4) == []
    btrfsutil.delete_subvolume(str(top / "data"))
    (said,) = told(ext4)
    assert f"its copy mounts something that no longer exists: {line.strip()}" in said
    mend(ext4)
    assert told(ext4) == []
    assert f"\n{line}" not in (copy / "etc/fstab").read_text()
    assert line.strip() in (copy / "etc/fstab").read_text()
    assert (copy / "root/work").read_text() == "kept\n"
