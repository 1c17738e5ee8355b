# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.cmdline import root_arguments, words


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


def test_a_quoted_argument_inside_another_is_none() -> None:
    # dyndbg="file x root=y": the kernel sees one argument here.
    assert (
        root_arguments('dyndbg="file x root=/dev/vdb rootflags=subvol=x" root=UUID=1').root
        == "UUID=1"
    )
    assert words('a="b c" d "" e') == ["a=b c", "d", "e"]
