# SPDX-License-Identifier: GPL-2.0-or-later
from __future__ import annotations

import pytest

from fs_rollback.core.formats.mountinfo import checked_path, containing, is_within, parse, unescape

# From a Fedora Workstation: root and home on one btrfs, /boot on ext4, the ESP.
FEDORA = """\
22 1 0:33 / /proc rw,nosuid,nodev,noexec,relatime shared:13 - proc proc rw
60 1 0:35 /root / rw,relatime shared:1 - btrfs /dev/nvme0n1p3 rw,seclabel,compress=zstd:1,ssd,discard=async,space_cache=v2,subvolid=256,subvol=/root
41 60 0:42 / /tmp rw,nosuid,nodev shared:18 - tmpfs tmpfs rw,seclabel,nr_inodes=1048576,inode64
100 60 0:35 /home /home rw,relatime shared:51 - btrfs /dev/nvme0n1p3 rw,seclabel,compress=zstd:1,ssd,discard=async,space_cache=v2,subvolid=257,subvol=/home
103 60 259:2 / /boot rw,relatime shared:53 - ext4 /dev/nvme0n1p2 rw,seclabel
106 103 259:1 / /boot/efi rw,relatime shared:55 - vfat /dev/nvme0n1p1 rw,fmask=0077,dmask=0077,codepage=437,errors=remount-ro
"""  # noqa: E501 - as the kernel writes it


def test_fedora() -> None:
    mounts = parse(FEDORA)
    assert [mount.point for mount in mounts] == [
        "/proc",
        "/",
        "/tmp",
        "/home",
        "/boot",
        "/boot/efi",
    ]
    root = mounts[1]
    assert (root.device, root.root, root.fstype) == ("0:35", "/root", "btrfs")
    assert (root.source, root.subvolume_id) == ("/dev/nvme0n1p3", 256)
    assert not root.read_only
    assert mounts[4].subvolume_id == 0
    assert parse("") == ()


@pytest.mark.parametrize(
    "optional", ["", "shared:1 ", "master:7 ", "shared:1 master:7 propagate_from:2 "]
)
def test_optional_fields(optional: str) -> None:
    mount = parse(
        f"60 1 0:35 /root / rw,noatime {optional}- btrfs /dev/vda3 ro,subvolid=5,subvol=/\n"
    )[0]
    assert mount.options == ("rw", "noatime")
    assert (mount.fstype, mount.subvolume_id) == ("btrfs", 5)
    # The mount is writable, the filesystem is not.
    assert mount.read_only


def test_a_read_only_mount_of_a_writable_filesystem() -> None:
    assert not parse("60 1 0:35 /root / ro - btrfs /dev/vda3 rw\n")[0].read_only


def test_escapes_as_the_kernel_writes_them() -> None:
    line = (
        r"60 1 0:35 /my\040root /mnt/a\040b\011c\012d\134e rw - btrfs /dev/disk/by-label/a\040b rw"
    )
    mount = parse(line)[0]
    assert mount.root == "/my root"
    assert mount.point == "/mnt/a b\tc\nd\\e"
    assert mount.source == "/dev/disk/by-label/a b"


@pytest.mark.parametrize(
    "character", ["\r", "\v", "\f", "\x1c", "\x85", "\u2028", "\xa0", "é", "\udcff"]
)
def test_what_the_kernel_does_not_escape_ends_neither_line_nor_field(character: str) -> None:
    # mangle_path() escapes blank, tab, newline and backslash, and nothing else.
    text = FEDORA + f"110 60 7:0 / /run/media/user/A{character}B rw - ext4 /dev/loop0 rw\n"
    mounts = parse(text)
    assert len(mounts) == 7
    assert mounts[6].point == f"/run/media/user/A{character}B"


def test_bytes_that_are_no_utf8() -> None:
    assert unescape("\\303\\244") == "ä"
    assert unescape("\\377") == "\udcff"


@pytest.mark.parametrize("text", ["", "\\", "\\04", "\\089", "\\400", "\\777", "a\\", "\\x41"])
def test_what_is_no_escape_stays(text: str) -> None:
    assert unescape(text) == text


@pytest.mark.parametrize(
    "line", ["x", "60 1 0:35 /root / rw", "60 1 0:35 /root / rw - btrfs", "- - -"]
)
def test_a_malformed_line_is_an_error(line: str) -> None:
    with pytest.raises(ValueError, match="not a line of mountinfo"):
        parse(FEDORA + line + "\n")


@pytest.mark.parametrize(
    ("path", "point"),
    [
        ("/", "/"),
        ("/home", "/home"),
        ("/home/user", "/home"),
        ("/homes/user", "/"),
        ("/boot", "/boot"),
        ("/boot/efi/EFI", "/boot/efi"),
        ("/boot/efivars", "/boot"),
        ("/usr/home", "/"),
    ],
)
def test_containing_is_by_component(path: str, point: str) -> None:
    mount = containing(parse(FEDORA), path)
    assert mount is not None
    assert mount.point == point


def test_of_mounts_over_each_other_the_last_counts() -> None:
    text = FEDORA + "120 60 0:99 / /home rw - tmpfs over rw\n"
    mount = containing(parse(text), "/home/user")
    assert mount is not None
    assert mount.source == "over"


def test_nothing_contains_where_nothing_is_mounted() -> None:
    assert containing((), "/home") is None


@pytest.mark.parametrize(
    ("path", "directory", "within"),
    [
        ("/a", "/a", True),
        ("/a/b", "/a", True),
        ("/ab", "/a", False),
        ("/a", "/a/b", False),
        ("/a/b", "/a/", True),
        ("/anything", "/", True),
        ("/", "/", True),
    ],
)
def test_is_within(path: str, directory: str, within: bool) -> None:
    assert is_within(path, directory) is within


@pytest.mark.parametrize(
    ("path", "shortest"), [("/", "/"), ("//home", "/home"), ("/a/./b//", "/a/b"), ("/a b", "/a b")]
)
def test_checked_path(path: str, shortest: str) -> None:
    assert checked_path(path) == shortest


@pytest.mark.parametrize("path", ["", ".", "a", "../a", "/..", "/a/../b"])
def test_what_is_no_absolute_path(path: str) -> None:
    with pytest.raises(ValueError, match="^" + path.replace(".", "[.]") + "$"):
        checked_path(path)
