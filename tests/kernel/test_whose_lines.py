# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the lines that name a root decide about this one, and what becomes of all others."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import btrfsutil
import pytest

from fs_rollback.core.boot.findings import Finding, Grade
from fs_rollback.core.rollback.kernel_steps import SetDefaultEntry
from fs_rollback.errors import RefusedError
from fs_rollback.system.check import everything
from fs_rollback.system.machine import host
from fs_rollback.system.rollback import propose
from fs_rollback.system.rollback.propose import Proposal
from fs_rollback.system.store import store
from tests.kernel.boots import A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.conftest import MakeMachine
from tests.kernel.machine import KEEP, KERNEL, Machine, run

__all__ = ["make_boot"]  # the fixture of the tests below
ENTRY = f"boot/loader/entries/abc-{KERNEL}.conf"
OURS, THEIRS = "0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210"
# File name and options; {0} is our UUID, {1} the ID of the snapshot that somebody has made.
OTHERS = {
    "archinstall": ("2026_linux", "root=PARTUUID=0a1b2c3d-0102-0304-0506-0708090a0b0c rw"),
    "its subvolume": ("2026_linux", "root=PARTUUID=0a1b2c3d-1 rootflags=subvol=@ rw"),
    "a label": ("arch", "root=LABEL=arch rw rootfstype=ext4"),
    "a device that is not here": ("arch", "root=/dev/mapper/arch rootflags=subvol=@"),
    "a snapshot, boom": (f"{OURS}-1ab2c3d-{A}", "root=UUID={0} rootflags=subvol=snaps/one"),
    "a snapshot by its ID": (f"zzz-{A}", "root=UUID={0} ro rootflags=subvolid={1}"),
    "a stale one": (f"{THEIRS}-6.0.0-1", "root=UUID={0} ro rootflags=subvol=gone"),
    "of this kernel": (f"zzz-{A}", "root=UUID={0} ro rootflags=subvol=gone"),
    "another system beside": (f"{THEIRS}-{A}", "root=UUID={0} ro rootflags=subvol=@"),
    "without its subvolume": (f"zzz-{A}", "root=UUID={0} ro quiet"),
    "no number": (f"zzz-{A}", "root=UUID={0} rootflags=subvolid=x"),
    "no root": ("memtest", "quiet"),
}


@pytest.fixture
def boot(make_boot: MakeBoot) -> BootMachine:
    """Give a machine with GRUB that shares its filesystem with a snapshot and another system."""
    found = make_boot("ext4")
    top = found.machine.top
    found.machine.write(found.root, "etc/machine-id", OURS + "\n")
    (top / "snaps").mkdir()
    btrfsutil.create_snapshot(str(top / "root"), str(top / "snaps/one"))
    btrfsutil.create_snapshot(str(top / "root"), str(top / "@"))
    (top / "@/etc/machine-id").write_text(THEIRS + "\n")
    return found


def _add(boot: BootMachine, kind: str) -> Path:
    name, options = OTHERS[kind]
    number = btrfsutil.subvolume_id(str(boot.machine.top / "snaps/one"))
    linux, initrd = boot.files_of(A)
    file = boot.place / f"loader/entries/{name}.conf"
    if A not in name:
        linux = initrd = "vmlinuz-linux"
        (boot.place / linux).write_text("kernel\n")
    file.write_text(
        f"title Another\nlinux /{linux}\ninitrd /{initrd}\n"
        f"options {options.format(boot.machine.uuid, number)}\n"
    )
    return file


def _proposed(machine: Machine, name: str) -> Proposal:
    with host.opened(str(machine.root)) as found, store.opened(found) as kept:
        assert kept is not None
        target = next(s for s in kept.load() if s.name == name)
        return propose.propose(found, kept, target, KEEP, datetime.now().astimezone())


def _entries_chosen(machine: Machine, name: str) -> list[str]:
    steps = _proposed(machine, name).plan.steps
    return [step.entry for step in steps if isinstance(step, SetDefaultEntry)]


def _checked(machine: Machine) -> tuple[Finding, ...]:
    with host.opened(str(machine.root)) as found, store.opened(found) as kept:
        return everything.walk(found, kept, datetime.now().astimezone())


def test_other_entries_in_the_menu_are_no_matter(boot: BootMachine) -> None:
    name, _ = boot.transact(boot.install_b)
    boot.remove_modules(A)  # so that the rollback has to choose an entry
    usual = [f"abc-{A}"]
    assert _entries_chosen(boot.machine, name) == usual
    before = _checked(boot.machine)
    for kind in OTHERS:
        file = _add(boot, kind)
        assert _entries_chosen(boot.machine, name) == usual, kind
        new = set(_checked(boot.machine)) - set(before)
        assert all(link.grade is Grade.WARNING and file.name in link.text for link in new), kind
        quiet = ("archinstall", "its subvolume", "a label", "another system beside", "no root")
        assert not new or kind not in quiet
        for link in new:
            assert "Nothing to do" in link.advice or "Do not choose it" in link.advice, kind
        file.unlink()
    done(boot.root, "rollback", name, "--yes")
    assert boot.default_name() == f"abc-{A}"


