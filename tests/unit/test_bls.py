# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.bls import parse

FEDORA = """\
title Fedora Linux (6.11.4-301.fc41.x86_64) 41 (Workstation Edition)
version 6.11.4-301.fc41.x86_64
linux /vmlinuz-6.11.4-301.fc41.x86_64
initrd /initramfs-6.11.4-301.fc41.x86_64.img $tuned_initrd
options root=UUID=5b5b6f0c ro rootflags=subvol=root rhgb quiet $tuned_params
grub_users $grub_users
grub_arg --unrestricted
grub_class fedora
"""


def test_fedora() -> None:
    entry = parse("/boot/loader/entries/a.conf", FEDORA)
    assert entry.file == "/boot/loader/entries/a.conf"
    assert entry.title == "Fedora Linux (6.11.4-301.fc41.x86_64) 41 (Workstation Edition)"
    assert entry.version == "6.11.4-301.fc41.x86_64"
    assert entry.linux == "/vmlinuz-6.11.4-301.fc41.x86_64"
    assert entry.options == "root=UUID=5b5b6f0c ro rootflags=subvol=root rhgb quiet $tuned_params"


@pytest.mark.parametrize("separator", [" ", "\t", "    ", "\t\t", " \t"])
def test_any_blanks_separate_key_and_value(separator: str) -> None:
    # kernel-install aligns with blanks; the specification allows tabs as well.
    text = f"title{separator}A B\nlinux{separator}/vmlinuz\noptions{separator}root=UUID=1 ro\n"
    entry = parse("x", text)
    assert (entry.title, entry.linux, entry.options) == ("A B", "/vmlinuz", "root=UUID=1 ro")


def test_several_options_lines_are_one_command_line() -> None:
    entry = parse(
        "x", "options root=UUID=1\n#options root=UUID=2\noptions\nversion 6\noptions ro  x\n"
    )
    assert entry.options.split() == ["root=UUID=1", "ro", "x"]


def test_comments_blank_lines_and_line_ends() -> None:
    text = "# title no\n\n   \n  title   yes  \r\n#\n\tversion\t6\r\nversionx 7"
    entry = parse("x", text)
    assert (entry.title, entry.version, entry.linux) == ("yes", "6", "")


@pytest.mark.parametrize("text", ["", "\n", "title", "title \n", "#", "\x00", "\udcff \udcff\n"])
def test_what_says_nothing(text: str) -> None:
    assert parse("x", text)[1:] == ("", "", "", "")


def test_odd_characters_end_no_line() -> None:
    assert parse("x", "title a\u2028b\x0cc\noptions ro\n").title == "a\u2028b\x0cc"
