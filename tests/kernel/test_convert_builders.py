# SPDX-License-Identifier: GPL-2.0-or-later
"""What `convert prepare` makes of a machine's boot loader, and of what makes its initramfs."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from fs_rollback.convert.machine import machine as machines
from fs_rollback.convert.prepare import prepare_machine
from tests.kernel.commands import fs_rollback
from tests.kernel.ext4_images import NEW, OLD, UUID, Tools, add_kernel, archive, write
from tests.kernel.ext4_prepared import EDITED, ENTRY, Ext4Root, write_tools
from tests.kernel.machine import GRUB_CFG, run


def _refused(ext4_root: Ext4Root, *parts: str) -> None:
    before = ext4_root.manifest()
    words = ("convert", "prepare", "--at-next-boot", "--yes", "--have-backup")
    done = fs_rollback(ext4_root.root, *words)
    assert (done.code, done.out) == (3, ""), done
    assert len(done.err.splitlines()) == 2
    for part in parts:
        assert part in done.err
    assert ext4_root.manifest() == before


def test_the_entry_that_converts_is_never_the_default(ext4_root: Ext4Root) -> None:
    grubenv = ext4_root.root / "boot/grub2/grubenv"
    said = grubenv.read_text()
    text = said.replace(f"abc-{OLD}", "A-fs-convert") + "#" * (len(OLD) + 4 - 12)
    grubenv.write_text(text[:1024])
    _refused(ext4_root, "A-fs-convert.conf, would become the default", "grub2-set-default")
    for value in (f"abc-{NEW}", "0", "nothing-of-the-kind"):
        text = f"# GRUB Environment Block\nsaved_entry={value}\n"
        grubenv.write_text(text + "#" * (1024 - len(text)))
        ext4_root.prepare()
        entry = next((ext4_root.root / "boot/loader/entries").glob("*convert*"))
        # The menu is by name, the newest first: it is the last of it.
        assert sorted(p.name for p in entry.parent.iterdir())[0] == entry.name
        ext4_root.abort()


def test_at_next_boot_is_refused(ext4_root: Ext4Root) -> None:
    entries = ext4_root.root / "boot/loader/entries"
    kept = {path: path.read_text() for path in entries.iterdir()}
    for path in kept:
        path.unlink()
    _refused(ext4_root, "the default boot entry has no kernel with btrfs", "rescue system")
    for path, text in kept.items():
        path.write_text(text)
    (ext4_root.root / f"boot/initramfs-{OLD}.img.before-btrfs").write_text("somebody's")
    _refused(ext4_root, f"/boot/initramfs-{OLD}.img.before-btrfs already exists", "move it away")


def test_with_initramfs_tools(
    ext4_root: Ext4Root,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_tools(tmp_path / "others", Tools(builder=""))
    for name, script in {
        "update-initramfs": "exit 1",
        "mkinitramfs": f'[ "$1" = -o ] && cat {tmp_path}/others/archives/usual-$3 > "$2"',
    }.items():
        write(tmp_path / "others", name, f"#!/bin/sh\n{script}\n")
        (tmp_path / "others" / name).chmod(0o755)
    (ext4_root.tools / "dracut").unlink()
    monkeypatch.setenv("PATH", f"{tmp_path}/others:{os.environ['PATH']}")
    _refused(ext4_root, "only dracut can build an initramfs that converts", "rescue system")
    (ext4_root.root / "etc/initramfs-tools/hooks").mkdir(parents=True)
    ext4_root.before = ext4_root.manifest()
    ext4_root.prepare(at_next_boot=False)
    hook = ext4_root.root / "etc/initramfs-tools/hooks/fs-rollback"
    assert hook.stat().st_mode & 0o7777 == 0o755
    assert run(str(hook), "prereqs") == ""
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


def test_btrfs_in_the_kernel_itself(
    ext4_root: Ext4Root,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No image has a module of it, and none is made anew but the one that converts."""
    root = ext4_root.root
    for version in (OLD, NEW):
        add_kernel(root, version, btrfs=False, in_initramfs=False)
        built_in = f"usr/lib/modules/{version}/modules.builtin"
        write(root, built_in, "kernel/fs/btrfs/btrfs.ko\n")
    monkeypatch.setenv("DRACUT_THEN", "kind=without")
    proposal = ext4_root.prepare()
    assert [type(step).__name__ for step in proposal.preparation.steps][-3:] == [
        "MakeConverter", "WriteFile", "BootOnce",
    ]  # fmt: skip
    assert len(ext4_root.dracut_calls()) == 1


