# SPDX-License-Identifier: GPL-2.0-or-later
"""What snapshots hold after generated histories: exactly what deleting any of them frees."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import btrfsutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.kernel.held_data import STORE, Filesystem, made, share, write
from tests.kernel.histories import examples

Operations = Sequence[tuple[Any, ...]]
FILE, NUMBER, KIB = st.integers(0, 4), st.integers(0, 999), st.sampled_from([4, 36, 132])
WHERE = st.sampled_from(["root", "root", "root", "home", "root/nested"])


class History:
    """Does what each of its methods is called after, wherever it can be done."""

    def __init__(self, filesystem: Filesystem) -> None:
        self.filesystem = filesystem
        self.top = Path(filesystem.top)
        self.count = 0

    def write(self, where: str, file: int, kib: int) -> None:
        write(self.top / where / str(file), kib)

    def write_into(self, where: str, file: int, block: int, kib: int) -> None:
        with (self.top / where / str(file)).open("r+b") as opened:
            opened.seek(block % 33 * 4096)
            opened.write(os.urandom(kib << 10))

    def truncate(self, where: str, file: int, block: int) -> None:
        os.truncate(self.top / where / str(file), block % 33 * 4096)

    def unlink(self, where: str, file: int) -> None:
        (self.top / where / str(file)).unlink()

    def move(self, where: str, file: int, other: int) -> None:
        (self.top / where / str(file)).rename(self.top / where / str(other))

    def share(self, source: int, file: int, where: str, other: int, block: int) -> None:
        places = [self.top / s.path for s in self.filesystem.subvolumes if s.id != 5]
        start = block % 3 * 4096
        one, target = places[source % len(places)] / str(file), self.top / where / str(other)
        share(one, target, start=start, length=4096 if block % 2 else 0)

    def nest(self) -> None:
        btrfsutil.create_subvolume(str(self.top / "root/nested"))

    def take(self) -> None:
        self.count += 1
        self.filesystem.take(f"yum_{self.count}")

    def try_one(self, number: int) -> None:
        name = self.chosen(number)
        if name.startswith("replaced"):
            return
        copy = f"try_{name.partition('_')[2]}"
        self.filesystem.take(copy, f"{STORE}/{name}", read_only=False)
        write(self.top / STORE / copy / "log", 36)
        (self.top / STORE / copy / str(number % 5)).unlink()

    def roll_back(self, number: int) -> None:
        name = self.chosen(number)
        self.count += 1
        (self.top / "root").rename(self.top / STORE / f"replaced_{self.count}")
        btrfsutil.create_snapshot(str(self.top / STORE / name), str(self.top / "root"))

    def drop(self, number: int) -> None:
        self.filesystem.freed([self.chosen(number)])

    def look(self) -> None:
        """Have what is known kept for later."""
        self.filesystem.held()

    def chosen(self, number: int) -> str:
        names = [s.name for s in self.filesystem.snapshots()]
        return names[number % len(names)]


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just(History.write), WHERE, FILE, KIB),
        st.tuples(st.just(History.write), WHERE, FILE, KIB),
        st.tuples(st.just(History.write_into), WHERE, FILE, NUMBER, KIB),
        st.tuples(st.just(History.truncate), WHERE, FILE, NUMBER),
        st.tuples(st.just(History.unlink), WHERE, FILE),
        st.tuples(st.just(History.move), WHERE, FILE, FILE),
        st.tuples(st.just(History.share), NUMBER, FILE, WHERE, FILE, NUMBER),
        st.tuples(st.just(History.nest)),
        st.tuples(st.just(History.take)),
        st.tuples(st.just(History.take)),
        st.tuples(st.just(History.take)),
        st.tuples(st.just(History.try_one), NUMBER),
        st.tuples(st.just(History.roll_back), NUMBER),
        st.tuples(st.just(History.drop), NUMBER),
        st.tuples(st.just(History.look)),
    ),
    min_size=5,
    max_size=40,
)


@pytest.fixture(scope="module")
def filesystem(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Filesystem]:
    with made(tmp_path_factory.mktemp("sizes")) as found:
        yield found


@examples(25, 500)
@given(OPERATIONS, OPERATIONS, st.lists(NUMBER, min_size=1, max_size=4))
def test_what_is_said_is_what_deletion_frees(
    filesystem: Filesystem, first: Operations, then: Operations, doomed: Sequence[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", f"{filesystem.top}/cache")
        history = History(filesystem)
        try:
            btrfsutil.create_subvolume(str(history.top / "home"))
            for operations in (first, then):
                play(history, operations)
                expect_truth(filesystem, doomed)
        finally:
            clear(filesystem)


def play(history: History, operations: Operations) -> None:
    for function, *arguments in operations:
        with suppress(OSError, ZeroDivisionError, shutil.Error, btrfsutil.BtrfsUtilError):
            function(history, *arguments)


def expect_truth(filesystem: Filesystem, doomed: Sequence[int]) -> None:
    held = filesystem.held()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CACHE_DIRECTORY", f"{filesystem.top}/none")
        assert filesystem.held() == held, "what was known is as true"
    shutil.rmtree(f"{filesystem.top}/none", ignore_errors=True)
    names = [s.name for s in filesystem.snapshots()]
    chosen = sorted({names[number % len(names)] for number in doomed if names})
    assert filesystem.freed(chosen) == held.together(chosen), (chosen, held)


def clear(filesystem: Filesystem) -> None:
    """Have what it was at first: an empty root and an empty store."""
    top = Path(filesystem.top)
    for place in (*(top / STORE).iterdir(), top / "home", top / "root"):
        if place.exists():
            btrfsutil.delete_subvolume(str(place), recursive=True)
    shutil.rmtree(top / "cache", ignore_errors=True)
    btrfsutil.create_subvolume(str(top / "root"))
