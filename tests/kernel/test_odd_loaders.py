# SPDX-License-Identifier: GPL-2.0-or-later
"""Boot loaders set up in other ways than an installer does it: the kernel that fits still boots.

Or it is said that it will not: a rollback that cannot tell the loader what to boot says so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fs_rollback.config import Config
from fs_rollback.core.loader.choice import Loader
from fs_rollback.core.rollback.root_steps import SetAside
from fs_rollback.errors import Error
from fs_rollback.system.loader import settings
from tests.kernel.boots import A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.machine import GRUB_CFG, run
from tests.kernel.test_menu import assert_boots, entry_of

__all__ = ["make_boot"]  # a fixture

_NO_MENU = Config(boot_entries=0)


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    return make_boot("ext4")


@pytest.fixture
def efi(make_boot: MakeBoot) -> BootMachine:
    return make_boot("efi")


def test_each_loader_can_be_found_and_told() -> None:
    assert set(settings.TOOLS) == set(Loader) - {Loader.UNKNOWN}


def with_b(boot: BootMachine) -> str:
    """Let kernel B come and A's modules go; returns the snapshot, which has A's only."""

    def change() -> None:
        boot.install_b()
        boot.remove_modules(A)

    name, problems = boot.transact(change, config=_NO_MENU)
    assert problems == ()
    return name


def without_a(boot: BootMachine) -> None:
    """What a kernel's update does where only one is kept."""
    boot.install_b()
    boot.remove_kernel(A)
    boot.remove_modules(A)


@contextmanager
def mounted(image: Path, point: Path) -> Iterator[None]:
    """Mount a new filesystem."""
    with image.open("wb") as file:
        file.truncate(16 << 20)
    run("mkfs.ext4", "-q", str(image))
    point.mkdir(exist_ok=True)
    run("mount", "-o", "loop", str(image), str(point))
    try:
        yield
    finally:
        run("umount", str(point))


def test_a_default_that_grub_cfg_fixes(ext4: BootMachine) -> None:
    """GRUB_DEFAULT=0: what grub-mkconfig writes has the branch of next_entry all the same."""
    name = with_b(ext4)
    ext4.write("grub2/grub.cfg", GRUB_CFG.replace("${saved_entry}", "0"))
    setting = ext4.setting.read_bytes()
    ended = fs_rollback(ext4.root, "rollback", name, "--yes")
    assert ended.code == 3
    assert "grub.cfg sets that default by itself" in ended.err
    assert ext4.setting.read_bytes() == setting
    said = fs_rollback(ext4.root, "check").out.splitlines()
    assert any("default entry" in line and f"abc-{B}.conf" in line for line in said)


def test_an_entry_that_grub_does_not_read(ext4: BootMachine, tmp_path: Path) -> None:
    """The machine had systemd-boot once, and its ESP still has an entry that would fit."""
    name = with_b(ext4)
    esp = ext4.root / "boot/efi"
    with mounted(tmp_path / "esp.img", esp):
        (esp / f"abc/{A}").mkdir(parents=True)
        for file in ("linux", "initrd"):
            (esp / f"abc/{A}" / file).write_text("of old\n")
        (esp / "loader/entries").mkdir(parents=True)
        entry = ext4.entry_of(A).read_text().replace(f"/vmlinuz-{A}", f"/abc/{A}/linux")
        entry = entry.replace(f"/initramfs-{A}.img", f"/abc/{A}/initrd")
        (esp / f"loader/entries/old-{A}.conf").write_text(entry)
        ext4.remove_kernel(A)
        done(ext4.root, "rollback", name, "--yes")
        assert ext4.boots() == A


def test_two_loaders_of_which_none_is_known_to_run(efi: BootMachine) -> None:
    """A machine that has gone over to systemd-boot, looked at from a rescue system."""
    left = efi.root / "boot"
    (left / "loader/entries").mkdir(parents=True)
    (left / "grub2").mkdir()
    (left / "grub2/grub.cfg").write_text(GRUB_CFG)
    (left / "grub2/grubenv").write_text("# GRUB Environment Block\n" + "#" * 999)
    name = with_b(efi)
    ended = done(efi.root, "rollback", name, "--yes")
    assert "the boot loader was not recognized" in ended.out
    assert f"choose Test Linux ({A})" in ended.out
    assert not (left / "grub2/grubenv").read_text().count("saved_entry")


@pytest.mark.parametrize("key", ["default", "preferred"])
@pytest.mark.parametrize("value", ["abc-*.conf # mine", "My Linux.conf", "abc-*  "])
def test_what_loader_conf_said_comes_back(efi: BootMachine, key: str, value: str) -> None:
    name = with_b(efi)
    efi.write("loader/loader.conf", f"timeout 3\n{key} {value}\nconsole-mode max\n")
    before = efi.setting.read_bytes()
    done(efi.root, "rollback", name, "--yes")
    assert efi.boots() == A
    done(efi.root, "undo", "--yes")
    assert efi.setting.read_bytes() == before


