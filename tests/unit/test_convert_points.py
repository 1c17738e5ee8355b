# SPDX-License-Identifier: GPL-2.0-or-later
"""What each fact means for a conversion. Facts that are good all over, with one thing changed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from fs_rollback.cli.screen.findings import findings_json
from fs_rollback.convert.check.filesystem_points import gib, is_enough
from fs_rollback.convert.check.points import estimate_s, points
from fs_rollback.convert.commands.check import wording
from fs_rollback.convert.disk.ext4 import Superblock
from fs_rollback.convert.disk.room import Room
from fs_rollback.convert.plan.facts import (
    CommandLine,
    Contents,
    Facts,
    Initramfs,
    Kernel,
    Loader,
)
from fs_rollback.core.boot.conversion_state import Stage
from fs_rollback.core.boot.findings import Finding, Grade, exit_code, worst
from fs_rollback.core.formats.fstab import parse

NOW = datetime(2026, 11, 26, 3, 0, tzinfo=timezone.utc)
GIB = 1 << 30
UUID = "5b5b6f0c-5b5f-4f1c-9e0c-f6ff8a0b1c2d"
BLOCK = Superblock(
    uuid=UUID, label="system", block_bytes=4096, blocks=10 << 18, free_blocks=5 << 18,
    features=frozenset({"has_journal", "filetype", "extent", "64bit", "flex_bg", "metadata_csum"}),
    inodes=655360, free_inodes=555360, inode_bytes=256, inodes_per_group=8192, first_block=0,
    blocks_per_group=32768, descriptor_bytes=64, reserved_descriptor_blocks=0, first_meta_group=0,
    backup_groups=(0, 0), mounts=5, mounted=0, checked=NOW - timedelta(days=30), errors=0,
    external_journal=False, clean=True,
)  # fmt: skip
ROOM = Room(((6 * GIB, 8 * GIB),), runs=1000, used_bytes=5 * GIB)
IMAGE = Initramfs("/boot/i-6.1", has_btrfs=True)
KERNEL = Kernel("6.1", has_btrfs=True, images=(IMAGE,))
OLD = Kernel("5.9", has_btrfs=False, images=(Initramfs("/boot/i-5.9"),))
BARE = Kernel("6.0", has_btrfs=True)
RESCUE = Initramfs("/boot/i-rescue", has_btrfs=False)
GOOD = Facts(
    device="/dev/sda2", fstype="ext4", superblock=BLOCK, spare=BLOCK, page_bytes=4096, damage="",
    contents=Contents(users={}, bad_blocks=0, items_bytes=100 << 20, room=ROOM),
    is_mounted=True, free_bytes=5 * GIB, stage=None, inodes=100_000, is_locked=False,
    stack=("/dev/sda2",), crypttab=(),
    names=(("/etc/fstab", f"UUID={UUID}"),), fstab_is_file=True, protected=(),
    root_options=("noatime", "noquota", "usrjquota="), mounted_again=(), swap_files=(),
    has_saved=False, has_boot_code=False, loader=Loader("/boot", "GRUB", on_root=False),
    lines_left=(), kernels=(KERNEL,),
    other_images=(), builder="dracut",
    selinux="enforcing", progs=(6, 17, 1), distribution={"ID": "fedora", "PRETTY_NAME": "Fedora"},
    rotational=False, backup=True, at=NOW,
)  # fmt: skip
START = "filesystems boot without it"
HERE = Loader("/boot", "GRUB", on_root=True)


def _superblock(**changes: Any) -> dict[str, Any]:
    return {"superblock": BLOCK._replace(**changes)}


def _contents(**changes: Any) -> dict[str, Any]:
    assert GOOD.contents is not None
    return {"contents": GOOD.contents._replace(**changes)}


def _images(*images: Initramfs) -> dict[str, Any]:
    return {"kernels": (KERNEL._replace(images=images),)}


def _line(file: str, variable: str) -> dict[str, Any]:
    return {"lines_left": (CommandLine(file, variable, 'a="b c" rootfstype=ext4'),)}


def _with(*features: str) -> Superblock:
    return BLOCK._replace(features=BLOCK.features | set(features))


def _troubles(facts: Facts) -> list[Finding]:
    return [point for point in points(facts) if point.grade is not Grade.OK]


def test_nothing_is_said_against_a_good_one() -> None:
    found = points(GOOD)
    assert {point.grade for point in found} == {Grade.OK}
    assert (worst(found), exit_code(found)) == (Grade.OK, 0)


def test_what_is_prepared_is_said() -> None:
    found = points(replace(GOOD, stage=Stage.PREPARED))
    (point,) = (point for point in found if point.name == "preparation")
    assert point.grade is Grade.OK
    assert "convert abort" in point.advice


@pytest.mark.parametrize(
    ("changes", "verdict", "name", "part"),
    [
        (_superblock(errors=2), "warning", "ext4 state", "errors in it: 2"),
        ({"free_bytes": 2 * GIB - 1}, "refused", "free space", "1.9 GiB of 10.0 GiB"),
        ({"is_locked": True}, "refused", "device", "is read-only\n'blockdev --setrw'"),
        ({"stack": ()}, "warning", "device", "what /dev/sda2 is on"),
        ({"root_options": None}, "refused", "names", "no line for /"),
        ({"names": (("/proc/cmdline", "ZFS=tank"),)}, "warning", "names", f"keeps: UUID={UUID}"),
        ({"names": (("a", "zfs:tank"),)}, "warning", "names", "a says zfs:tank, a kind of name"),
        ({"names": (("a", "UUID=1234"),)}, "warning", "names", f"/dev/sda2 has UUID {UUID}"),
        ({"root_options": ("usrquota", "acl")}, "warning", "quotas", "usrquota in /etc/fstab"),
        ({"mounted_again": parse("#\nX /a ext4\n")}, "warning", "names", "line 2, 'X /a ext4': it"),
        ({"swap_files": ("/swap",)}, "refused", "swap files", "swapoff /swap; rm /swap"),
        ({"has_boot_code": True}, "warning", "boot loader", "first 1024 bytes of /dev/sda2"),
        (_line("/etc/default/grub.d/50.cfg", ""), "refused", "command line", "remove it there."),
        ({"loader": HERE}, "warning", "boot loader", "may be unable to read btrfs"),
        ({"stage": Stage.PREPARING}, "warning", "preparation", "was interrupted"),
        ({"loader": HERE._replace(reads_btrfs=False)}, "refused", "boot loader", "cannot read"),
        ({"loader": HERE._replace(grub_install="G sda")}, "warning", "boot loader", "both): G sda"),
        (_line("/boot/grub2/grubenv", "kernelopts"), "refused", "command line",
         f"knows: rootfstype=ext4\nBoth {START}: grub2-editenv /boot/grub2/grubenv set"
         """ 'kernelopts=a="b c"'"""),
        (_line("/boot/grub/grub.cfg", ""), "refused", "command line",
         "/etc/default/grub, then: grub-mkconfig -o /boot/grub/grub.cfg"),
        ({"kernels": ()}, "refused", "kernels", "no kernel has btrfs: none found"),
        ({"kernels": (OLD,)}, "refused", "kernels", "no kernel has btrfs: 5.9"),
        ({"kernels": (OLD, KERNEL)}, "warning", "kernels", "5.9 has no btrfs"),
        ({"kernels": (OLD._replace(is_default=True), KERNEL)}, "refused", "kernels", "Make 6.1"),
        (_images(IMAGE._replace(has_btrfs=False)), "warning", "initramfs",
         "/boot/i-6.1 has no btrfs yet"),
        (_images(IMAGE, Initramfs("/boot/other", has_btrfs=False)), "warning", "initramfs",
         "/boot/other has no btrfs yet"),
        (_images(IMAGE._replace(has_btrfs=None, reason="no tool")), "warning", "initramfs",
         "has btrfs: no tool"),
        (_images(), "refused", "initramfs", "6.1 has no initramfs"),
        ({"kernels": (KERNEL, BARE)}, "warning", "initramfs", "6.0 has no initramfs"),
        ({"kernels": (KERNEL, BARE._replace(is_default=True))}, "refused", "initramfs",
         "6.0 has no initramfs"),
        ({"other_images": (RESCUE,)}, "warning", "initramfs",
         "/boot/i-rescue has no btrfs, and its kernel is unknown"),
        ({"other_images": (RESCUE._replace(has_btrfs=None, reason="no tool"),)}, "warning",
         "initramfs", "has btrfs: no tool, and its kernel"),
        ({"other_images": (RESCUE._replace(is_default=True),)}, "refused", "initramfs",
         "/boot/i-rescue, which the default entry uses, has no btrfs"),
        ({"builder": ""}, "warning", "initramfs", "neither dracut nor initramfs-tools"),
        ({"progs": None}, "refused", "btrfs-progs", "not installed"),
        ({"progs": (6, 8, 1)}, "refused", "btrfs-progs", "6.8.1 is too old: before 6.9"),
        ({"progs": (6, 9)}, "warning", "btrfs-progs", "6.9 works"),
        ({"progs": (6, 17)}, "warning", "btrfs-progs", "6.17 works; 6.17.1 or later"),
        ({"distribution": {"ID": "ol"}}, "warning", "distribution", "ol: Oracle's manuals"),
        ({"distribution": {}}, "warning", "distribution", "unknown: not known"),
        ({"backup": False}, "warning", "backup", "use --have-backup"),
        ({"page_bytes": 65536}, "refused", "block size", "4096 bytes, but the page size"),
        (_superblock(external_journal=True), "refused", "ext4 features", "^has_journal /dev/sda2"),
    ],
)  # fmt: skip
def test_one_thing_that_is_not_good(
    changes: dict[str, Any], verdict: str, name: str, part: str
) -> None:
    found = points(replace(GOOD, **changes))
    (point,) = [one for one in found if one.grade is not Grade.OK]
    assert (wording().words[point.grade], point.name) == (verdict, name)
    assert part in f"{point.text}\n{point.advice}"
    assert exit_code(found) == {"warning": 1, "refused": 3}[verdict]


@pytest.mark.parametrize(
    ("changes", "name", "part"),
    [
        ({"names": (("/etc/fstab", f"UUID={UUID.upper()}"),)}, "names", "stays valid"),
        ({"names": (("/etc/fstab", f'UUID="{UUID}"'),)}, "names", "stays valid"),
        ({"names": (("/etc/fstab", "LABEL=system"),)}, "names", "stays valid"),
        ({"names": (("/etc/fstab", "PARTUUID=1234-02"),)}, "names", "stays valid"),
        ({"names": (("/etc/fstab", "/dev/mapper/ol-root"),)}, "names", "stays valid"),
        ({"crypttab": ("root UUID=1",)}, "names", "/etc/crypttab: root UUID=1"),
        ({"stack": ("LVM a", "LUKS b", "/dev/sda2")}, "device", "LVM a on LUKS b on /dev/sda2"),
        ({"loader": HERE._replace(reads_btrfs=True)}, "boot loader", "it can read btrfs"),
        (
            {"kernels": (KERNEL._replace(images=(), is_built_in=True),)},
            "initramfs",
            "6.1 needs no initramfs",
        ),
        ({"other_images": (RESCUE._replace(has_btrfs=True),)}, "initramfs", "i-rescue has btrfs"),
        ({"kernels": (KERNEL, KERNEL._replace(version="6.2"))}, "initramfs", "/boot/i-6.1 has"),
        ({"selinux": ""}, "SELinux", "not installed"),
        ({"selinux": "disabled"}, "SELinux", "disabled"),
        ({"progs": (7, 0)}, "btrfs-progs", "7.0"),
        (_superblock(checked=None), "ext4 state", "last e2fsck: never; mounted 5 times"),
        ({}, "ext4 state", "2026-10-27, 30 days ago"),
        ({}, "time", "about 2 minutes for 100000 files and 5.0 GiB"),
        ({"free_bytes": 2 * GIB}, "free space", "2.0 GiB of 10.0 GiB are free (20 %)"),
    ],
)
def test_what_is_good(changes: dict[str, Any], name: str, part: str) -> None:
    found = points(replace(GOOD, **changes))
    assert worst(found) is Grade.OK
    assert any(part in point.text for point in found if point.name == name)


@pytest.mark.parametrize("feature", ["encrypt", "verity", "ea_inode", "inline_data", "casefold"])
@pytest.mark.parametrize(
    ("users", "part"),
    [(0, "no file uses it"), (1, "1 inode:"), (7, "7 inodes:"), (None, "not be counted")],
)
def test_a_feature_is_refused_where_it_is_used(feature: str, users: Any, part: str) -> None:
    counted = {} if users is None else {feature: users}
    found = points(replace(GOOD, superblock=_with(feature), **_contents(users=counted)))
    (point,) = [p for p in found if p.name == "ext4 features" and feature in p.text]
    assert point.grade is (Grade.OK if users == 0 else Grade.FATAL)
    assert part in point.text
    assert bool(point.advice) == (users != 0)


@pytest.mark.parametrize(
    "feature",
    ["bigalloc", "compression", "journal_dev", "shared_blocks", "snapshot",
     "replica", "read-only", "dirdata", "imagic_inodes", "incompat 0x40000", "compat 0x4000"],
)  # fmt: skip
def test_a_feature_that_is_not_known_is_refused(feature: str) -> None:
    (point,) = _troubles(replace(GOOD, superblock=_with(feature)))
    assert point.grade is Grade.FATAL
    assert point.text == f"{feature} is set: btrfs-convert does not support it"


def test_every_trouble_is_said() -> None:
    block = _with("bigalloc", "quota", "project")._replace(errors=1)
    found = _troubles(replace(GOOD, superblock=block, free_bytes=0, progs=None, backup=False))
    assert [(point.name, wording().words[point.grade]) for point in found] == [
        ("ext4 features", "refused"),
        ("ext4 features", "warning"),
        ("ext4 features", "warning"),
        ("ext4 state", "warning"),
        ("free space", "refused"),
        ("btrfs-progs", "refused"),
        ("backup", "warning"),
    ]
    assert all(point.advice for point in found), "each says what to do"


@pytest.mark.parametrize("block", [_with("needs_recovery"), BLOCK._replace(clean=False)])
def test_what_is_unclean_is_so_only_where_it_is_not_mounted(block: Superblock) -> None:
    assert _troubles(replace(GOOD, superblock=block)) == []
    (point,) = _troubles(replace(GOOD, superblock=block, is_mounted=False))
    assert (point.grade, point.name) == (Grade.FATAL, "ext4 state")
    assert point.text == "/dev/sda2 was not unmounted cleanly"
    assert point.advice.endswith("e2fsck -f /dev/sda2")


@pytest.mark.parametrize(
    ("fstype", "superblock", "text", "advice"),
    [
        ("ext2", None, "is ext2", "tune2fs(8) describes how to turn ext2 into ext4"),
        ("ext3", BLOCK, "is ext3", "tune2fs(8) describes how to turn ext3 into ext4"),
        ("xfs", None, "is xfs", "to a new btrfs filesystem instead"),
        ("btrfs", None, "is already btrfs", "convert finish"),
        ("", None, "is of unknown type", "to a new btrfs filesystem instead"),
        ("ext4", None, "superblock that cannot be read", "e2fsck"),
    ],
)
def test_what_is_no_ext4_is_all_there_is_to_say(
    fstype: str, superblock: Any, text: str, advice: str
) -> None:
    (point,) = points(replace(GOOD, fstype=fstype, superblock=superblock, backup=False))
    assert (point.name, point.grade) == ("filesystem", Grade.FATAL)
    assert text in point.text
    assert advice in point.advice


def test_an_initramfs_that_kernels_share_is_not_made_anew() -> None:
    bare = KERNEL._replace(images=(IMAGE._replace(has_btrfs=False),))
    found = points(replace(GOOD, kernels=(OLD, bare, bare._replace(version="6.2"))))
    (point,) = [one for one in found if one.grade is Grade.FATAL]
    assert point.text == "/boot/i-6.1 is shared by several kernels: 6.1, 6.2"


def test_every_text_is_a_line() -> None:
    found = points(replace(GOOD, kernels=(OLD, KERNEL), progs=None, backup=False))
    rows = findings_json(found, wording())["points"]
    for point, row in zip(found, rows):
        assert "\n" not in point.text + point.advice
        assert point.text
        assert row == {
            "name": point.name,
            "verdict": wording().words[point.grade],
            "text": point.text,
            "advice": point.advice or None,
            "code": point.code,
            "subject": point.subject or None,
        }


def test_the_gate_for_free_space() -> None:
    assert not is_enough(2 * GIB - 1, 4 * GIB)
    assert is_enough(2 * GIB, 4 * GIB)
    assert not is_enough(15 * GIB - 1, 100 * GIB)
    assert is_enough(15 * GIB, 100 * GIB)


def test_sizes_never_say_more_than_there_is() -> None:
    assert gib(2 * GIB - 1) == "1.9 GiB"
    assert gib(2 * GIB - 1, up=True) == "2.0 GiB"
    assert (gib(1), gib(1, up=True), gib(0, up=True)) == ("0.0 GiB", "0.1 GiB", "0.0 GiB")
    assert gib(10240 * GIB) == "10240.0 GiB"


def test_more_takes_longer() -> None:
    small = estimate_s(1000, 10000, GIB, rotational=False)
    assert 0 < small < estimate_s(1000, 10000, GIB, rotational=True)
    assert small < estimate_s(10000, 10000, GIB, rotational=False)
    assert small < estimate_s(1000, 10000, 2 * GIB, rotational=False)


@pytest.mark.parametrize(
    ("inodes", "said"), [(100, "a minute"), (300_000, "8 minutes"), (20_000_000, "8.4 hours")]
)
def test_the_time_is_said_in_a_unit_that_fits(inodes: int, said: str) -> None:
    # That of a mounted ext4 knows neither what is free nor who uses it.
    block = BLOCK._replace(inodes=inodes, free_inodes=inodes, blocks=0)
    found = points(replace(GOOD, superblock=block, inodes=inodes, rotational=True))
    assert f"about {said} for" in next(p.text for p in found if p.name == "time")
