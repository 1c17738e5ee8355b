# SPDX-License-Identifier: GPL-2.0-or-later
"""Kernels where /boot does not go back: the entry that fits becomes the default, or comes back.

A machine has kernel A, and a transaction brings B and makes it the default. The snapshot before it
has the modules of A only.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.kernel.boots import KINDS, OUTSIDE, A, B, BootMachine, MakeBoot, make_boot
from tests.kernel.commands import done, fs_rollback
from tests.kernel.faults import manifest, state
from tests.kernel.machine import run

__all__ = ["make_boot"]  # the fixture of the tests below


@pytest.fixture(params=OUTSIDE)
def outside(request: pytest.FixtureRequest, make_boot: MakeBoot) -> BootMachine:
    """Give a machine of each kind whose boot files no rollback takes back."""
    return make_boot(request.param)


@pytest.fixture
def ext4(make_boot: MakeBoot) -> BootMachine:
    """Give a machine laid out as Fedora Workstation's."""
    return make_boot("ext4")


def upgraded(boot: BootMachine) -> str:
    """Do the transaction that brings B, and removes the modules of A; returns its snapshot."""
    name, problems = boot.transact(boot.install_b)
    assert problems == ()
    assert boot.boots() == B
    return name


def test_the_kernel_that_fits_becomes_the_default(outside: BootMachine) -> None:
    name = upgraded(outside)
    setting, menu = outside.setting.read_bytes(), manifest(outside.place)
    ended = done(outside.root, "rollback", name, "--yes")
    assert outside.boots() == A
    assert f"abc-{B} " in ended.out, "the entry that fits no more is named"
    done(outside.root, "undo", "--yes")
    assert outside.setting.read_bytes() == setting
    assert manifest(outside.place) == menu
    assert outside.boots() == B


RED_HATS = "5.14.0-611.el9"


