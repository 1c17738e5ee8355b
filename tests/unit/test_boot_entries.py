# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import pytest

from fs_rollback.core.boot.entries import Bootable, best_fit, default_of, kernel_version, newest
from fs_rollback.core.formats import bls
from fs_rollback.core.loader.choice import Choice, Loader
from fs_rollback.core.loader.menu_names import SNAPSHOT_ENTRY_PREFIX

TOKEN = "0fb2a3e5c1d94e8f9a7b6c5d4e3f2a1b"
OLD, NEW, NEWEST = "6.11.4-301.fc41.x86_64", "6.11.10-300.fc41.x86_64", "6.12.1-200.fc41.x86_64"
GRUB = Choice(Loader.GRUB)


def bootable(
    kernel: str,
    name: str = "",
    *,
    missing: tuple[str, ...] = (),
    ours: bool = True,
) -> Bootable:
    name = name or f"{TOKEN}-{kernel}"
    text = f"title Linux {kernel}\nversion {kernel}\nlinux /vmlinuz-{kernel}\noptions root=UUID=1\n"
    entry = bls.parse(f"/boot/loader/entries/{name}.conf", text)
    return Bootable(entry, kernel, missing, follows=False, ours=ours)


def named(found: Optional[Bootable]) -> Optional[str]:
    return found.kernel if found else None


@pytest.mark.parametrize(
    ("linux", "says", "expected"),
    [
        # grubby and kernel-install of Fedora and EL, /boot in the root, a subvolume, its own.
        (f"/vmlinuz-{OLD}", "", OLD),
        (f"/root/boot/vmlinuz-{OLD}", "", OLD),
        (f"/boot/vmlinuz-{OLD}", NEW, OLD),
        # s390x, and kernel-install on an ESP: TOKEN/VERSION/linux.
        ("/boot/image/vmlinux-6.1.0", "", "6.1.0"),
        (f"/{TOKEN}/{OLD}/linux", "", OLD),
        (f"/{TOKEN}/{OLD}/linux", NEW, OLD),
        # Rescue images have no modules of their own.
        (f"/vmlinuz-0-rescue-{TOKEN}", f"0-rescue-{TOKEN}", ""),
        (f"/{TOKEN}/0-rescue/linux", "", ""),
        # Arch: the name tells nothing, the entry may.
        ("/vmlinuz-linux", "", "linux"),
        ("/vmlinuz", NEW, NEW),
        ("/vmlinuz", "", ""),
        ("/linux", NEW, NEW),
        ("/EFI/Linux/other.efi", NEW, NEW),
        ("", "", ""),
    ],
)
def test_the_kernel_of_an_entry(linux: str, says: str, expected: str) -> None:
    lines = [f"linux {linux}"] if linux else []
    lines += [f"version {says}"] if says else []
    entry = bls.parse("/boot/loader/entries/x.conf", "\n".join(lines) + "\n")
    assert kernel_version(entry) == expected


@pytest.mark.parametrize(
    ("initrd", "expected"),
    [
        (f"/initramfs-{OLD}.img", f"/initramfs-{OLD}.img"),
        (f"/ucode.img /initramfs-{OLD}.img", f"/initramfs-{OLD}.img"),
        (f"/initramfs-{OLD}.img /more.img $tuned_initrd", f"/initramfs-{OLD}.img"),
        (f"/{TOKEN}/{OLD}/microcode /{TOKEN}/{OLD}/initrd", f"/{TOKEN}/{OLD}/initrd"),
        ("/ucode.img /initrd", "/initrd"),
        ("/initrd /missing.img", "/initrd"),
        ("$tuned_initrd", ""),
        ("", ""),
    ],
)
def test_the_initramfs_of_an_entry(initrd: str, expected: str) -> None:
    entry = bls.parse("/boot/loader/entries/x.conf", f"initrd {initrd}\n")
    found = Bootable(entry, OLD, ("/missing.img",), follows=False, ours=True)
    assert found.initramfs == expected


