# SPDX-License-Identifier: GPL-2.0-or-later
"""Expected values are what the allocator of btrfs can do, told by hand; kernel tests ask it."""

from __future__ import annotations

import re

import pytest

from fs_rollback.core.snapshots.space import Amount, BlockGroups, Device, amount, size, space

GIB = 1 << 30
# linux/btrfs_tree.h
DATA, SYSTEM, METADATA, DUP = 1, 2, 4, 32
RAID0, RAID1, RAID10, RAID5, RAID6, RAID1C3, RAID1C4 = 8, 16, 64, 128, 256, 512, 1024


@pytest.mark.parametrize(
    ("profile", "sizes", "free"),
    [
        (0, (10,), 10),
        (0, (10, 3), 13),
        (DUP, (10,), 5),
        (RAID1, (10, 10), 10),
        (RAID1, (10, 4), 4),
        (RAID1, (10, 4, 3), 7),
        (RAID1, (6, 4, 4), 7),
        (RAID1, (10,), 0),
        (RAID10, (10, 10, 10, 10), 20),
        (RAID1C3, (9, 9, 9), 9),
        (RAID1C3, (9, 9, 2), 2),
        (RAID1C3, (9, 9, 2, 2), 4),
        (RAID1C4, (8, 8, 8, 8), 8),
        (RAID0, (10, 10), 20),
        (RAID0, (10, 4), 14),
        (RAID5, (10, 10, 10), 20),
        (RAID5, (10, 10, 4), 14),
        (RAID6, (10, 10, 10, 4), 14),
        (RAID6, (10, 10), 0),
    ],
)
def test_what_is_unallocated(profile: int, sizes: tuple[int, ...], free: int) -> None:
    groups = [BlockGroups(DATA | profile, 0, 0), BlockGroups(METADATA | RAID1, GIB, 0)]
    devices = [Device(2 * n * GIB, n * GIB) for n in sizes]
    assert space(groups, devices) == (2 * free * GIB, free * GIB)


def test_what_is_allocated_counts_as_the_kernel_says() -> None:
    groups = [
        BlockGroups(DATA | RAID1, 8 * GIB, 5 * GIB),
        BlockGroups(DATA, 2 * GIB, GIB),  # left by a balance
        BlockGroups(METADATA | RAID1, 2 * GIB, 0),
        BlockGroups(SYSTEM, GIB, 0),
    ]
    devices = [Device(20 * GIB, 12 * GIB), Device(20 * GIB, 12 * GIB)]
    assert space(groups, devices) == (20 * GIB, (3 + 1 + 8) * GIB)


def test_data_and_metadata_in_one_group() -> None:
    groups = [BlockGroups(DATA | METADATA, GIB, GIB // 4)]
    assert space(groups, [Device(GIB, GIB)]).free == GIB - GIB // 4


def test_a_device_that_shrank_has_nothing_unallocated() -> None:
    assert space([], [Device(GIB, 2 * GIB)]) == (GIB, 0)


@pytest.mark.parametrize(
    ("text", "expected", "of_ten"),
    [
        ("0", Amount(), 0), ("0%", Amount(), 0), ("0G", Amount(), 0),
        ("1%", Amount(1, "%"), 10 * GIB // 100), ("99%", Amount(99, "%"), 990 * GIB // 100),
        ("5G", Amount(5, "G"), 5 * GIB), ("5GiB", Amount(5, "G"), 5 * GIB),
        ("5GB", Amount(5, "G"), 5 * GIB), ("700M", Amount(700, "M"), 700 << 20),
        ("3K", Amount(3, "K"), 3072), ("2T", Amount(2, "T"), 2048 * GIB),
    ],
)  # fmt: skip
def test_amount(text: str, expected: Amount, of_ten: int) -> None:
    assert amount(text) == expected
    assert expected.of(10 * GIB) == of_ten
    assert amount(str(expected)) == expected


@pytest.mark.parametrize(
    "text", ["", "10", "%", "G", "100%", "1000%", "-1G", "5 G", "5g", "5Gi", "1.5G", "5G5", "1e3G"]
)
def test_no_amount(text: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(text)}$"):
        amount(text)


def test_the_size_is_told_in_the_unit_that_fits() -> None:
    assert [size(n) for n in (0, 1536, 3 * GIB)] == ["0 B", "1.5 KiB", "3.0 GiB"]
