# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.formats.fstab import escape, parse, root_entry, with_root_subvolume
from fs_rollback.core.formats.mountinfo import unescape

ANACONDA = """
#
# /etc/fstab
# Created by anaconda on Mon Nov 23 09:11:02 2026
#
# Accessible filesystems, by reference, are maintained under '/dev/disk/'.
#
UUID=5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d /                       btrfs   subvol=root,compress=zstd:1 0 0
UUID=0a0a6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d /boot                   ext4    defaults        1 2
UUID=ABCD-EF01          /boot/efi               vfat    umask=0077,shortname=winnt 0 2
UUID=5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d /home                   btrfs   subvol=home,compress=zstd:1 0 0
"""  # noqa: E501 - as it is written


def test_anaconda() -> None:
    entries = parse(ANACONDA)
    assert [entry.point for entry in entries] == ["/", "/boot", "/boot/efi", "/home"]
    root = root_entry(entries)
    assert root is not None
    assert (root.line, root.fstype) == (8, "btrfs")
    assert root.options == ("subvol=root", "compress=zstd:1")
    assert root.text.startswith("UUID=5b5b")


def test_only_the_one_option_changes() -> None:
    changed = with_root_subvolume(ANACONDA, "sys")
    assert changed == ANACONDA.replace("subvol=root,", "subvol=sys,")
    assert with_root_subvolume(changed, "root") == ANACONDA


@pytest.mark.parametrize(
    ("before", "subvolume", "after"),
    [
        ("X / btrfs subvol=a 0 0\n", "b", "X / btrfs subvol=b 0 0\n"),
        ("X / btrfs subvol=a 0 0", "b", "X / btrfs subvol=b 0 0"),
        ("UUID=1\t/\tbtrfs\tsubvol=a\t0\t0\n", "b", "UUID=1\t/\tbtrfs\tsubvol=b\t0\t0\n"),
        (" \tX / btrfs subvol=a\n", "b", " \tX / btrfs subvol=b\n"),
        ("X / btrfs subvol=a 0 0\r\n#x\r\n", "b", "X / btrfs subvol=b 0 0\r\n#x\r\n"),
        ("X / btrfs subvol=a\r\n", "b", "X / btrfs subvol=b\r\n"),
        ("X / btrfs ro,subvol=a,noatime 0 0\n", "b", "X / btrfs ro,subvol=b,noatime 0 0\n"),
        ("X / btrfs subvolid=256 0 0\n", "b", "X / btrfs subvol=b 0 0\n"),
        ("X / btrfs rw,subvolid=256,subvol=/@ 0 0\n", "@", "X / btrfs rw,subvol=@ 0 0\n"),
        ("X / btrfs rw,subvol=/@,ssd,subvolid=256 0 0\n", "@", "X / btrfs rw,subvol=@,ssd 0 0\n"),
        ("X / btrfs defaults 0 0\n", "b", "X / btrfs defaults,subvol=b 0 0\n"),
        ("X / btrfs subvol=a 0 0\n", None, "X / btrfs defaults 0 0\n"),
        ("X / btrfs subvol=a,noatime 0 0\n", None, "X / btrfs noatime 0 0\n"),
        ("X / btrfs defaults 0 0\n", None, "X / btrfs defaults 0 0\n"),
        ("X / btrfs subvol=a 0 0 # subvol=a\n", "b", "X / btrfs subvol=b 0 0 # subvol=a\n"),
        ("LABEL=subvol=a / btrfs subvol=a 0 0\n", "b", "LABEL=subvol=a / btrfs subvol=b 0 0\n"),
        ("X / btrfs x=subvol=a,subvol=a 0 0\n", "b", "X / btrfs x=subvol=a,subvol=b 0 0\n"),
        (r"X / btrfs x=\040y,subvol=a 0 0", "my root", r"X / btrfs x=\040y,subvol=my\040root 0 0"),
        ("L\xa0X / btrfs subvol=a 0 0\n", "b", "L\xa0X / btrfs subvol=b 0 0\n"),
        ("# \x0c\u2028\x85\nX / btrfs subvol=a\n", "b", "# \x0c\u2028\x85\nX / btrfs subvol=b\n"),
        ("# \udcff\nX / btrfs subvol=a\n\n\n", "b", "# \udcff\nX / btrfs subvol=b\n\n\n"),
        ("X / btrfs subvol=a \\1 \\g<0>\n", "\\1", "X / btrfs subvol=\\1341 \\1 \\g<0>\n"),
    ],
)  # fmt: skip
def test_every_other_byte_stays(before: str, subvolume: str | None, after: str) -> None:
    assert with_root_subvolume(before, subvolume) == after


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n\n",
        "# UUID=1 / btrfs subvol=a 0 0\n",
        "UUID=1 /home btrfs subvol=home 0 0\n",
        "UUID=1 / btrfs\n",  # fstab(5): options may be left out, and then there is nothing to mend
        "UUID=1 /\n",
        "\r\n",
    ],
)
def test_text_without_options_for_the_root_comes_back_as_it_is(text: str) -> None:
    assert with_root_subvolume(text, None) == text
    assert with_root_subvolume(text, "root") == text


def test_of_several_root_lines_the_first_counts() -> None:
    # systemd-fstab-generator: "Failed to create unit file, as it already exists. Duplicate entry?"
    text = "UUID=1 / btrfs subvol=a 0 0\nUUID=1 / btrfs subvol=b 0 0\n"
    root = root_entry(parse(text))
    assert root is not None
    assert root.line == 1
    assert with_root_subvolume(text, "c") == text.replace("subvol=a", "subvol=c")


def test_lines_with_three_fields_and_with_escapes() -> None:
    entries = parse("UUID=1 / btrfs\nLABEL=a\\040b /mnt/x\\011y btrfs subvol=my\\040home,ro 0 0\n")
    assert entries[0].options == ()
    assert (entries[1].spec, entries[1].point) == ("LABEL=a b", "/mnt/x\ty")
    assert entries[1].options == ("subvol=my home", "ro")


def test_a_carriage_return_belongs_to_no_option() -> None:
    entry = parse("UUID=1 / btrfs ro,subvol=root\r\n")[0]
    assert entry.options == ("ro", "subvol=root")
    assert "\r" not in entry.text


def test_a_slash_too_many_is_still_the_root() -> None:
    assert root_entry(parse("UUID=1 // btrfs defaults\n")) is not None
    assert parse("UUID=1 /home/ btrfs defaults\n")[0].point == "/home"
    assert root_entry(parse("UUID=1 none swap defaults\n")) is None


@pytest.mark.parametrize("path", ["", "root", "my root", "tab\tnew\nline\\", "\\040", "ä"])
def test_escape_is_what_unescape_takes_back(path: str) -> None:
    assert unescape(escape(path)) == path
    assert not set(escape(path)) & set(" \t\n")