def test_what_fits_a_root() -> None:
    good = bootable(OLD)
    assert good.usable
    assert good.fits([OLD, NEW])
    assert not good.fits([NEW])
    assert not good.fits([])


def test_what_is_no_normal_entry_of_this_system_fits_nowhere() -> None:
    for other in (
        bootable(OLD, missing=(f"/vmlinuz-{OLD}",)),
        bootable(OLD, ours=False),
        bootable(OLD, f"{SNAPSHOT_ENTRY_PREFIX}yum_20261123132957"),
        bootable(""),
    ):
        assert not other.usable
        assert not other.fits([OLD, ""])
    assert bootable(OLD, f"{SNAPSHOT_ENTRY_PREFIX}yum_20261123132957").of_snapshot
    assert not bootable(OLD).of_snapshot


def _menu() -> Sequence[Bootable]:
    return [bootable(OLD), bootable(NEWEST), bootable(NEW)]


def test_the_newest_is_that_of_rpm_and_not_that_of_the_alphabet() -> None:
    assert named(newest([bootable("6.9.1-1"), bootable("6.10.0-1")])) == "6.10.0-1"
    assert named(newest(_menu())) == NEWEST
    assert newest([]) is None


def test_the_default_is_taken_where_it_fits() -> None:
    choice = Choice(Loader.GRUB, saved_entry=f"{TOKEN}-{NEW}")
    assert named(default_of(choice, _menu())) == NEW
    assert named(best_fit(choice, _menu(), [OLD, NEW, NEWEST], "")) == NEW


def test_what_the_root_was_booted_with_last_comes_first_if_it_fits() -> None:
    choice = Choice(Loader.GRUB, saved_entry=f"{TOKEN}-{NEWEST}")
    modules = [OLD, NEW, NEWEST]
    assert named(best_fit(choice, _menu(), modules, f"{TOKEN}-{OLD}")) == OLD
    assert named(best_fit(choice, _menu(), [NEW], f"{TOKEN}-{OLD}")) == NEW
    assert named(best_fit(choice, _menu(), modules, "gone")) == NEWEST


def test_the_newest_that_fits_where_the_default_does_not() -> None:
    choice = Choice(Loader.GRUB, saved_entry=f"{TOKEN}-{NEWEST}")
    assert named(best_fit(choice, _menu(), [OLD, NEW], "")) == NEW
    assert named(best_fit(choice, _menu(), [OLD], "")) == OLD
    assert best_fit(choice, _menu(), ["5.14.0-1"], "") is None
    assert best_fit(choice, [], [OLD], "") is None


def test_an_unknown_loader_has_no_default_but_what_fits_is_known() -> None:
    choice = Choice(Loader.UNKNOWN)
    assert default_of(choice, _menu()) is None
    assert named(best_fit(choice, _menu(), [OLD, NEW], "")) == NEW


def test_a_default_without_its_files_is_passed_over() -> None:
    broken = bootable(NEWEST, missing=(f"/initramfs-{NEWEST}.img",))
    menu = [bootable(OLD), broken]
    choice = Choice(Loader.GRUB, saved_entry=f"{TOKEN}-{NEWEST}")
    assert default_of(choice, menu) == broken, "the loader does not look"
    assert named(best_fit(choice, menu, [OLD, NEWEST], "")) == OLD


def test_two_entries_with_one_text_are_told_apart_by_their_files() -> None:
    menu = [bootable(OLD, "custom"), bootable(OLD)]
    found = default_of(Choice(Loader.GRUB, saved_entry="custom"), menu)
    assert found is not None
    assert found.entry.name == "custom"


def test_without_anything_said_grub_takes_the_first_of_its_menu() -> None:
    assert named(default_of(GRUB, _menu())) == NEWEST
    assert default_of(GRUB, []) is None