@pytest.mark.parametrize("kind", ["archinstall", "a label", "another system beside", "no root"])
def test_a_menu_that_boots_another_system_by_default(boot: BootMachine, kind: str) -> None:
    name, _ = boot.transact()
    other = _add(boot, kind)
    boot.write_grubenv({"saved_entry": other.stem})
    links = {link.name: link for link in _checked(boot.machine)}
    assert "belongs to another system" in links["default entry"].text
    assert not {"kernel", "initramfs", "command line", "modules"} & links.keys()
    ended = done(boot.root, "rollback", name, "--yes")
    assert f"choose Test Linux ({A})" in ended.out
    assert boot.default_name() == other.stem, "that is for the person to decide"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("a snapshot, boom", "disagree"),
        ("without its subvolume", "disagree"),
        ("of this kernel", "does not exist"),
    ],
)
def test_a_default_entry_of_this_system_decides(boot: BootMachine, kind: str, said: str) -> None:
    name, _ = boot.transact()
    other = _add(boot, kind)
    boot.write_grubenv({"saved_entry": other.stem})
    ended = fs_rollback(boot.root, "rollback", name, "--yes")
    ended.expect_refusal(said, f"/boot/loader/entries/{other.name}")
    # The way out that the hint names.
    boot.choose(A)
    done(boot.root, "rollback", name, "--yes")


def test_a_loader_that_cannot_be_known(boot: BootMachine) -> None:
    """From a rescue system GRUB's menu and systemd-boot's may both be the one that is used."""
    name, _ = boot.transact()
    (boot.place / "efi/EFI/systemd").mkdir(parents=True)
    for kind in OTHERS:
        file = _add(boot, kind)
        other = boot.place / "efi/loader/entries" / file.name
        other.parent.mkdir(parents=True, exist_ok=True)
        file.rename(other)
        assert _proposed(boot.machine, name)
    # None of all leads here: then which root the next boot uses cannot be said.
    boot.entry_of(A).unlink()
    with pytest.raises(RefusedError, match="disagree"):
        _proposed(boot.machine, name)


def test_files_for_the_next_kernel_only_warn(boot: BootMachine) -> None:
    machine = boot.machine
    name, _ = boot.transact()
    line = f"root=UUID={machine.uuid}\nrootflags=subvol=old quiet\n"
    comment = f"# root=UUID={machine.uuid} rootflags=subvol=older\n"
    (machine.root / "etc/kernel/cmdline").write_text(comment + line)
    machine.write(
        machine.root,
        "etc/default/grub",
        '#GRUB_CMDLINE_LINUX="rootflags=subvol=a"\nGRUB_CMDLINE_LINUX="rootflags=subvol=b"\n'
        "GRUB_CMDLINE_LINUX='rootflags=subvol=root' # as it is\n"
        'GRUB_CMDLINE_LINUX_DEFAULT="quiet" # rootflags=subvol=c\n',
    )
    said = {x.text: x.grade for x in _checked(machine) if x.name == "kernel updates"}
    assert said == {
        "the next kernel to be installed would boot another root than the default entry:"
        " /etc/kernel/cmdline says subvol=old": Grade.WARNING,
        "/etc/default/grub leads to the root of the next boot": Grade.OK,
    }
    name = machine.take()
    machine.roll_back(name)
    new = (machine.next_root() / "etc/kernel/cmdline").read_text()
    assert new == comment + line.replace("=old", "=root")


@pytest.mark.parametrize(
    ("path", "says"),
    [(ENTRY, says) for says in ("subvol=other", "subvol=gone", "subvolid=7", "")]
    + [("etc/kernel/cmdline", says) for says in ("subvol=other", "subvolid=0x7", "subvolid=x", "")]
    + [("etc/default/grub", "subvol=other")],
)
def test_stale_lines_in_a_snapshot(named: Machine, path: str, says: str) -> None:
    btrfsutil.create_subvolume(str(named.top / "other"))
    if path == "etc/default/grub":
        named.write(named.root, path, 'GRUB_CMDLINE_LINUX="rootflags=subvol=root"\n')
    text = named.read(path)
    stale = text.replace("rootflags=subvol=root", f"rootflags={says}" if says else "")
    (named.root / path).write_text(stale)
    name = named.take()
    (named.root / path).write_text(text)
    warnings = named.roll_back(name).warnings
    new = (named.next_root() / path).read_text()
    if path == "etc/default/grub":
        assert new == stale
        assert f"says rootflags={says}" in " ".join(warnings)
    else:
        assert "rootflags=subvol=root" in new.split()
        assert sorted(new.split()) == sorted(text.split())