def _name_no_initramfs(root: Path, version: str) -> None:
    entry = root / f"boot/loader/entries/abc-{version}.conf"
    lines = entry.read_text().splitlines(keepends=True)
    entry.write_text("".join(line for line in lines if not line.startswith("initrd")))


def test_without_an_initramfs(ext4_root: Ext4Root) -> None:
    """A kernel that starts without one: the one that converts lies beside the kernel."""
    root = ext4_root.root
    for version in (OLD, NEW):
        (root / f"boot/initramfs-{version}.img").unlink()
        _name_no_initramfs(root, version)
        built_in = f"usr/lib/modules/{version}/modules.builtin"
        write(root, built_in, "kernel/fs/btrfs/btrfs.ko\n")
    ext4_root.prepare()
    assert (root / "boot/initramfs-fs-rollback-convert.img").is_file()
    text = (root / "boot/loader/entries/A-fs-convert.conf").read_text()
    assert "initrd /boot/initramfs-fs-rollback-convert.img\n" in text


def test_grub_cannot_be_told(ext4_root: Ext4Root) -> None:
    write(ext4_root.root, "boot/grub2/grub.cfg", "set default=0\nblscfg\n")
    ext4_root.before = ext4_root.manifest()
    words = ("convert", "prepare", "--at-next-boot", "--yes", "--have-backup")
    done = fs_rollback(ext4_root.root, *words)
    assert done.code == 0, done
    warning, _, plan = done.out.partition("This is done")
    assert "Warning: cannot set the next boot: unknown boot loader" in warning
    assert "For the next boot only" not in plan
    assert "Cannot set the next boot: unknown boot loader" in plan
    assert done.out.endswith(
        "choose this in the boot menu: Convert the root to btrfs (fs-rollback), once\n"
    )
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


def test_one_at_a_time(ext4_root: Ext4Root) -> None:
    with machines.opened(str(ext4_root.root)) as found, prepare_machine.locked(found):
        words = ("--yes", "--have-backup")
        done = fs_rollback(ext4_root.root, "convert", "prepare", *words)
    assert done.code == 1
    assert done.sentence.startswith("another process is preparing this machine")
    ext4_root.expect_as_before()


@pytest.mark.parametrize(
    "lines",
    [
        "initrd /boot/intel-ucode.img\ninitrd /boot/initramfs-{}.img\n",
        "initrd /boot/intel-ucode.img /boot/initramfs-{}.img $tuned_initrd\n",
        "initrd $tuned_initrd /boot/initramfs-{}.img /boot/intel-ucode.img\n",
    ],
)
def test_microcode_is_left_alone(ext4_root: Ext4Root, lines: str) -> None:
    root = ext4_root.root
    write(root, "boot/intel-ucode.img", archive(["kernel/x86/microcode/GenuineIntel.bin"]))
    for version in (OLD, NEW):
        entry = root / f"boot/loader/entries/abc-{version}.conf"
        old = f"initrd /boot/initramfs-{version}.img\n"
        entry.write_text(entry.read_text().replace(old, lines.format(version)))
    ext4_root.before = ext4_root.manifest()
    ext4_root.prepare()
    assert "boot/intel-ucode.img" not in ext4_root.changed()
    for version in (OLD, NEW):
        made = (ext4_root.tools / f"archives/usual-{version}").read_bytes()
        assert (root / f"boot/initramfs-{version}.img").read_bytes() == made
    text = (root / "boot/loader/entries/A-fs-convert.conf").read_text()
    assert "initrd /boot/initramfs-fs-rollback-convert.img\n" in text
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


def test_an_initramfs_that_two_kernels_share(ext4_root: Ext4Root) -> None:
    root = ext4_root.root
    (root / "boot/initrd").symlink_to(f"initramfs-{NEW}.img")
    entry = root / ENTRY
    entry.write_text(entry.read_text().replace(f"initramfs-{OLD}.img", "initrd"))
    _refused(ext4_root, f"/boot/initramfs-{NEW}.img is shared by several kernels: {OLD}, {NEW}")


def _add_entry(root: Path, name: str, *changes: tuple[str, str]) -> None:
    """Add an entry like that of the newer kernel, with changes."""
    text = (root / f"boot/loader/entries/abc-{NEW}.conf").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    write(root, f"boot/loader/entries/{name}.conf", text)


def _choose(root: Path, name: str) -> None:
    text = f"# GRUB Environment Block\nsaved_entry={name}\n"
    write(root, "boot/grub2/grubenv", text + "#" * (1024 - len(text)))


