# SPDX-License-Identifier: GPL-2.0-or-later
"""Room on several devices against a simulation of it; which snapshots give back how much."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from fs_rollback.core.snapshots.space import DATA, BlockGroups, usable
from fs_rollback.core.space.headroom import METADATA, RESERVE, Room, Shortage, shortage
from fs_rollback.core.space.held import Held

MIB, GIB = 1 << 20, 1 << 30
# BTRFS_BLOCK_GROUP_ in linux/btrfs_tree.h: copies or parities, and how many devices at least.
MIRRORED = {1 << 4: 2, 1 << 9: 3, 1 << 10: 4}
STRIPED = {1 << 3: (1, 0), 1 << 7: (2, 1), 1 << 8: (3, 2)}
# Every room on up to five devices that is worth a case of its own.
ROOMS = [
    list(rooms)
    for count in range(6)
    for rooms in itertools.combinations_with_replacement(range(7, -1, -1), count)
]


@pytest.mark.parametrize("profile", sorted(MIRRORED))
def test_mirrored_block_groups(profile: int) -> None:
    """As the kernel does: each on the devices with the most room."""
    for rooms in ROOMS:
        left, found = sorted(rooms), 0
        while len(left) >= MIRRORED[profile] and left[-MIRRORED[profile]] > 0:
            for number in range(1, MIRRORED[profile] + 1):
                left[-number] -= 1
            left.sort()
            found += 1
        assert usable(profile | DATA, rooms) == found, rooms


@pytest.mark.parametrize("profile", sorted(STRIPED))
def test_striped_block_groups(profile: int) -> None:
    """As the kernel does: over all devices that have room."""
    for rooms in ROOMS:
        (least, parity), left, found = STRIPED[profile], [r for r in rooms if r], 0
        while len(left) >= least and left:
            found += len(left) - parity
            left = [room - 1 for room in left if room > 1]
        assert usable(profile | DATA, rooms) == found, rooms


def test_block_groups_on_one_device_each() -> None:
    for rooms in ROOMS:
        assert usable(DATA, rooms) == sum(rooms)
        assert usable(DATA | 1 << 5, rooms) == sum(rooms) // 2


def _space(data: int, metadata: int, *unallocated: int, reserve: int = 0) -> Room:
    groups = (
        BlockGroups(DATA, 100 * GIB, 100 * GIB - data),
        BlockGroups(METADATA | 1 << 5, 10 * GIB, 10 * GIB - metadata),
        BlockGroups(RESERVE, reserve, 0),
    )
    return Room(groups, unallocated)


@pytest.mark.parametrize(
    ("space", "coming", "told"),
    [
        (_space(2 * GIB, GIB), GIB, None),
        (_space(GIB - 1, GIB), GIB, Shortage(False, GIB, 1)),
        (_space(0, GIB, GIB), GIB, None),
        # 80 MiB of metadata take twice as much of what no block group has.
        (_space(0, 0, GIB + 160 * MIB), GIB, None),
        (_space(0, 0, GIB), GIB, Shortage(False, GIB, 160 * MIB)),
        (_space(2 * GIB, 0), GIB, Shortage(True, 80 * MIB, 80 * MIB)),
        (_space(2 * GIB, 80 * MIB, reserve=MIB), GIB, Shortage(True, 80 * MIB, MIB)),
        (_space(0, 0), 0, None),
        (_space(0, 15 * MIB), None, Shortage(True, 16 * MIB, MIB)),
        (_space(0, 16 * MIB), None, None),
    ],
)
def test_what_is_missing(space: Room, coming: int | None, told: Shortage | None) -> None:
    assert shortage(space, coming, compresses=False) == told


def test_compressed_files_take_half_of_the_room() -> None:
    space = _space(GIB // 2, GIB)
    assert shortage(space, GIB, compresses=True) is None
    assert shortage(space, GIB, compresses=False) == Shortage(False, GIB, GIB // 2)


def test_a_shortage_in_words() -> None:
    assert Shortage(False, 3 * GIB, GIB).sentence() == (
        "the transaction needs about 3.0 GiB of space for files, and 1.0 GiB of that is missing"
    )
    assert "metadata" in Shortage(True, 3 * GIB, GIB).sentence()


HELD = Held({frozenset("a"): 1, frozenset("ab"): 10, frozenset("b"): 100, frozenset("bc"): 1000})


@pytest.mark.parametrize(
    ("names", "told"), [("", 0), ("a", 1), ("b", 100), ("ab", 111), ("ac", 1), ("abc", 1111)]
)
def test_what_a_set_gives_back(names: Sequence[str], told: int) -> None:
    assert HELD.together(names) == told
    assert len(names) != 1 or HELD.alone(names[0]) == told


@pytest.mark.parametrize(("wanted", "names"), [(1, "a"), (2, "ab"), (112, "abc"), (9999, "abc")])
def test_as_many_as_are_enough(wanted: int, names: str) -> None:
    assert HELD.enough("abc", wanted) == list(names)
