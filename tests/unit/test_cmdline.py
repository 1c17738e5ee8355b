# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.formats.cmdline import (
    file_with_root_subvolume,
    of_file,
    root_arguments,
    with_root_subvolume,
    words,
)


def test_fedora() -> None:
    line = (
        "BOOT_IMAGE=(hd0,gpt2)/vmlinuz-6.11.4-301.fc41.x86_64"
        " root=UUID=5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d ro rootflags=subvol=root rhgb quiet\n"
    )
    found = root_arguments(line)
    assert found.root == "UUID=5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d"
    assert found.flags == ("subvol=root",)


@pytest.mark.parametrize(
    ("line", "root", "flags"),
    [
        ("", "", ()),
        ("quiet", "", ()),
        ("root=/dev/vda1", "/dev/vda1", ()),
        ("root=/dev/vda1 root=UUID=1", "UUID=1", ()),
        ("xroot=/dev/vda1 rootfstype=btrfs rootwait", "", ()),
        ("rootflags=", "", ()),
        ("rootflags=,,ro,", "", ("ro",)),
        # systemd's fstab-generator joins them with a comma, and btrfs takes the last of a kind.
        ("rootflags=subvol=a rootflags=noatime", "", ("subvol=a", "noatime")),
        ("rootflags=subvol=a rootflags=subvol=b", "", ("subvol=a", "subvol=b")),
        ('rootflags="subvol=my root,ro" quiet', "", ("subvol=my root", "ro")),
        ('"rootflags=subvol=my root" quiet', "", ("subvol=my root",)),
        ('root="LABEL=my disk"', "LABEL=my disk", ()),
        ("\troot=UUID=1\t\tro\n", "UUID=1", ()),
        ('quiet "root=UUID=1', "UUID=1", ()),
    ],
)
def test_root_arguments(line: str, root: str, flags: tuple[str, ...]) -> None:
    found = root_arguments(line)
    assert (found.root, found.flags) == (root, flags)


def test_the_last_type_counts() -> None:
    assert root_arguments("root=UUID=1 rootfstype=ext4 rootfstype=btrfs,ext4").fstypes == (
        "btrfs",
        "ext4",
    )
    assert root_arguments("root=UUID=1 rootfstype=").fstypes == ()


def test_a_quoted_argument_inside_another_is_none() -> None:
    # dyndbg="file x root=y": the kernel sees one argument here.
    assert (
        root_arguments('dyndbg="file x root=/dev/vdb rootflags=subvol=x" root=UUID=1').root
        == "UUID=1"
    )
    assert words('a="b c" d "" e') == ["a=b c", "d", "e"]


NEW = "fs-snapshots/x"


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("root=UUID=1 ro rootflags=subvol=root rhgb", "root=UUID=1 ro rootflags=subvol={} rhgb"),
        ("rootflags=subvol=root,compress=zstd ro", "rootflags=subvol={},compress=zstd ro"),
        ("rootflags=noatime,subvolid=256,ssd", "rootflags=noatime,subvol={},ssd"),
        ("rootflags=subvolid=5,ssd,subvol=/root", "rootflags=subvol={},ssd"),
        ("rootflags=noatime", "rootflags=noatime,subvol={}"),
        ("rootflags=", "rootflags=subvol={}"),
        ("root=UUID=1 ro", "root=UUID=1 rootflags=subvol={} ro"),
        ("root=/dev/a root=UUID=1 ro", "root=/dev/a root=UUID=1 rootflags=subvol={} ro"),
        ('root="LABEL=my disk" ro', 'root="LABEL=my disk" rootflags=subvol={} ro'),
        ("root=UUID=1", "root=UUID=1 rootflags=subvol={}"),
        ("", "rootflags=subvol={}"),
        # GRUB puts in what $kernelopts holds; the last rootflags= counts, and btrfs' last subvol=.
        ("$kernelopts $tuned_params", "$kernelopts $tuned_params rootflags=subvol={}"),
        ("ro  quiet\t", "ro  quiet rootflags=subvol={}\t"),
        # Whoever joins them and whoever takes the last has to find it once.
        ("rootflags=subvol=a  rootflags=ssd ro", "rootflags=ssd,subvol={} ro"),
        ("ro rootflags=ssd,subvol=a rootflags=subvol=b", "ro rootflags=ssd rootflags=subvol={}"),
        ("a\trootflags=subvol=a \t root=1", "a\trootflags=subvol={} \t root=1"),
        ('rootflags="subvol=my root,ro" x', "rootflags=subvol={},ro x"),
        ('"rootflags=subvol=my root" x', "rootflags=subvol={} x"),
        ('a="x rootflags=subvol=b" root=1', 'a="x rootflags=subvol=b" root=1 rootflags=subvol={}'),
        ("xrootflags=subvol=b root=1", "xrootflags=subvol=b root=1 rootflags=subvol={}"),
    ],
)
def test_with_root_subvolume(line: str, changed: str) -> None:
    assert with_root_subvolume(line, NEW) == changed.format(NEW)
    assert with_root_subvolume(changed.format(NEW), NEW) == changed.format(NEW)
    flags = root_arguments(with_root_subvolume(line, NEW)).flags
    assert [flag for flag in flags if "subvol" in flag] == [f"subvol={NEW}"]


def test_a_subvolume_with_blanks_is_quoted() -> None:
    line = with_root_subvolume("root=UUID=1 ro", "my root")
    assert line == 'root=UUID=1 "rootflags=subvol=my root" ro'
    assert root_arguments(line).flags == ("subvol=my root",)


@pytest.mark.parametrize("subvolume", ["", 'a"b', "a,b", "a\nb", "$a", "a\\b"])
def test_what_no_command_line_can_hold(subvolume: str) -> None:
    with pytest.raises(ValueError, match="cannot be written into a kernel command line"):
        with_root_subvolume("root=UUID=1", subvolume)


@pytest.mark.parametrize(
    ("line", "changed"),
    [
        ("root=UUID=1 rootflags=subvol=a quiet", "root=UUID=1 quiet"),
        (
            "root=UUID=1 rootflags=ro,subvolid=0x5,compress=no",
            "root=UUID=1 rootflags=ro,compress=no",
        ),
        ("root=UUID=1 rootflags=subvol=a rootflags=noatime", "root=UUID=1 rootflags=noatime"),
        ("root=UUID=1 ro", "root=UUID=1 ro"),
    ],
)
def test_the_choice_is_left_to_the_default_subvolume(line: str, changed: str) -> None:
    assert with_root_subvolume(line, None) == changed


def test_a_file_with_comments_and_several_lines() -> None:
    text = "# root=UUID=0 rootflags=subvol=old\nroot=UUID=1 ro\n  # more\nrootflags=subvol=a\n"
    assert words(of_file(text)) == ["root=UUID=1", "ro", "rootflags=subvol=a"]
    changed = file_with_root_subvolume(text, "b")
    assert changed.splitlines()[:2] == ["# root=UUID=0 rootflags=subvol=old", "  # more"]
    assert words(of_file(changed)) == ["root=UUID=1", "ro", "rootflags=subvol=b"]
    assert changed.endswith("subvol=b\n")
    assert (
        file_with_root_subvolume("root=UUID=1 ro\n", "b") == "root=UUID=1 rootflags=subvol=b ro\n"
    )
    assert file_with_root_subvolume("root=UUID=1 ro", None) == "root=UUID=1 ro"