def test_an_entry_for_a_snapshot_lies_in_the_snapshots_too(make_boot: MakeBoot) -> None:
    """With /boot in the root: the entry is gone by now, or was the default at that time."""
    boot = make_boot("in the root")
    top = boot.machine.top
    (top / "snaps").mkdir()
    btrfsutil.create_snapshot(str(top / "root"), str(top / "snaps/one"))
    other = boot.place / f"loader/entries/zzz-{A}.conf"
    entry = boot.entry_of(A).read_text()
    other.write_text(entry.replace("subvol=root", "subvol=snaps/one"))
    usual = boot.machine.take()
    boot.write_grubenv({"saved_entry": other.stem})
    chosen = boot.machine.take()
    boot.choose(A)
    for name in (usual, chosen):
        boot.machine.roll_back(name)
        root = boot.machine.next_root()
        saved = (root / "boot/grub2/grubenv").read_text()
        assert f"saved_entry=abc-{A}\n" in saved, name
        assert (root / f"boot/loader/entries/{other.name}").read_text().count("snaps/one") == 1
        assert (root / f"boot/loader/entries/abc-{A}.conf").read_text() == entry
        boot.machine.take_back()
        other.unlink(missing_ok=True)
        run("btrfs", "subvolume", "delete", str(top / "snaps/one")) if name == usual else None


def _rewrite(machine: Machine, old: str, new: str) -> None:
    """Rewrite all lines about the root of the machine, as somebody does who renames it."""
    entries = [f"boot/loader/entries/abc-{kernel}.conf" for kernel in (A, B)]
    for path in ("etc/fstab", "etc/kernel/cmdline", *entries):
        file = machine.root / path
        file.write_text(file.read_text().replace(old, new))


@pytest.mark.parametrize("by_default", [False, True])
def test_a_root_that_was_renamed_since(make_boot: MakeBoot, by_default: bool) -> None:
    boot = make_boot("in the root")
    machine = boot.machine
    boot.install_b()
    if by_default:
        number = btrfsutil.subvolume_id(str(machine.root))
        btrfsutil.set_default_subvolume(str(machine.top), number)
        _rewrite(machine, "subvol=root", "noatime")
    name = machine.take()
    run("umount", str(machine.root))
    (machine.top / "root").rename(machine.top / "system")
    run("mount", "-o", "loop,subvol=system", str(machine.image), str(machine.root))
    _rewrite(machine, "subvol=root", "subvol=system")
    _rewrite(machine, " /root/boot", " /system/boot")
    machine.roll_back(name)
    new = machine.top / "system"
    option = "noatime" if by_default else "subvol=system"
    assert option in (new / "etc/kernel/cmdline").read_text()
    assert option in (new / "etc/fstab").read_text()
    for kernel in (A, B):
        entry = (new / f"boot/loader/entries/abc-{kernel}.conf").read_text()
        assert option in entry
        assert f"linux /system/boot/vmlinuz-{kernel}\n" in entry
        assert f"initrd /system/boot/initramfs-{kernel}.img\n" in entry


def test_a_mount_of_what_was_deleted_since(make_machine: MakeMachine) -> None:
    machine = make_machine("named")
    table = machine.root / "etc/fstab"
    for name in ("scratch", "srv-old", "srv-new"):
        btrfsutil.create_subvolume(str(machine.top / name))
    before = table.read_text()
    line = f"UUID={machine.uuid} /scratch btrfs subvol=scratch 0 0"
    old, new = (f"UUID={machine.uuid} /srv btrfs subvol=/srv-{age} 0 0" for age in ("old", "new"))
    table.write_text(f"{before}{line}\n{old}\n")
    (machine.root / "scratch").mkdir()
    (machine.root / "srv").mkdir()
    name = machine.take()
    table.write_text(f"{before}{new}\n")
    for gone in ("scratch", "srv-old"):
        btrfsutil.delete_subvolume(str(machine.top / gone))
    warnings = machine.roll_back(name).warnings
    assert [w.rpartition(": ")[2] for w in warnings] == [line, old]
    assert (machine.next_root() / "etc/fstab").read_text() == f"{before}#{line}\n#{old}\n{new}\n"


@pytest.mark.parametrize(
    ("point", "fstype", "options"),
    [
        ("/data", "btrfs", "subvolid=4000"),
        ("/data", "btrfs", "subvolid=0x1f4,subvol=home"),
        ("/data", "btrfs", "subvolid=abc"),
        ("/data", "auto", "subvol=gone"),
        ("/", "btrfs", "subvol=gone"),
    ],
)
def test_what_the_fstab_of_a_snapshot_mounts_is_gone(
    named: Machine, point: str, fstype: str, options: str
) -> None:
    """No boot would get past that line."""
    line = f"UUID={named.uuid} {point} {fstype} {options} 0 0\n"
    table = named.read("etc/fstab")
    named.write(named.root, "etc/fstab", table + line)
    name = named.take()
    named.write(named.root, "etc/fstab", table)
    said = done(named.root, "rollback", name, "--dry-run").out
    assert f"commented out in the new root: {line.strip()}" in said
    done(named.root, "rollback", name, "--yes")
    assert f"# {line}" in (named.next_root() / "etc/fstab").read_text().replace("#UUID", "# UUID")
    links = [link for link in _checked(named) if link.name == "fstab"]
    assert {link.grade for link in links} == {Grade.OK}, links
