# SPDX-License-Identifier: GPL-2.0-or-later
"""What snapshots hold, held against what deleting them frees and what other tools say."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import btrfsutil
import pytest

from fs_rollback.core.snapshots.snapshot import Snapshot
from fs_rollback.system.linux import tree_search
from fs_rollback.system.machine.host import Host
from fs_rollback.system.space import holders
from tests.kernel.held_data import Filesystem, made, share, write
from tests.kernel.machine import run


@pytest.fixture
def filesystem(tmp_path: Path) -> Iterator[Filesystem]:
    with made(tmp_path) as found:
        yield found


def _kib(filesystem: Filesystem) -> dict[str, int]:
    held = filesystem.held()
    return {s.name: held.alone(s.name) >> 10 for s in filesystem.snapshots()}


def _upgraded(filesystem: Filesystem) -> Path:
    """Take three snapshots: each holds alone one file, and two of them another one."""
    root = Path(filesystem.top) / "root"
    write(root / "always", 400)
    for number, name in enumerate(("yum_1", "yum_2", "yum_3")):
        write(root / "once", 100 + number)
        if name == "yum_2":
            write(root / "twice", 300)
        filesystem.take(name)
    (root / "once").unlink()
    (root / "twice").unlink()
    return root


def _du(filesystem: Filesystem) -> dict[str, int]:
    place = filesystem.path("fs-snapshots")
    told = run("btrfs", "filesystem", "du", "-s", "--raw", *map(str, Path(place).iterdir()))
    rows = (line.split() for line in told.splitlines()[1:])
    return {row[3].rpartition("/")[2]: int(row[1]) >> 10 for row in rows}


def test_each_alone_and_all_together(filesystem: Filesystem) -> None:
    _upgraded(filesystem)
    assert _kib(filesystem) == {"yum_1": 100, "yum_2": 104, "yum_3": 104} == _du(filesystem)
    held = filesystem.held()
    assert held.together(["yum_2", "yum_3"]) == (104 + 104 + 300) << 10
    assert held.together(["yum_1", "yum_2", "yum_3"]) == (100 + 104 + 104 + 300) << 10
    assert held.enough(["yum_1", "yum_2", "yum_3"], 101 << 10) == ["yum_1", "yum_2"]
    for names in (["yum_2"], ["yum_1", "yum_3"]):
        expected = filesystem.held().together(names)
        assert filesystem.freed(names) == expected > 0


def test_what_a_neighbour_takes_over(filesystem: Filesystem) -> None:
    """What two of them have, the second holds alone where the first is deleted."""
    _upgraded(filesystem)
    filesystem.freed(["yum_2"])
    assert _kib(filesystem) == {"yum_1": 100, "yum_3": 404}


@pytest.mark.parametrize(
    ("place", "together"),
    [("root", 100), ("home", 100), ("fs-snapshots/yum_1", 204), ("fs-snapshots/try_9", 100)],
)
def test_a_copy_by_reflink(filesystem: Filesystem, place: str, together: int) -> None:
    """A part of a file is enough: all that was written with it stays on the disk."""
    _upgraded(filesystem)
    btrfsutil.create_subvolume(filesystem.path("home"))
    filesystem.take("try_9", read_only=False)
    btrfsutil.set_subvolume_read_only(filesystem.path("fs-snapshots/yum_1"), False)
    source = Path(filesystem.path("fs-snapshots/yum_2/once"))
    share(source, Path(filesystem.path(place)) / "copy", start=4096, length=4096)
    held = filesystem.held()
    assert held.alone("yum_2") == 0
    assert held.together(["yum_1", "yum_2"]) == together << 10
    assert filesystem.freed(["yum_2", "yum_1"]) == together << 10


def test_compressed_data_counts_as_it_lies_on_the_disk(tmp_path: Path) -> None:
    with made(tmp_path, "compress-force=zstd") as filesystem:
        file = Path(filesystem.path("root/text"))
        file.write_bytes(b"a line of text that repeats\n" * 40000)
        filesystem.take("yum_1")
        file.unlink()
        (told,) = _kib(filesystem).values()
        assert 0 < told < 200  # of 1093
        assert filesystem.freed(["yum_1"]) == told << 10


def test_what_is_deleted_with_a_snapshot(filesystem: Filesystem) -> None:
    """Its copy for the boot menu, and the subvolumes nested in a replaced root."""
    root = _upgraded(filesystem)
    filesystem.take("try_1", "fs-snapshots/yum_1", read_only=False)
    write(Path(filesystem.path("fs-snapshots/try_1/log")), 500)
    btrfsutil.create_subvolume(str(root / "machines"))
    write(root / "machines/disk", 700)
    write(root / "late", 800)
    root.rename(filesystem.path("fs-snapshots/replaced_4"))
    btrfsutil.create_snapshot(filesystem.path("fs-snapshots/yum_3"), str(root))
    # The new root has what yum_3 has.
    told = {"replaced_4": 1500, "yum_1": 600, "yum_2": 104, "yum_3": 0}
    assert _kib(filesystem) == told
    for name in told:
        expected = filesystem.held().alone(name)
        assert filesystem.freed([name]) == expected


def test_a_root_in_the_top_level_that_was_replaced(filesystem: Filesystem) -> None:
    """What lies in the store there stays."""
    top = Path(filesystem.top)
    write(top / "system", 200)
    (top / "fs-snapshots/boot").mkdir()
    write(top / "fs-snapshots/boot/kernel", 300)
    (number,) = (s for s in filesystem.subvolumes if s.id == 5)
    replaced = Snapshot("replaced_1", number, None)
    held = holders.held(cast(Host, filesystem), [replaced])
    assert held is not None
    assert held.alone("replaced_1") == 200 << 10


def test_the_time_that_it_may_take(filesystem: Filesystem) -> None:
    _upgraded(filesystem)
    filesystem.data()
    assert holders.held(cast(Host, filesystem), filesystem.snapshots(), limit_s=0) is None
    assert filesystem.held(limit_s=60).alone("yum_2") == 104 << 10


def test_quota_groups_stay_off(filesystem: Filesystem) -> None:
    _upgraded(filesystem)
    filesystem.held()
    uuid = re.findall(r"uuid: (\S+)", run("btrfs", "filesystem", "show", filesystem.top))[0]
    assert not os.path.exists(f"/sys/fs/btrfs/{uuid}/qgroups")


def test_what_is_remembered_is_not_asked_again(
    filesystem: Filesystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a snapshot was taken since, and another one deleted.

    As far as what is said of the data lies in a part of the tree that has not changed since.
    """
    root = _upgraded(filesystem)
    (root / "many").mkdir()
    for number in range(2000):
        write(root / f"many/{number}", 4)
    filesystem.take("yum_4")
    shutil.rmtree(root / "many")
    filesystem.data()
    (root / "later").mkdir()
    asked: list[int] = []
    ask = tree_search.holders

    def counting(descriptor: int, place: int) -> frozenset[tuple[int, int]] | None:
        asked.append(place)
        return ask(descriptor, place)

    monkeypatch.setattr(tree_search, "holders", counting)
    first = filesystem.held()
    everything = len(asked)
    assert first.alone("yum_4") == 8000 << 10
    filesystem.take("yum_5")
    assert filesystem.held() == first
    assert len(asked) - everything < 500
    filesystem.freed(["yum_2"])
    assert filesystem.held().alone("yum_3") == 404 << 10
    assert len(asked) - everything < 1000


@pytest.mark.parametrize("data", ["", "{}", "[]", '{"version": 1}', '{"version": 2}', "\0"])
def test_a_cache_that_cannot_be_read(filesystem: Filesystem, data: str) -> None:
    _upgraded(filesystem)
    right = filesystem.held()
    (file,) = Path(os.environ["CACHE_DIRECTORY"]).glob("holders-the-filesystem.json")
    file.write_text(data)
    assert filesystem.held() == right
