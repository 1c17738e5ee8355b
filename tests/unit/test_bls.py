# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

from typing import Optional

import pytest

from fs_rollback.core.formats.bls import BootEntry, parse, rewrite

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
    entry = parse("x", text)
    assert entry == BootEntry("x", "", "", "", "", text=text)
    assert entry.files == ()


def test_odd_characters_end_no_line() -> None:
    assert parse("x", "title a\u2028b\x0cc\noptions ro\n").title == "a\u2028b\x0cc"


def test_what_the_loader_reads() -> None:
    entry = parse("x", FEDORA)
    assert entry.initrd == ("/initramfs-6.11.4-301.fc41.x86_64.img", "$tuned_initrd")
    assert entry.files == (
        "/vmlinuz-6.11.4-301.fc41.x86_64",
        "/initramfs-6.11.4-301.fc41.x86_64.img",
    )
    several = parse("x", "initrd /ucode.img\ninitrd /a/initrd  /b/initrd\ninitrd $early\n")
    assert several.files == ("/ucode.img", "/a/initrd", "/b/initrd")
    assert parse("x", FEDORA).text == FEDORA


def test_the_keys_that_systemd_boot_sorts_by() -> None:
    entry = parse("x", "sort-key fedora\nmachine-id 0fb2\nversion 6\n")
    assert (entry.sort_key, entry.machine_id, entry.version) == ("fedora", "0fb2", "6")
    # It keeps the last value it reads.
    assert parse("x", "sort-key a\nsort-key b\n").sort_key == "b"


@pytest.mark.parametrize(
    ("file", "name", "id_", "tries_left"),
    [
        ("/boot/loader/entries/a-6.11.conf", "a-6.11", "a-6.11", None),
        ("a.conf", "a", "a", None),
        ("A.CONF", "A", "A", None),
        # The examples of UAPI.1's chapter on boot counting.
        ("foobar+3.conf", "foobar+3", "foobar", 3),
        ("foobar+2-1.conf", "foobar+2-1", "foobar", 2),
        ("foobar+0-3.conf", "foobar+0-3", "foobar", 0),
        # Kernels built from a changed tree are called "+".
        ("a-6.13.0-rc1+.conf", "a-6.13.0-rc1+", "a-6.13.0-rc1+", None),
        ("a-6.13.0-rc1++3.conf", "a-6.13.0-rc1++3", "a-6.13.0-rc1+", 3),
        ("a+3-x.conf", "a+3-x", "a+3-x", None),
        ("a+3-.conf", "a+3-", "a+3-", None),
    ],
)
def test_names(file: str, name: str, id_: str, tries_left: Optional[int]) -> None:
    entry = parse(file, "")
    assert (entry.name, entry.id, entry.tries_left) == (name, id_, tries_left)


def test_rewrite_changes_only_what_it_is_told() -> None:
    changed = rewrite(
        FEDORA, {"title": "before dnf upgrade", "options": "root=UUID=1 ro", "version": None}
    )
    lines = FEDORA.splitlines(keepends=True)
    assert changed.splitlines(keepends=True) == [
        "title before dnf upgrade\n",
        *lines[2:4],
        "options root=UUID=1 ro\n",
        *lines[5:],
    ]
    assert rewrite(FEDORA, {}) == FEDORA


@pytest.mark.parametrize(
    ("text", "key", "value", "changed"),
    [
        ("title  \ta\n", "title", "b", "title  \tb\n"),
        ("\t title a\r\nx y\r\n", "title", "b", "\t title b\r\nx y\r\n"),
        ("options a\n# options\noptions b\nx y\n", "options", "c", "options c\n# options\nx y\n"),
        ("options a\noptions b\nx y\n", "options", None, "x y\n"),
        ("#title a\nx y\n", "title", "b", "#title a\nx y\ntitle b\n"),
        ("titles a\n", "title", "b", "titles a\ntitle b\n"),
        ("title a", "title", "b", "title b\n"),
        ("x y", "title", "b", "x y\ntitle b\n"),
        ("x y", "title", None, "x y\n"),
        ("", "title", "b", "title b\n"),
        ("options\n", "options", "a", "options a\n"),
        ("x a\u2028title b\n", "title", "c", "x a\u2028title b\ntitle c\n"),
        ("title \udcff\nx \udcfe\n", "title", "b", "title b\nx \udcfe\n"),
    ],
)
def test_rewrite(text: str, key: str, value: Optional[str], changed: str) -> None:
    assert rewrite(text, {key: value}) == changed


@pytest.mark.parametrize("end", ["\n", "\n\n", "\n \nversion 6\n", "\noptions\nversion 6\n"])
def test_what_is_added_is_where_grub_still_reads(end: str) -> None:
    # GRUB's blscfg stops at an empty line and at a key without a value.
    text = f"title a\n# b\nlinux /c{end}"
    changed = rewrite(text, {"grub_class": "fedora"})
    assert changed == f"title a\n# b\nlinux /c\ngrub_class fedora{end}"


@pytest.mark.parametrize("value", ["", " ", "a\nlinux /b", "a\rb"])
def test_a_value_is_one_line(value: str) -> None:
    with pytest.raises(ValueError, match="cannot be the value of title"):
        rewrite(FEDORA, {"title": value})


def test_what_was_rewritten_is_read_again() -> None:
    values = {"title": "b  c", "options": "ro $x", "linux": "/k", "sort-key": "z"}
    entry = parse("x", rewrite(FEDORA, values))
    assert (entry.title, entry.options, entry.linux, entry.sort_key) == tuple(values.values())
    assert entry.initrd == parse("x", FEDORA).initrd
