# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.convert.plan import edits
from fs_rollback.core.boot import ext4_options
from tests import mount_options

ANACONDA = """
#
# /etc/fstab
# Created by anaconda on Mon Nov 23 09:11:02 2026
#
UUID=5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d /                       ext4    defaults        1 1
UUID=0a0a6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d /boot                   ext4    defaults        1 2
UUID=ABCD-EF01          /boot/efi               vfat    umask=0077,shortname=winnt 0 2
"""


def test_of_anacondas_table_one_line_changes() -> None:
    before, after = ANACONDA.split("\n"), edits.btrfs_fstab(ANACONDA).split("\n")
    assert [(a, b) for a, b in zip(before, after) if a != b] == [
        (before[5], before[5].replace("ext4", "btrfs").replace("1 1", "1 0"))
    ]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("X / ext4 defaults 0 1\n", "X / btrfs defaults 0 0\n"),
        ("X / ext4 errors=remount-ro 0 1\n", "X / btrfs defaults 0 0\n"),
        ("X\t/\text4\tnoatime,errors=remount-ro\t0\t1\n", "X\t/\tbtrfs\tnoatime\t0\t0\n"),
        ("X / ext4 defaults,data=ordered,commit=30,discard 0 1",
         "X / btrfs defaults,commit=30,discard 0 0"),
        ("X / ext4 barrier=1,acl,user_xattr,x-systemd.device-timeout=0 1 1\n",
         "X / btrfs acl,x-systemd.device-timeout=0 1 0\n"),
        ("X / ext4\n", "X / btrfs\n"),
        ("X / ext4 relatime\n", "X / btrfs relatime\n"),
        ("X / ext4 relatime 0\n", "X / btrfs relatime 0\n"),
        ("X / auto relatime 0 1\r\nY /b ext4 defaults 0 2\r\n",
         "X / btrfs relatime 0 0\r\nY /b ext4 defaults 0 2\r\n"),
        (" X / ext4 defaults 0 1 # errors=remount-ro\n",
         " X / btrfs defaults 0 0 # errors=remount-ro\n"),
        ('X / ext4 context="a:b:c0,c1",bh,x-a="b,nobh" 0 1',
         'X / btrfs context="a:b:c0,c1",x-a="b,nobh" 0 0'),
        ("X / ext4 noatime,,discard, 0 1", "X / btrfs noatime,,discard, 0 0"),
        ("X / ext4 noatime,,bh 0 1", "X / btrfs noatime 0 0"),
        ("#X / ext4 defaults 0 1\nX / ext4 defaults 0 1",
         "#X / ext4 defaults 0 1\nX / btrfs defaults 0 0"),
    ],
)  # fmt: skip
def test_fstab(before: str, after: str) -> None:
    assert edits.btrfs_fstab(before) == after


@pytest.mark.parametrize("option", mount_options.EXT4)
def test_of_ext4s_options_those_stay_that_mean_the_same_to_btrfs(option: str) -> None:
    kept = option in mount_options.OF_BOTH
    options = f"noatime,{option}" if kept else "noatime"
    assert edits.btrfs_fstab(f"X / ext4 noatime,{option} 0 1") == f"X / btrfs {options} 0 0"
    line = edits.without_ext4(f"root=X rootflags=noatime,{option} ro")
    assert line == f"root=X rootflags={options} ro"


@pytest.mark.parametrize("option", mount_options.OF_ANY)
def test_options_of_no_filesystem_stay(option: str) -> None:
    written = option.replace(" ", "\\040")
    assert edits.btrfs_fstab(f"X / ext4 bh,{written} 0 1") == f"X / btrfs {written} 0 0"


@pytest.mark.parametrize("option", ["of_a_kernel_to_come", "_netdevice", "x", "ro=1", "Noatime"])
def test_what_is_not_known_to_mean_the_same_goes(option: str) -> None:
    assert edits.btrfs_fstab(f"X / ext4 {option} 0 1") == "X / btrfs defaults 0 0"


@pytest.mark.parametrize(
    "option",
    [*mount_options.OF_ANY, *mount_options.OF_BOTH, "barrier", "nobarrier", "subvol=root",
     "compress=zstd:1", "space_cache=v2", "of_a_kernel_to_come"],
)  # fmt: skip
def test_what_a_btrfs_may_have_keeps_it_not_off(option: str) -> None:
    assert not ext4_options.keeps_btrfs_off(option)


@pytest.mark.parametrize("option", ["errors=remount-ro", "data=ordered", "usrjquota=", "nobh"])
def test_well_known_options_of_ext4_keep_a_btrfs_off(option: str) -> None:
    assert ext4_options.keeps_btrfs_off(option)


@pytest.mark.parametrize("text", ["", "# X / ext4 defaults 0 1\n", "X /home ext4 defaults 0 1\n"])
def test_a_table_without_a_root(text: str) -> None:
    with pytest.raises(ValueError, match="no line for /"):
        edits.btrfs_fstab(text)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("root=UUID=x ro", "root=UUID=x ro"),
        ("root=UUID=x rootfstype=ext4 ro", "root=UUID=x ro"),
        ("root=UUID=x ro rootfstype=ext4", "root=UUID=x ro "),
        ("rootfstype=ext4,btrfs root=UUID=x", "rootfstype=btrfs root=UUID=x"),
        ("rootfstype=btrfs root=UUID=x", "rootfstype=btrfs root=UUID=x"),
        ("root=x rootflags=data=writeback,noatime quiet", "root=x rootflags=noatime quiet"),
        ("root=x rootflags=data=journal quiet", "root=x quiet"),
        ('root=x "rootflags=errors=remount-ro" a="b c"', 'root=x a="b c"'),
        ("root=x  rootflags=noatime,  y", "root=x  rootflags=noatime,  y"),
        ("root=x xrootfstype=ext4 $tuned_params", "root=x xrootfstype=ext4 $tuned_params"),
        ("", ""),
    ],
)
def test_command_line(before: str, after: str) -> None:
    assert edits.without_ext4(before) == after
    assert bool(edits.ext4_words(before)) == (before != after)
    assert edits.ext4_words(after) == []


def test_the_boot_that_converts_leaves_the_root_alone() -> None:
    line = "root=UUID=x ro rootfstype=ext4 quiet rhgb splash resume=UUID=y fsck.repair=yes"
    line += ' console=ttyS0 a="b c"'
    assert edits.for_conversion(line) == 'root=UUID=x ro console=ttyS0 "a=b c" fsck.mode=skip'


def test_default_grub_keeps_every_other_byte() -> None:
    text = (
        "GRUB_TIMEOUT=5\n# rootfstype=ext4\n"
        'GRUB_CMDLINE_LINUX="rootfstype=ext4 crashkernel=auto rhgb quiet"\n'
        "GRUB_CMDLINE_LINUX_DEFAULT='rootflags=data=journal'\nGRUB_DISABLE_RECOVERY=\"true\"\n"
    )
    other = 'export GRUB_CMDLINE_LINUX_RECOVERY+="rootfstype=ext4 single"\n'
    assert edits.default_grub(other) == other.replace("rootfstype=ext4 ", "")
    assert edits.default_grub(text) == text.replace(
        "rootfstype=ext4 crashkernel", "crashkernel"
    ).replace("rootflags=data=journal", "")