def test_a_failure_after_the_default_was_set(
    efi: BootMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Error("injected")

    name = with_b(efi)
    efi.write("loader/loader.conf", "timeout 3\ndefault abc-*.conf # the newest\n")
    before = efi.setting.read_bytes()
    monkeypatch.setattr(SetAside, "apply", fail)
    with pytest.raises(Error) as caught:
        efi.machine.roll_back(name)
    assert caught.value.exit_code == 1, "the machine is as before"
    assert efi.setting.read_bytes() == before


def test_a_copy_that_is_cut_off_is_not_put_back(ext4: BootMachine) -> None:
    def change() -> None:
        largest = max(ext4.saved().values(), key=lambda path: path.stat().st_size)
        os.truncate(largest, 100)
        without_a(ext4)

    name, problems = ext4.transact(change)
    assert any(name in problem for problem in problems)
    assert not (ext4.place / f"initramfs-{A}.img").exists()
    assert fs_rollback(ext4.root, "rollback", name, "--yes").code == 3


def test_the_next_snapshot_saves_it_again(ext4: BootMachine) -> None:
    ext4.transact()
    largest = max(ext4.saved().values(), key=lambda path: path.stat().st_size)
    os.truncate(largest, 100)
    name, _ = ext4.transact(lambda: without_a(ext4), config=_NO_MENU)
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.boots() == A


@pytest.mark.parametrize("kind", ["ext4", "in the root"])
def test_a_device_tree_goes_with_its_kernel(make_boot: MakeBoot, kind: str) -> None:
    boot = make_boot(kind)
    boot.write(f"dtb-{A}/board.dtb", "device tree\n")
    with boot.entry_of(A).open("a") as file:
        file.write(f"devicetree {boot.kind.prefix}/dtb-{A}/board.dtb\n")

    def change() -> None:
        without_a(boot)
        run("rm", "-r", str(boot.place / f"dtb-{A}"))

    name, problems = boot.transact(change)
    assert problems == ()
    assert boot.found(entry_of(boot, name)["devicetree"]).read_text() == "device tree\n"
    done(boot.root, "rollback", name, "--yes")
    boot.reboot()
    assert (boot.place / f"dtb-{A}/board.dtb").exists()


@pytest.mark.parametrize("which", ["kernel", "initramfs", "entry", "entries"])
def test_links_in_boot(ext4: BootMachine, which: str) -> None:
    linux, initrd = ext4.files_of(A)
    path = {
        "kernel": ext4.place / linux,
        "initramfs": ext4.place / initrd,
        "entry": ext4.entry_of(A),
        "entries": ext4.place / "loader/entries",
    }[which]
    real = path.rename(path.with_name(path.name + ".real"))
    path.symlink_to(real.name)
    name, problems = ext4.transact()
    assert problems == ()
    assert_boots(ext4, name)


def test_an_entry_that_is_a_link_and_a_kernel_that_is_gone(ext4: BootMachine) -> None:
    name = with_b(ext4)
    entry = ext4.entry_of(A)
    real = entry.rename(entry.with_suffix(".real"))
    entry.symlink_to(real.name)
    (ext4.place / ext4.files_of(A)[0]).unlink()
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.boots() == A
    done(ext4.root, "undo", "--yes")
    assert entry.is_symlink()


@pytest.mark.parametrize("point", ["efi", "boot/efi"])
def test_a_link_that_leads_to_itself(ext4: BootMachine, point: str) -> None:
    path = ext4.root / point
    path.symlink_to(path.name)
    name, problems = ext4.transact()
    assert problems == ()
    assert_boots(ext4, name)


def test_entries_below_another_place(make_boot: MakeBoot, tmp_path: Path) -> None:
    """systemd-boot with a /boot of its own, and entries on the ESP at /boot/efi."""
    boot = make_boot("boot/efi")
    boot.unmount()
    with mounted(tmp_path / "boot.img", boot.root / "boot"):
        boot.place.mkdir()
        (boot.root / "boot/loader/entries").mkdir(parents=True)
        boot.mount()
        name, problems = boot.transact(lambda: without_a(boot))
        assert problems == ()
        done(boot.root, "rollback", name, "--yes")
        assert boot.boots() == A
        boot.unmount()


def test_entries_beside_the_esp(ext4: BootMachine, tmp_path: Path) -> None:
    """XBOOTLDR: systemd-boot reads entries of /boot too, and loader.conf on the ESP alone."""
    run("rm", "-r", str(ext4.place / "grub2"))
    with mounted(tmp_path / "esp.img", ext4.root / "efi"):
        (ext4.root / "efi/EFI/systemd").mkdir(parents=True)
        (ext4.root / "efi/loader").mkdir()
        told = ext4.root / "efi/loader/loader.conf"
        told.write_text(f"default abc-{A}.conf\n")

        def change() -> None:
            ext4.add_kernel(B)
            told.write_text(f"default abc-{B}.conf\n")

        name, _ = ext4.transact(change, config=_NO_MENU)
        ext4.remove_modules(A)
        done(ext4.root, "rollback", name, "--yes")
        assert told.read_text() == f"default abc-{A}.conf\n"
        assert not (ext4.place / "loader/loader.conf").exists()


@pytest.mark.parametrize("name", ["grub2/grubenv.new", f"vmlinuz-{A}.new"])
def test_files_of_others_stay(ext4: BootMachine, name: str) -> None:
    snapshot, _ = ext4.transact(lambda: without_a(ext4), config=_NO_MENU)
    mine = ext4.place / name
    mine.write_text("mine")
    done(ext4.root, "rollback", snapshot, "--yes")
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("key", ["linux", "initrd", "options"])
def test_an_entry_with_a_nul(ext4: BootMachine, key: str) -> None:
    entry = ext4.entry_of(A)
    lines = entry.read_text().splitlines()
    marked = [f"{line}\0junk" if line.startswith(key) else line for line in lines]
    entry.write_text("\n".join([*marked, ""]))
    name, _ = ext4.transact()
    for command in (["check"], ["status"], ["create"], ["rollback", name, "--yes"]):
        assert fs_rollback(ext4.root, *command).code in (0, 1, 3)


def test_a_default_of_thousands_of_digits(ext4: BootMachine) -> None:
    block = f"# GRUB Environment Block\nsaved_entry={'9' * 5000}\n".ljust(6144, "#")
    ext4.setting.write_text(block)
    assert "default entry" in fs_rollback(ext4.root, "check").out
