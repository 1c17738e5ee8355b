# SPDX-License-Identifier: GPL-2.0-or-later
"""The writes of a program to a disk, one by one: what a power cut between any two of them leaves.

cut.c is what writes them down. A disk has a cache: what was written since the last flush may be on
it in any part and any order.
"""

from __future__ import annotations

import random
import struct
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.need import need

_SOURCE = Path(__file__).with_name("cut.c")
_HEAD = struct.Struct("<cQQ")


class Write(NamedTuple):
    """One write."""

    offset: int
    data: bytes


def library(directory: Path) -> Path:
    """Compile what is preloaded."""
    need("gcc")
    made = directory / "cut.so"
    command = ["gcc", "-O2", "-shared", "-fPIC", "-o", str(made), str(_SOURCE), "-ldl"]
    subprocess.run(command, check=True)
    return made


def read(log: Path) -> list[list[Write]]:
    """Return the writes, in lists that end where the program had them flushed."""
    data, place = log.read_bytes(), 0
    found: list[list[Write]] = [[]]
    while place < len(data):
        kind, offset, length = _HEAD.unpack_from(data, place)
        place += _HEAD.size
        if kind == b"F":
            found.append([])
            continue
        assert kind == b"W", kind
        found[-1].append(Write(offset, data[place : place + length]))
        place += length
    return found


def torn(writes: Sequence[Write], chance: random.Random) -> list[Write]:
    """Return what of these writes a disk may have: of each sector none, or any of those for it."""
    unit = chance.choice((512, 4096))
    stays = chance.choice((0.05, 0.25, 0.5, 0.75, 0.95))
    versions: dict[int, list[bytes]] = {}
    for write in writes:
        for at in range(0, len(write.data), unit):
            versions.setdefault(write.offset + at, []).append(write.data[at : at + unit])
    return [
        Write(offset, chance.choice(found))
        for offset, found in sorted(versions.items())
        if chance.random() >= stays
    ]