def test_a_kernel_without_btrfs_never_fits(ext4: BootMachine) -> None:
    """Oracle Linux has Red Hat's kernel beside its own; it is newer, and cannot mount the root."""
    ext4.add_kernel(RED_HATS)
    modules = ext4.root / "usr/lib/modules" / RED_HATS
    (modules / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    name = upgraded(ext4)
    ext4.remove_kernel(A)
    ext4.remove_modules(A)
    ended = done(ext4.root, "rollback", name, "--yes")
    assert ext4.boots() == A, "put back from what was saved"
    assert f"abc-{RED_HATS} " in ended.out
    assert "no btrfs module" in ended.out


@pytest.mark.parametrize("place", ["modules.builtin", "modules.dep", "kernel/fs/btrfs/btrfs.ko.xz"])
def test_a_kernel_with_btrfs_in_any_way_fits(ext4: BootMachine, place: str) -> None:
    modules = ext4.root / "usr/lib/modules" / A
    (modules / "modules.builtin").write_text("kernel/fs/ext4/ext4.ko\n")
    (modules / "kernel/fs/btrfs").mkdir(parents=True)
    if "/" not in place:
        (modules / "kernel/fs/btrfs").rmdir()
        (modules / place).write_text("extra/btrfs.ko.xz: kernel/lib/raid6/raid6_pq.ko.xz\n")
    name = upgraded(ext4)
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.boots() == A


def test_after_the_reboot_and_back_again(outside: BootMachine) -> None:
    name = upgraded(outside)
    done(outside.root, "rollback", name, "--yes")
    outside.reboot()
    assert outside.boots() == A
    done(outside.root, "undo", "--yes", "--to-replaced")
    assert outside.boots() in (A, B), "the replaced root has the modules of both"
    outside.reboot()
    assert outside.boots() in (A, B)


def test_other_lines_of_the_setting_stay(outside: BootMachine) -> None:
    name = upgraded(outside)
    before = outside.setting.read_text()
    done(outside.root, "rollback", name, "--yes")
    assert outside.setting.read_text() == before.replace(B, A)


def test_what_is_preferred_outranks_the_default(make_boot: MakeBoot) -> None:
    boot = make_boot("efi")
    name, _ = boot.transact(boot.install_b)
    text = boot.setting.read_text()
    boot.setting.write_text(f"preferred abc-{B}.conf\n{text}")
    before = boot.setting.read_text()
    done(boot.root, "rollback", name, "--yes")
    assert boot.boots() == A
    assert boot.setting.read_text() == before.replace(f"preferred abc-{B}", f"preferred abc-{A}")
    done(boot.root, "undo", "--yes")
    assert boot.setting.read_text() == before


def test_a_boot_in_the_root_goes_back_with_it(make_boot: MakeBoot) -> None:
    boot = make_boot("in the root")
    name = upgraded(boot)
    done(boot.root, "rollback", name, "--yes")
    boot.reboot()
    assert boot.boots() == A
    assert not boot.entry_of(B).exists()
    assert boot.saved() == {}, "the snapshots hold their kernels themselves"


def test_a_boot_in_the_top_level_stays(make_boot: MakeBoot) -> None:
    boot = make_boot("top level")
    name = upgraded(boot)
    done(boot.root, "rollback", name, "--yes")
    assert boot.boots() == A
    done(boot.root, "undo", "--yes")
    assert boot.boots() == B


def test_a_boot_in_the_top_level_lost_the_kernel(make_boot: MakeBoot) -> None:
    boot = make_boot("top level")
    before = manifest(boot.place)
    name = upgraded(boot)
    boot.remove_kernel(A)
    done(boot.root, "rollback", name, "--yes")
    assert boot.boots() == A
    now = manifest(boot.place)
    for path in (*boot.files_of(A), f"loader/entries/abc-{A}.conf"):
        assert now[path] == before[path]


def test_a_removed_kernel_is_put_back_as_it_was(outside: BootMachine) -> None:
    before = manifest(outside.place)
    name = upgraded(outside)
    outside.remove_kernel(A)
    without = manifest(outside.place)
    done(outside.root, "rollback", name, "--yes")
    assert outside.boots() == A
    now = manifest(outside.place)
    for path in (*outside.files_of(A), f"loader/entries/abc-{A}.conf"):
        assert now[path] == before[path], "content, mode and owner"
    done(outside.root, "undo", "--yes")
    assert manifest(outside.place) == without


def test_without_saved_copies_the_image_comes_from_the_modules(outside: BootMachine) -> None:
    name = upgraded(outside)
    forget_saved(outside)
    linux = outside.place / outside.files_of(A)[0]
    linux.unlink()
    done(outside.root, "rollback", name, "--yes")
    assert outside.boots() == A
    assert linux.read_text() == f"kernel {A}\n" * 500


@pytest.mark.parametrize("lost", [0, 1, 2], ids=["all", "the initramfs", "the entry"])
def test_without_saved_copies_it_is_refused(ext4: BootMachine, lost: int) -> None:
    name = upgraded(ext4)
    forget_saved(ext4)
    gone = [ext4.place / path for path in ext4.files_of(A)] + [ext4.entry_of(A)]
    for path in gone if lost == 0 else [gone[lost]]:
        path.unlink()
    refused(ext4, "rollback", name, "--yes")


def test_a_full_boot_is_refused(make_boot: MakeBoot) -> None:
    boot = make_boot("ext4", 4 << 20)
    name = upgraded(boot)
    boot.remove_kernel(A)
    fill(boot)
    assert "no room" in refused(boot, "rollback", name, "--yes")


@pytest.mark.parametrize("keeps_modules", [True, False])
def test_the_order_of_default_and_commit(outside: BootMachine, keeps_modules: bool) -> None:
    """Between the two a power cut may come: then what boots has to fit what is the root."""
    name = upgraded(outside)
    if not keeps_modules:
        outside.remove_modules(A)
    plan = done(outside.root, "rollback", name, "--dry-run", "--json").json
    steps = [step["step"] for step in plan["steps"]]
    assert (steps.index("SetDefaultEntry") < steps.index("Exchange")) is keeps_modules


def test_the_default_stays_where_it_fits(outside: BootMachine) -> None:
    name, _ = outside.transact()
    before = manifest(outside.place)
    plan = done(outside.root, "rollback", name, "--yes", "--json").json
    assert not {"SetDefaultEntry", "PutBackKernel"} & {step["step"] for step in plan["steps"]}
    assert manifest(outside.place) == before


def test_a_fixed_default_that_does_not_fit(ext4: BootMachine) -> None:
    """Nothing that could be written would make GRUB boot another one."""
    name = upgraded(ext4)
    ext4.write("grub2/grub.cfg", f'set default="abc-{B}"\nblscfg\n')
    said = refused(ext4, "rollback", name, "--yes")
    assert f"abc-{B}" in said
    assert "GRUB_DEFAULT=saved" in said


def test_a_fixed_default_that_fits(ext4: BootMachine) -> None:
    name = upgraded(ext4)
    ext4.write("grub2/grub.cfg", f'set default="abc-{A}"\nblscfg\n')
    before = ext4.setting.read_bytes()
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.setting.read_bytes() == before, "it would have no effect"


def test_a_fixed_default_that_nobody_knows(ext4: BootMachine) -> None:
    """A submenu is in grub.cfg, not among the boot entries."""
    name = upgraded(ext4)
    ext4.write("grub2/grub.cfg", 'set default="1>2"\nblscfg\n')
    ended = done(ext4.root, "rollback", name, "--yes")
    assert f"(kernel {A}) in the boot menu" in ended.out


def test_an_unknown_loader_is_said(ext4: BootMachine) -> None:
    name = upgraded(ext4)
    (ext4.place / "grub2/grub.cfg").unlink()
    before = ext4.setting.read_bytes()
    ended = done(ext4.root, "rollback", name, "--yes")
    assert "the boot loader was not recognized" in ended.out
    assert f"(kernel {A}) in the boot menu" in ended.out
    assert ext4.setting.read_bytes() == before


@pytest.mark.parametrize("kind", OUTSIDE)
def test_what_the_loader_reads_is_not_mounted(make_boot: MakeBoot, kind: str) -> None:
    """Nothing can be saved, paired or removed then: each command says so, and how to go on."""
    boot = make_boot(kind)
    name = upgraded(boot)
    trial = boot.store() / name.replace("yum_", "try_")
    boot.unmount()
    said = f"on /{KINDS[kind].point}, but it is not mounted here"
    _, problems = boot.transact()
    assert len(problems) == 1
    assert said in problems[0]
    made = fs_rollback(boot.root, "create")
    assert made.code == 0
    assert said in made.err
    assert said in refused(boot, "rollback", "--yes", name)
    assert said in fs_rollback(boot.root, "delete", name).err
    assert trial.is_dir(), "its entry is there still"
    boot.mount()
    assert boot.transact()[1] == ()
    done(boot.root, "rollback", "--yes", name)
    boot.reboot()
    assert boot.boots() == A


def test_no_loader_is_found(make_boot: MakeBoot) -> None:
    """Such as a unified kernel image: nothing is paired, and that is said before the question."""
    boot = make_boot("efi")
    name = upgraded(boot)
    run("rm", "-r", str(boot.place / "loader"), str(boot.place / "EFI"))
    told = fs_rollback(boot.root, "rollback", "--yes", name)
    assert told.code == 0
    said = " ".join(told.out.split())
    assert f"starts a kernel that the restored root has modules for ({A})" in said


def test_grubenv_as_a_link_to_the_esp(ext4: BootMachine) -> None:
    name = upgraded(ext4)
    target = ext4.root / "boot/efi/EFI/fedora/grubenv"
    target.parent.mkdir(parents=True)
    ext4.setting.rename(target)
    ext4.setting.symlink_to("../efi/EFI/fedora/grubenv")
    before = target.read_bytes()
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.setting.is_symlink()
    assert ext4.boots() == A
    done(ext4.root, "undo", "--yes")
    assert target.read_bytes() == before
    assert ext4.setting.is_symlink()


def test_a_damaged_grubenv(ext4: BootMachine) -> None:
    """GRUB passes over it and boots the first of its menu: the newest."""
    name = upgraded(ext4)
    ext4.setting.write_bytes(b"\0" * 1024)
    said = refused(ext4, "rollback", name, "--yes")
    assert "environment block is damaged" in said
    ext4.write_grubenv({})  # what the hint says
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.boots() == A


def test_grubenv_that_is_not_there(ext4: BootMachine) -> None:
    name = upgraded(ext4)
    ext4.setting.unlink()
    done(ext4.root, "rollback", name, "--yes")
    assert ext4.boots() == A
    done(ext4.root, "undo", "--yes")
    assert not ext4.setting.exists() or b"saved_entry" not in ext4.setting.read_bytes()


def forget_saved(boot: BootMachine) -> None:
    """Lose the saved boot files, as a store of an older version has none."""
    run("rm", "-r", str(boot.store() / "boot"))


def fill(boot: BootMachine) -> None:
    """Leave nothing free on the loader's filesystem, not a block."""
    for number in range(3):  # what ext4 holds back for delayed allocation comes free with a sync
        with (boot.place / f"filler{number}").open("wb", buffering=0) as file:
            for size_bytes in (65536, 512):
                with suppress(OSError):
                    while file.write(b"\xff" * size_bytes):
                        pass
        run("sync", "--file-system", str(boot.place))


def refused(boot: BootMachine, *words: str) -> str:
    """Run what has to be refused, prove that nothing was touched; returns what was said."""
    before = (state(boot.machine), manifest(boot.place))
    ended = fs_rollback(boot.root, *words)
    assert ended.code == 3, ended
    assert (state(boot.machine), manifest(boot.place)) == before
    assert ended.err.splitlines()[-1].startswith("  "), "there is a hint"
    return ended.err
