# SPDX-License-Identifier: GPL-2.0-or-later
"""A disk right before its conversion, and what the power leaves of it when it goes."""

from __future__ import annotations

import os
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fs_rollback.convert.torn import pieces as saved_pieces
from tests import manifest
from tests.kernel import write_log
from tests.kernel.attached import attached
from tests.kernel.conversions import (
    OWN,
    observed,
    prepared_image,
)
from tests.kernel.ext4_images import copy, on
from tests.kernel.machine import run
from tests.kernel.write_log import Write

BLOCK = 4096
_CONVERT = ("btrfs-convert", "--uuid", "copy", "--copy-label", "-O", "^block-group-tree")


class Scene(NamedTuple):
    """A disk right before the conversion, and the writes of the conversion and of the way back."""

    image: Path
    library: Path
    there: list[list[Write]]
    back: list[list[Write]]
    before: manifest.Manifest


def made(directory: Path) -> Scene:
    image = prepared_image(directory)
    with on(image) as root:
        put_data_at(root / "data", 64 << 20)
        before = manifest.manifest(root, exclude=OWN)
    save(image)
    library = write_log.library(directory)
    made = copy(image, directory / "made.img")
    there = logged(library, made, directory / "there.log", *_CONVERT, str(made))
    back = logged(library, made, directory / "back.log", "btrfs-convert", "-r", str(made))
    return Scene(image, library, there, back, before)


def put_data_at(path: Path, place: int) -> None:
    """Make a file with data at a place of the device, whatever the allocator would choose."""
    size, made = 64 << 10, 0
    for length in (256 << 20, 4 << 20, size):  # all that is free, until one has it
        while _fallocate(path, length):
            start = _offset_of(path, place)
            if start is not None:
                with path.open("r+b") as file:
                    file.seek(start)
                    file.write(random.Random(1).randbytes(size))
                _punch(path, 0, start)
                _punch(path, start + size, length)
                _remove(path, made)
                return
            made += 1
            path.rename(f"{path}.{made}")
    raise AssertionError("another file has it")


def _fallocate(path: Path, length: int) -> bool:
    command = ["fallocate", f"--length={length}", str(path)]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def _offset_of(path: Path, place: int) -> int | None:
    """Return where in a file a place of the device is, None if it has not got it."""
    pattern = r"^ *\d+: +(\d+)\.\. +\d+: +(\d+)\.\. +\d+: +(\d+)"
    for found in re.findall(pattern, run("filefrag", "-v", f"-b{BLOCK}", str(path)), re.MULTILINE):
        logical, physical, count = map(int, found)
        if physical <= place // BLOCK < physical + count:
            return (logical - physical) * BLOCK + place
    return None


def _punch(path: Path, offset: int, length: int) -> None:
    if length:
        run("fallocate", "--punch-hole", f"--offset={offset}", f"--length={length}", str(path))


def _remove(path: Path, made: int) -> None:
    for number in range(1, made + 1):
        Path(f"{path}.{number}").unlink()


def logged(library: Path, image: Path, log: Path, *command: str) -> list[list[Write]]:
    environment = {**os.environ, "LD_PRELOAD": str(library)}
    environment |= {"CUT_TARGET": str(image), "CUT_LOG": str(log)}
    subprocess.run(command, check=True, capture_output=True, env=environment)
    return write_log.read(log)


def reserved(image: Path) -> list[tuple[int, bytes]]:
    with image.open("rb") as file:
        found = []
        for offset, size in saved_pieces.ranges(image.stat().st_size):
            file.seek(offset)
            found.append((offset, file.read(size)))
        return found


def is_reserved(write: Write) -> bool:
    return any(
        write.offset < start + size and start < write.offset + len(write.data)
        for start, size in saved_pieces.RANGES
    )


def write(image: Path, writes: list[Write]) -> None:
    with image.open("r+b") as file:
        for write in writes:
            file.seek(write.offset)
            file.write(write.data)


def at(image: Path, places: Sequence[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    with image.open("rb") as file:
        for offset, data in places:
            file.seek(offset)
            yield offset, file.read(len(data))


def convert(image: Path, scene: Scene) -> None:
    """Write all that a conversion writes."""
    write(image, [found for epoch in scene.there for found in epoch])


def save(image: Path) -> None:
    """Leave what a conversion leaves that has saved what it overwrites, and not begun with that."""
    with attached(image) as device:
        assert "before convert" in observed(device, "fail", "before", "convert").stdout


def second_superblock(scene: Scene) -> Write:
    """Return the last write of a conversion to the block at 64 MiB."""
    writes = [found for epoch in scene.there for found in epoch if found.offset == 64 << 20]
    return writes[-1]


def zeroed(image: Path) -> list[tuple[int, bytes]]:
    """Leave what a conversion leaves in the middle of its last moment; return what was there."""
    before = reserved(image)
    write(image, [Write(0, bytes(64 << 10)), Write(64 << 20, b"\xff" * 4096)])
    return before
