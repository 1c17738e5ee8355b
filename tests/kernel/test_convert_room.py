# SPDX-License-Identifier: GPL-2.0-or-later
"""Room for the metadata of btrfs: counted as btrfs-convert does, refused where it would not do.

Each verdict is held against a conversion, or against what btrfs-convert itself says.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fs_rollback.convert.machine import contents
from fs_rollback.convert.plan.facts import Contents
from tests import manifest
from tests.kernel import commands
from tests.kernel.attached import attached, nothing_stays  # noqa: F401 - a fixture
from tests.kernel.conversions import OWN, command, converted_on, expect, kind_of, prepared_image
from tests.kernel.ext4_images import on
from tests.kernel.ext4_space import MIB, fill_with_small_files, scatter
from tests.kernel.machine import run

pytestmark = pytest.mark.usefixtures("btrfs_progs")
ROOM = "room for metadata"
_NO_ROOM = "there was no room for the btrfs metadata"


@pytest.fixture(scope="module", name="template")
def _template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared_image(tmp_path_factory.mktemp("prepared"), size_bytes=4 << 30)


@pytest.fixture(name="image")
def _image(template: Path, tmp_path: Path) -> Path:
    run("cp", "--sparse=always", str(template), str(tmp_path / "disk.img"))
    return tmp_path / "disk.img"


def _point(device: str) -> tuple[str, str, str]:
    """Return verdict, text and advice of the point of `check` on the room."""
    done = command("check", "--device", device, "--json", "--have-backup")
    points = {point["name"]: point for point in done.json["points"]}
    assert points["free space"]["verdict"] == "ok"
    found = points[ROOM]
    return found["verdict"], found["text"], found["advice"] or ""


def _contents(image: Path) -> Contents:
    superblock = contents.superblock(str(image))
    assert superblock is not None
    return contents.look(str(image), superblock)


def _expect_refused(device: str) -> str:
    """Check that everything refuses it and changes nothing; return the advice."""
    verdict, text, advice = _point(device)
    assert verdict == "refused", text
    done = converted_on(device)
    assert (done.code, done.out) == (3, ""), done
    assert f"{ROOM}: {text}" in done.err
    assert advice in done.err
    assert kind_of(device) == "ext4"
    run("e2fsck", "-f", "-n", device)
    return advice


def test_small_pieces_are_no_room_and_the_advice_brings_them_together(image: Path) -> None:
    with on(image) as root:
        scatter(root, 16 * MIB, used=MIB)
        before = manifest.manifest(root, exclude=OWN)
        status = os.statvfs(root)
        assert status.f_bfree > status.f_blocks * 0.9, "nearly all is free"
    with attached(image) as device:
        advice = _expect_refused(device)
        (steps,) = re.findall(r"e2fsck -f .*", advice)
        assert device in steps
        for step in steps.split(" && "):
            run(*step.replace("e2fsck -f", "e2fsck -f -p").split())
        assert _point(device)[0] == "ok"
        done = converted_on(device)
        assert done.code == 0, done
        run("btrfs", "check", "--readonly", device)
    with on(image) as root:
        told = manifest.compare(before, manifest.manifest(root, exclude=OWN))
    # What resize2fs moves is as old as that.
    assert [line for line in told if ": modified: " not in line] == []


@pytest.mark.parametrize("leave", [200, 500])
def test_both_sides_of_the_gate(image: Path, leave: int) -> None:
    with on(image) as root:
        fill_with_small_files(root, 3000, 1900)
        scatter(root, 30 * MIB, used=MIB, leave=leave * MIB)
        before = manifest.manifest(root, exclude=OWN)
    found = _contents(image)
    assert found.room is not None
    with attached(image) as device:
        if leave == 200:
            _expect_refused(device)
            return
        assert _point(device)[0] == "ok"
        done = converted_on(device)
        assert done.code == 0, done
    expect(image, "btrfs", before)
    with on(image) as root:
        used = run("btrfs", "filesystem", "usage", "-b", str(root))
    assert int(re.findall(r"Device unallocated:\s+(\d+)", used)[0]) >= 256 * MIB
    metadata = int(re.findall(r"Metadata,single: Size:\d+, Used:(\d+)", used)[0])
    assert metadata < found.room.needed_bytes(found.items_bytes) < 3 * metadata


@pytest.mark.parametrize(
    ("piece", "used", "leave"),
    [(1 << 16, 4096, 0), (1 << 16, 4096, 100), (33 * MIB, 20 * MIB, 0), (40 * MIB, MIB, 0)],
)
def test_what_is_counted_is_what_btrfs_convert_reports(
    tmp_path: Path, piece: int, used: int, leave: int
) -> None:
    image = tmp_path / "disk.img"
    with image.open("wb") as file:
        file.truncate(400 * MIB)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-b", "4096", "-J", "size=4", str(image))
    with on(image) as root:
        scatter(root, piece, used=used, leave=leave * MIB)
    room = _contents(image).room
    assert room is not None
    with attached(image) as device:
        options = ("--uuid", "new", "--no-progress")
        done = subprocess.run(
            ("btrfs-convert", *options, device), capture_output=True, text=True, check=False
        )
    (reported,) = re.findall(r"Free space:\s+(\d+)", done.stdout)
    # The last piece it takes to be longer than it is, by less than a stripe.
    assert 0 <= int(reported) - room.free_bytes < 1 << 16
    assert (done.returncode == 0) == (room.metadata_bytes > 0), done


# The conversion without the gate: of what is refused, btrfs-convert shows why.
_UNGATED = """
import sys
from fs_rollback.convert.disk.room import Room
from fs_rollback.convert.run import convert
from fs_rollback.errors import Error
from fs_rollback.system.root import offline
Room.needed_bytes = lambda *_: 0
Room.left_bytes = staticmethod(lambda _: 0)
offline.take_own_mounts()
try:
    convert.run(sys.argv[1], lambda _: None)