def test_each_initramfs_that_an_entry_names(ext4_root: Ext4Root) -> None:
    """Two entries of one kernel, the default one with an initramfs of its own."""
    root = ext4_root.root
    own = f"boot/initramfs-{NEW}-custom.img"
    write(root, own, (root / f"boot/initramfs-{NEW}.img").read_bytes())
    _add_entry(root, f"abc-{NEW}~custom", (f"initramfs-{NEW}.img", f"initramfs-{NEW}-custom.img"))
    _add_entry(root, f"abc-{NEW}~recovery", ("ro quiet", "ro single"))
    _choose(root, f"abc-{NEW}~custom")
    ext4_root.before = ext4_root.manifest()
    points = fs_rollback(root, "convert", "check", "--json").json["points"]
    said = [point["text"] for point in points if point["name"] == "initramfs"]
    assert said == [
        f"/boot/initramfs-{OLD}.img has no btrfs yet",
        f"/{own} has no btrfs yet",
        f"/boot/initramfs-{NEW}.img has no btrfs yet",
    ]
    ext4_root.prepare()
    made = (ext4_root.tools / f"archives/usual-{NEW}").read_bytes()
    for path in (own, f"boot/initramfs-{NEW}.img"):
        assert (root / path).read_bytes() == made
        assert (root / f"{path}.before-btrfs").exists()
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)


def test_an_initramfs_whose_kernel_is_not_known(ext4_root: Ext4Root) -> None:
    root = ext4_root.root
    write(root, "boot/initramfs-0-rescue-abc.img", archive(["init"]))
    _add_entry(root, "abc-0-rescue", (NEW, "0-rescue-abc"))
    ext4_root.before = ext4_root.manifest()
    done = fs_rollback(root, "convert", "check", "--json", "--have-backup")
    assert "/boot/initramfs-0-rescue-abc.img has no btrfs, and its kernel is unknown" in done.out
    ext4_root.prepare()
    assert "boot/initramfs-0-rescue-abc.img" not in ext4_root.changed()
    ext4_root.abort()
    _choose(root, "abc-0-rescue")
    _refused(
        ext4_root, "-rescue-abc.img, which the default entry uses, has no btrfs", "the default"
    )


def test_a_kernel_without_an_initramfs(ext4_root: Ext4Root) -> None:
    """It cannot start a btrfs: as one of several it is told, as the default refused."""
    root = ext4_root.root
    _name_no_initramfs(root, NEW)
    (root / f"boot/initramfs-{NEW}.img").rename(root / "kept")
    words = ("convert", "prepare", "--dry-run", "--json", "--have-backup")
    (warning,) = fs_rollback(root, *words).json["warnings"]
    assert warning.startswith(
        f"{NEW} has no initramfs, neither in its boot entry nor by name in /boot. "
    )
    (root / "kept").rename(root / f"boot/initramfs-{NEW}.img")
    assert fs_rollback(root, *words).json["warnings"] == []
    _choose(root, f"abc-{NEW}")  # which does not name the one that is there by name
    _refused(ext4_root, f"initramfs: {NEW} has no initramfs", "dracut(8)")


def _set_options(root: Path, options: str) -> None:
    for version in (OLD, NEW):
        entry = root / f"boot/loader/entries/abc-{version}.conf"
        entry.write_text(re.sub("options .*", f"options {options}", entry.read_text()))


def test_words_of_ext4_in_grubenv(ext4_root: Ext4Root) -> None:
    root = ext4_root.root
    _set_options(root, "$kernelopts $tuned_params")
    file = "/boot/grub2/grubenv"
    line = f"root=UUID={UUID} ro rootfstype=ext4 rootflags=data=ordered,noatime quiet"
    text = f"# GRUB Environment Block\nsaved_entry=abc-{OLD}\nkernelopts={line}\n"
    write(root, file[1:], text + "#" * (1024 - len(text)))
    kept = f"root=UUID={UUID} ro rootflags=noatime quiet"
    _refused(
        ext4_root,
        f"{file} has options that only ext4 knows: rootfstype=ext4 rootflags=data=ordered,noatime",
        f"grub2-editenv {file} set 'kernelopts={kept}'",
    )
    write(root, file[1:], (text.replace(line, kept) + "#" * 1024)[:1024])
    ext4_root.prepare(at_next_boot=False)


def test_words_of_ext4_beside_a_variable(ext4_root: Ext4Root) -> None:
    _set_options(ext4_root.root, "$kernelopts rootfstype=ext4 rootflags=data=ordered quiet")
    ext4_root.before = ext4_root.manifest()
    ext4_root.prepare(at_next_boot=False)
    for version in (OLD, NEW):
        text = ext4_root.read(f"boot/loader/entries/abc-{version}.conf")
        assert "\noptions $kernelopts quiet\n" in text
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED, f"boot/loader/entries/abc-{NEW}.conf")


