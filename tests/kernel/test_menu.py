# SPDX-License-Identifier: GPL-2.0-or-later
"""The way back in the boot menu: the newest snapshots have an entry each that would boot."""

from __future__ import annotations

import json
import os
import re

import btrfsutil
import pytest
import rpm

from fs_rollback.config import Config
from tests.kernel.boots import KINDS, TOKEN, A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import manifest
from tests.kernel.machine import run

__all__ = ["make_boot"]  # the fixture of the tests below


@pytest.fixture(params=KINDS)
def boot(request: pytest.FixtureRequest, make_boot: MakeBoot) -> BootMachine:
    """Give a machine of each kind."""
    return make_boot(request.param)


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    """Give a machine laid out as Fedora Workstation's."""
    return make_boot("ext4")


def trials(boot: BootMachine) -> set[str]:
    return {name for name in os.listdir(boot.store()) if name.startswith("try_")}


def trial_of(name: str) -> str:
    return name.replace("yum_", "try_")


def entry_of(boot: BootMachine, name: str) -> dict[str, str]:
    """Return the entry that boots the writable copy of a snapshot."""
    wanted = f"subvol=fs-snapshots/{trial_of(name)}"
    found = [entry for entry in map(boot.entry, boot.ours()) if wanted in entry["options"]]
    assert len(found) == 1
    return found[0]


def assert_boots(boot: BootMachine, name: str) -> None:
    """Walk as the boot would, from the entry of a snapshot to its writable root."""
    entry = entry_of(boot, name)
    for key in ("linux", "initrd"):
        assert boot.found(entry[key]).stat().st_size
    flags = re.findall(r"rootflags=(\S+)", entry["options"])
    assert flags == [f"subvol=fs-snapshots/{trial_of(name)}"]
    assert f"root=UUID={boot.machine.uuid}" in entry["options"]
    root = boot.store() / trial_of(name)
    assert not btrfsutil.get_subvolume_read_only(str(root))
    assert (root / "usr/lib/modules" / entry["version"]).is_dir()


@pytest.mark.parametrize("command", ["create", "upgrade"])
def test_the_newest_two_have_entries(boot: BootMachine, command: str) -> None:
    names = [taken(boot, command) for _ in range(3)]
    assert len(boot.ours()) == 2
    assert trials(boot) == {trial_of(name) for name in names[1:]}
    for name in names[1:]:
        assert_boots(boot, name)


def taken(boot: BootMachine, command: str) -> str:
    """Take a snapshot in one of the ways there are; returns its name."""
    if command == "upgrade":
        name, problems = boot.transact()
        assert problems == ()
        return name
    done(boot.root, "create")
    return max(name for name in os.listdir(boot.store()) if re.fullmatch(r"yum_[0-9]+", name))


def test_the_title_tells_what_and_when(boot: BootMachine) -> None:
    boot.machine.write(boot.root, "etc/os-release", 'NAME="Test Linux"\nVERSION="1"\n')
    name, _ = boot.transact()
    (row,) = json.loads(done(boot.root, "list", "--json").out)["snapshots"]
    pattern = rf"Test Linux snapshot {row['id']}, before dnf upgrade, \d{{4}}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(pattern, entry_of(boot, name)["title"])


def test_the_default_stays_what_it_was(boot: BootMachine) -> None:
    before = boot.setting.read_bytes()
    boot.transact()
    boot.transact(boot.install_b)
    boot.choose(A)
    boot.transact()
    assert boot.setting.read_bytes() == before
    assert boot.boots() == A


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if not kind.systemd])
def test_ours_are_last_in_the_menu_of_grub(make_boot: MakeBoot, kind: str) -> None:
    """Its order is that of rpm's labels, newest first; nothing is chosen by name here."""
    boot = make_boot(kind)
    boot.transact(boot.install_b)
    boot.transact()
    names = [path.stem for path in (boot.place / "loader/entries").iterdir()]
    ours = boot.ours()
    assert len(names) == len(ours) + 2
    for normal in set(names) - set(ours):
        assert all(newer(normal, name) for name in ours)