except Error as error:
    print(error, error.hint, sep="\\n")
    sys.exit(error.exit_code)
"""


def _converted_ungated(device: str, path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-c", _UNGATED, device),
        capture_output=True,
        text=True,
        env=commands.environment(PATH=f"{path}:/usr/sbin:/sbin"),
        check=False,
    )


def test_where_it_cannot_begin_the_ext4_is_as_before(image: Path) -> None:
    with on(image) as root:
        scatter(root, 4 * MIB, used=MIB)
        before = manifest.manifest(root, exclude=OWN)
    with attached(image) as device:
        done = _converted_ungated(device, os.environ["PATH"])
    assert done.returncode == 1, done
    said, hint = done.stdout.splitlines()
    assert f"btrfs-convert failed, the ext4 on {device} is as before: {_NO_ROOM}: " in said
    assert "'fs-rollback convert check' shows how much" in hint
    expect(image, "ext4", before)


@pytest.mark.parametrize(
    ("said", "signal", "told"),
    [
        # As btrfs-progs 7.1 does in the middle of many small files.
        ("Unable to find block group for 0", "ABRT", f"it crashed (SIGABRT), as {_NO_ROOM}"),
        ("free(): invalid pointer", "SEGV", "it crashed (SIGSEGV)"),
    ],
)
def test_a_crash_is_put_into_words(
    image: Path, tmp_path: Path, said: str, signal: str, told: str
) -> None:
    script = tmp_path / "bin/btrfs-convert"
    script.parent.mkdir()
    lines = f"echo '{said}'; echo 'btrfs-convert(+0x1ebd7) [0x7fe4c50b0bd7]'; kill -{signal} $$"
    script.write_text(f'#!/bin/sh\n[ "$1" = -O ] && exit\n{lines}\n')
    script.chmod(0o755)
    with attached(image) as device:
        done = converted_on(device, PATH=f"{script.parent}:{os.environ['PATH']}")
        assert done.code == 1, done
        assert done.err.splitlines()[-2].endswith(f"the ext4 on {device} is as before: {told}")
        assert kind_of(device) == "ext4"


def test_stable_inodes_is_converted(image: Path, template: Path) -> None:
    run("debugfs", "-w", "-R", "feature stable_inodes", str(image))
    with on(template) as root:
        before = manifest.manifest(root, exclude=OWN)
    with attached(image) as device:
        done = converted_on(device)
        assert done.code == 0, done
    expect(image, "btrfs", before)
