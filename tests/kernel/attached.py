# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine that is off, its disk attached to this one, and the command with `--device`."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.kernel import commands
from tests.kernel.commands import Done
from tests.kernel.machine import Machine, run


def arguments(device: str, words: tuple[str, ...]) -> list[str]:
    given = commands.arguments(Path("/"), words)
    place = given.index("--root")
    return [*given[:place], "--device", device, *given[place + 2 :]]


def start(device: str, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments(device, words),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=commands.environment(),
        cwd="/",
    )


def command(device: str, *words: str) -> Done:
    process = start(device, *words)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in err, err
    return Done(process.returncode, out, err)


def done(device: str, *words: str) -> Done:
    ended = command(device, *words)
    assert ended.code == 0, ended
    return ended


def refused(device: str, *words: str, code: int = 3) -> str:
    ended = command(device, *(words or ("status",)))
    assert ended.code == code, ended
    lines = ended.err.splitlines()
    assert len(lines) == 2, "one sentence and a hint"
    assert lines[1].startswith("  ")
    return ended.err


@contextmanager
def attached(image: Path, *options: str) -> Iterator[str]:
    device = run("losetup", "--find", "--show", *options, str(image)).strip()
    try:
        yield device
    finally:
        run("losetup", "--detach", device)
        deadline = time.monotonic() + 10  # anybody's blkid(8) holds it for a moment
        while run("losetup", "--associated", str(image)):
            assert time.monotonic() < deadline, f"{image} is in use"
            time.sleep(0.05)


@contextmanager
def off(machine: Machine, *options: str) -> Iterator[str]:
    """Turn the machine off and attach its disk to this one; turned on again at the end."""
    machine.destroy()
    try:
        with attached(machine.image, *options) as device:
            yield device
    finally:
        machine.adopt(machine.image)


@contextmanager
def ext4(image: Path, label: str = "") -> Iterator[str]:
    with image.open("wb") as file:
        file.truncate(32 << 20)
    run("mkfs.ext4", "-q", "-L", label, str(image))
    with attached(image) as device:
        yield device


def uuid_of(device: str) -> str:
    return run("blkid", "-p", "-s", "UUID", "-o", "value", device).strip()


def add_line(machine: Machine, line: str) -> None:
    with (machine.root / "etc/fstab").open("a") as file:
        file.write(line + "\n")


def _leftovers() -> set[str]:
    """Return the rescue directories of processes that have ended."""
    found = Path("/run").glob("fs-rollback.*.*")
    # Looked at again: a process of another test may have ended, and tidied up, just now.
    return {
        str(p) for p in found if not Path("/proc", p.name.split(".")[1]).exists() and p.exists()
    }


@pytest.fixture(autouse=True)
def nothing_stays() -> Iterator[None]:
    """Hold every test to it: no mount, no directory."""
    mounts = Path("/proc/self/mountinfo").read_text()
    before = _leftovers()
    yield
    assert _leftovers() <= before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    assert "/run/fs-rollback" not in Path("/proc/1/mountinfo").read_text()