def newer(one: str, other: str) -> bool:
    """Compare two file names as blscfg does: name, version and release, split at the dashes."""
    for a, b in zip(one.rsplit("-", 2), other.rsplit("-", 2)):
        result = rpm.labelCompare(("0", a, "1"), ("0", b, "1"))
        if result:
            return bool(result > 0)
    return False


@pytest.mark.parametrize("kind", ["boot/efi", "efi"])
@pytest.mark.parametrize("sort_key", ["", "sort-key test\n"])
def test_ours_are_last_for_systemd_boot(make_boot: MakeBoot, kind: str, sort_key: str) -> None:
    """Entries with a sort-key come first; without any, file names decide, newest first."""
    boot = make_boot(kind)
    path = boot.entry_of(A)
    path.write_text(path.read_text() + sort_key)
    boot.transact()
    (ours,) = boot.ours()
    if sort_key:
        assert "sort-key" not in boot.entry(ours)
        return
    names = (f"{TOKEN}-{A}.conf", f"{ours}.conf".lower())  # it folds letters first
    run("systemd-analyze", "compare-versions", names[0], "gt", names[1])


def test_the_copy_names_itself_and_nothing_of_the_old_root(boot: BootMachine) -> None:
    name, _ = boot.transact()
    copy = boot.store() / trial_of(name)
    rows = [
        line.split()
        for line in (copy / "etc/fstab").read_text().splitlines()
        if not line.startswith("#")
    ]
    (options,) = [row[3].split(",") for row in rows if row[1] == "/"]
    assert f"subvol=fs-snapshots/{trial_of(name)}" in [
        o.replace("subvol=/", "subvol=") for o in options
    ]
    for row in rows:
        assert not re.search(r"subvol=/?root\b", row[3])
    source = boot.store() / name
    before, now = manifest(source), manifest(copy)
    changed = {path for path in before.keys() | now.keys() if before.get(path) != now.get(path)}
    assert changed == {"etc/fstab"}


@pytest.mark.parametrize(
    ("moved", "link"),
    [("etc", "usr/etc"), ("etc", "/usr/etc"), ("etc/fstab", "/usr/fstab")],
)
def test_where_etc_or_fstab_is_a_link(ext4: BootMachine, moved: str, link: str) -> None:
    """Links lead where they would lead that root; those of the machine that works do not count."""
    root, gone = ext4.root, ext4.machine.top / "gone"
    before = (root / "etc/fstab").read_text()
    btrfsutil.create_subvolume(str(gone))
    with (root / "etc/fstab").open("a") as file:
        file.write(f"UUID={ext4.machine.uuid} /gone btrfs subvol=gone 0 0\n")
    (root / moved).rename(root / link.lstrip("/"))
    (root / moved).symlink_to(link)
    place = link.lstrip("/") + ("/fstab" if moved == "etc" else "")
    name, problems = ext4.transact()
    assert problems == ()
    assert_boots(ext4, name)
    copied = (ext4.store() / trial_of(name) / place).read_text()
    assert f"subvol=fs-snapshots/{trial_of(name)}" in copied.replace("subvol=/", "subvol=")
    btrfsutil.delete_subvolume(str(gone))
    (root / place).write_text(before)
    done(root, "rollback", name, "--yes")
    ext4.reboot()
    lines = ext4.machine.read(place).splitlines()
    assert [line for line in lines if line.startswith("#") and "subvol=gone" in line]
    assert not [line for line in lines if not line.startswith("#") and "subvol=gone" in line]


def test_stand_ins_of_nested_subvolumes_are_writable(boot: BootMachine) -> None:
    name, _ = boot.transact()
    place = boot.store() / trial_of(name) / "var/lib/machines"
    assert place.stat().st_ino not in (2, 256)
    original = boot.root / "var/lib/machines"
    assert place.stat().st_mode == original.stat().st_mode
    (place / "new").mkdir()


def test_the_copy_is_out_of_every_users_reach(boot: BootMachine) -> None:
    boot.transact()
    assert boot.store().stat().st_mode & 0o777 == 0o700