_MENU = """\
menuentry 'Linux' {{
    insmod ext2
\tlinux\t/boot/vmlinuz-{old} root=UUID={uuid} ro rootflags=data=journal quiet
\tinitrd\t/boot/initramfs-{old}.img
}}
menuentry 'Another one' {{
    linux /boot/vmlinuz root=UUID=0a0a6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d rootfstype=ext4
}}
"""


@pytest.mark.parametrize("folder", ["grub2", "grub"])
def test_words_of_ext4_in_a_menu_of_grub(ext4_root: Ext4Root, folder: str) -> None:
    """Of a GRUB that reads no boot entries; those of another system are none of ours."""
    root = ext4_root.root
    run("rm", "-r", str(root / "boot/loader"), str(root / "boot/grub2"))
    menu = _MENU.format(old=OLD, uuid=UUID)
    write(root, f"boot/{folder}/grub.cfg", menu)
    words = ("convert", "prepare", "--yes", "--have-backup")
    fs_rollback(root, *words).expect_refusal(
        f"command line: /boot/{folder}/grub.cfg has options that only ext4 knows:"
        " rootflags=data=journal",
        f"/etc/default/grub, then: {folder}-mkconfig -o /boot/{folder}/grub.cfg",
    )
    write(root, f"boot/{folder}/grub.cfg", menu.replace(" rootflags=data=journal", ""))
    done = fs_rollback(root, *words)
    assert done.code == 0, done


def test_the_options_that_an_older_grub_sets_itself(ext4_root: Ext4Root) -> None:
    root = ext4_root.root
    _set_options(root, "$kernelopts")
    line = f'  set kernelopts="root=UUID={UUID} ro rootfstype=ext4 "\n'
    write(root, "boot/grub2/grub.cfg", f'{GRUB_CFG}if [ -z "${{kernelopts}}" ]; then\n{line}fi\n')
    _refused(ext4_root, "/boot/grub2/grub.cfg has options that only ext4 knows: rootfstype=ext4")


def test_dracut_is_told_which_root(ext4_root: Ext4Root) -> None:
    """Without that it would take the files of the system that runs it, and its hardware."""
    ext4_root.prepare()
    told = f"--force --quiet --sysroot {ext4_root.root} --no-hostonly "
    calls = [call.replace(" --add fs-rollback", "") for call in ext4_root.dracut_calls()]
    assert len(calls) == 3
    assert all(call.startswith(told) for call in calls), calls


@pytest.mark.parametrize("options", ["$kernelopts quiet", "ro quiet"])
def test_an_entry_that_names_no_root(ext4_root: Ext4Root, options: str) -> None:
    """The one that converts would be made of it, and not find the root."""
    root = ext4_root.root
    _set_options(root, options)
    _refused(
        ext4_root,
        f"has no root=, or only in an unknown variable: /{ENTRY}",
        f"Write root=UUID={UUID} into its options",
    )
    text = f"# GRUB Environment Block\nsaved_entry=abc-{OLD}\nkernelopts=root=UUID={UUID} ro\n"
    write(root, "boot/grub2/grubenv", text + "#" * (1024 - len(text)))
    if options.startswith("$"):
        ext4_root.prepare()
        made = ext4_root.read("boot/loader/entries/A-fs-convert.conf")
        assert f"\noptions root=UUID={UUID} ro fsck.mode=skip fs-rollback.convert=" in made


@pytest.mark.parametrize("path", ["etc/dracut.conf.d", "etc/kernel", "fs-snapshots"])
def test_nothing_is_written_outside_of_the_root(
    ext4_root: Ext4Root, tmp_path: Path, path: str
) -> None:
    """The link leads to a directory of that root; from here to one of the running system."""
    outside, place = tmp_path / "outside", ext4_root.root / path
    outside.mkdir()
    inside = ext4_root.root / str(outside).lstrip("/")
    inside.mkdir(parents=True)
    if place.exists():
        for file in place.iterdir():
            file.rename(inside / file.name)
        place.rmdir()
    place.symlink_to(outside)
    ext4_root.before = ext4_root.manifest()
    _refused(ext4_root, f"of {ext4_root.root} leads outside of it, to {outside}", "chroot(1)")
    assert list(outside.iterdir()) == []
    if path == "fs-snapshots":  # no link at all on a btrfs
        return
    place.unlink()
    place.symlink_to(os.path.relpath(inside, place.parent))
    ext4_root.prepare()
    ext4_root.abort()
    assert list(outside.iterdir()) == []
