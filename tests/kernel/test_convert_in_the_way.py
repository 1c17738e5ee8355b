# SPDX-License-Identifier: GPL-2.0-or-later
"""What somebody has on the machine already, where a preparation would write or cannot."""

from __future__ import annotations

import pytest

from tests.kernel.commands import fs_rollback
from tests.kernel.ext4_images import write
from tests.kernel.ext4_prepared import EDITED, ENTRY, Ext4Root

_PREPARE = ("convert", "prepare", "--at-next-boot", "--yes", "--have-backup")


def _refused(machine: Ext4Root, *parts: str) -> None:
    before = machine.manifest()
    done = fs_rollback(machine.root, *_PREPARE)
    assert done.code == 3, done
    for part in parts:
        assert part in done.err
    assert machine.manifest() == before


@pytest.mark.parametrize(
    "path",
    ["boot/loader/entries/A-fs-convert.conf", "boot/initramfs-fs-rollback-convert.img"],
)
def test_a_file_that_has_our_name(ext4_root: Ext4Root, path: str) -> None:
    write(ext4_root.root, path, "title Somebody's\nlinux /boot/other\n")
    _refused(ext4_root, f"/{path} already exists", "move it away")


def test_a_store_that_is_a_link(ext4_root: Ext4Root) -> None:
    (ext4_root.root / "srv/store").mkdir()
    (ext4_root.root / "fs-snapshots").symlink_to("srv/store")
    _refused(ext4_root, "/fs-snapshots is not a directory", "not a link")


@pytest.mark.parametrize("path", ["etc/default/grub", ENTRY])
def test_a_link_to_what_would_be_changed(ext4_root: Ext4Root, path: str) -> None:
    file = ext4_root.root / path
    if not file.exists():
        write(ext4_root.root, path, 'GRUB_CMDLINE_LINUX="rootfstype=ext4"\n')
    file.rename(file.with_suffix(".kept"))
    file.symlink_to(file.with_suffix(".kept").name)
    _refused(ext4_root, f"/{path} is a link", "Remove rootfstype=ext4")


@pytest.mark.parametrize(
    ("path", "text", "part"),
    [
        ("etc/default/grub", "GRUB_CMDLINE_LINUX=rootfstype=ext4\n", "rootfstype=ext4"),
        ("etc/default/grub", 'GRUB_CMDLINE_LINUX="a=\\"b\\" rootflags=data=journal"\n', "=journal"),
        ("etc/default/grub.d/50.cfg", 'GRUB_CMDLINE_LINUX="rootfstype=ext4"\n', "rootfstype=ext4"),
        ("usr/lib/kernel/cmdline", "root=/dev/sda1 rootfstype=ext4\n", "rootfstype=ext4"),
    ],
)
def test_words_of_ext4_in_what_makes_entries(
    ext4_root: Ext4Root, path: str, text: str, part: str
) -> None:
    (ext4_root.root / "etc/kernel/cmdline").unlink()
    write(ext4_root.root, path, text)
    _refused(
        ext4_root, f"command line: /{path} has options that only ext4 knows", part, "remove it"
    )
    write(ext4_root.root, path, f"# {text}")
    done = fs_rollback(ext4_root.root, *_PREPARE)
    assert done.code == 0, done


def test_an_environment_block_without_room(ext4_root: Ext4Root) -> None:
    """The next boot is chosen in the menu then."""
    block = ext4_root.root / "boot/grub2/grubenv"
    text = block.read_text().rstrip("#")
    block.write_text(f"{text}x={'y' * (1024 - len(text) - 4)}\n#")
    ext4_root.before = ext4_root.manifest()
    done = fs_rollback(ext4_root.root, *_PREPARE)
    assert done.code == 0, done
    assert "Cannot set the next boot: the boot loader's next_entry" in done.out
    ext4_root.abort()
    ext4_root.expect_as_before(*EDITED)