def test_the_entry_is_as_readable_as_its_model(boot: BootMachine) -> None:
    boot.entry_of(A).chmod(0o600)
    boot.transact()
    (ours,) = boot.ours()
    assert (boot.place / f"loader/entries/{ours}.conf").stat().st_mode & 0o777 == 0o600


def test_none_wanted_none_there(boot: BootMachine) -> None:
    before = manifest(boot.place)
    boot.transact(config=Config(boot_entries=0))
    assert manifest(boot.place) == before
    boot.transact()
    assert boot.ours()
    _, problems = boot.transact(config=Config(boot_entries=0))
    assert problems == ()
    assert manifest(boot.place) == before
    assert trials(boot) == set()


def test_it_goes_with_its_snapshot(boot: BootMachine) -> None:
    before = manifest(boot.place)
    name, _ = boot.transact()
    done(boot.root, "delete", name)
    assert manifest(boot.place) == before
    assert trials(boot) == set()


def test_it_goes_with_a_pruned_snapshot(boot: BootMachine) -> None:
    boot.transact()
    boot.transact()
    boot.machine.write(boot.root, "etc/fs-rollback.conf", "keep_last = 1\nkeep_days = 0\n")
    done(boot.root, "prune")
    (left,) = [name for name in os.listdir(boot.store()) if re.fullmatch(r"yum_[0-9]+", name)]
    assert trials(boot) == {trial_of(left)}
    assert len(boot.ours()) == 1
    assert_boots(boot, left)


def test_it_goes_when_others_delete_the_snapshot(boot: BootMachine) -> None:
    before = manifest(boot.place)
    first, _ = boot.transact()
    second, _ = boot.transact()
    run("btrfs", "subvolume", "delete", "--commit-after", str(boot.store() / first))
    done(boot.root, "pin", second)
    assert trials(boot) == {trial_of(second)}
    assert_boots(boot, second)
    run("btrfs", "subvolume", "delete", "--commit-after", str(boot.store() / second))
    fs_rollback(boot.root, "create", env={"TZ": "UTC"})
    assert trial_of(second) not in trials(boot)
    assert len(manifest(boot.place)) == len(before) + 1, "the entry of the new one"


def test_a_copy_that_others_deleted_is_made_anew(boot: BootMachine) -> None:
    name, _ = boot.transact()
    run("btrfs", "subvolume", "delete", "--commit-after", str(boot.store() / trial_of(name)))
    boot.transact()
    assert_boots(boot, name)
    assert len(boot.ours()) == 2


def test_an_entry_that_others_deleted_is_made_anew(boot: BootMachine) -> None:
    name, _ = boot.transact()
    for ours in boot.ours():
        (boot.place / f"loader/entries/{ours}.conf").unlink()
    boot.transact()
    assert_boots(boot, name)
    assert len(boot.ours()) == 2


def test_another_systems_entry_is_not_ours(boot: BootMachine) -> None:
    """A second system with this program shares /boot; its snapshots are on its own filesystem."""
    name, _ = boot.transact()
    (ours,) = boot.ours()
    text = (boot.place / f"loader/entries/{ours}.conf").read_text()
    other = "11111111-2222-3333-4444-555555555555"
    theirs = boot.place / "loader/entries" / f"{ours[:-1]}x.conf"
    theirs.write_text(text.replace(boot.machine.uuid, other).replace("try_2", "try_1"))
    before = theirs.read_bytes()
    boot.transact()
    done(boot.root, "delete", name)
    done(boot.root, "prune")
    boot.transact(config=Config(boot_entries=0))
    assert theirs.read_bytes() == before
    assert B not in boot.boots()


def test_after_a_rollback_and_its_reboot(boot: BootMachine) -> None:
    """Where /boot went back too, it has no entry of these snapshots until the next run."""
    first, _ = boot.transact(boot.install_b)
    done(boot.root, "rollback", first, "--yes")
    boot.reboot()
    assert boot.boots() == A
    second, problems = boot.transact()
    assert problems == ()
    for name in (first, second):
        assert_boots(boot, name)
    assert trials(boot) == {trial_of(first), trial_of(second)}
    assert boot.boots() == A
