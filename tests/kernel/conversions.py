# SPDX-License-Identifier: GPL-2.0-or-later
"""Systems that are prepared for a conversion, and `convert run` on them, whole or cut off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests import filling, manifest
from tests.kernel import commands
from tests.kernel.attached import attached, uuid_of
from tests.kernel.commands import Done
from tests.kernel.ext4_images import LEAST_BYTES, UUID, fill, make, on
from tests.kernel.machine import run

FSTAB = f"# made by a test\nUUID={UUID} / btrfs defaults 1 0\n"
# As many files in one directory as need an index on ext4; test_convert_whole.py has thousands.
_WIDE = 250
# What the conversion itself changes, and what lies outside the 32 bits that it takes of a time.
OWN = ("etc/fstab", "fs-snapshots", "ext2_saved", "filling/times", "lost+found", ".")
_PREPARE = """
import sys
from fs_rollback.convert.plan import edits, state
from fs_rollback.convert.plan.plan import Preparation
from fs_rollback.convert.plan.steps import WriteFile
from fs_rollback.convert.prepare import prepare_machine
from fs_rollback.core.boot.conversion_state import NEW_FSTAB, Stage
from fs_rollback.system.linux.durable import write_file
root, uuid = sys.argv[1:]
text = open(f"{root}/etc/fstab").read()
steps = (WriteFile(NEW_FSTAB, None, edits.btrfs_fstab(text), "a test"),)
prepared = Preparation(Stage.PREPARED, "2026-11-26T03:00:00Z", "/dev/x", uuid, text, steps)
prepare_machine._make_directory(root)
state.write(root, prepared)
write_file(f"{root}/{NEW_FSTAB}", steps[0].after, 0o600)
"""
# The command, with something done to it before or after one of its phases.
_OBSERVED = """
import os, signal, sys
from fs_rollback.convert.run import convert
from fs_rollback.errors import Error
from fs_rollback.system.root import offline
device, what, moment, phase = sys.argv[1:]
def observe(*now):
    if now == (moment, phase):
        if what == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        raise Error(f"{moment} {phase}")
offline.take_own_mounts()
try:
    convert.run(device, print, observe)
except Error as error:
    print(error)
    sys.exit(error.exit_code)
"""


def prepared_image(directory: Path, *options: str, size_bytes: int = LEAST_BYTES) -> Path:
    """Make the image of a prepared system with files of every kind."""
    tree = directory / "tree"
    fill(tree)
    image = directory / "disk.img"
    make(image, tree, *options, size_bytes=size_bytes)
    with on(image) as root:
        filling.fill(root / "filling", wide=_WIDE)
        command = [sys.executable, "-c", _PREPARE, str(root), UUID]
        subprocess.run(command, check=True, env=commands.environment())
    return image


def command(*words: str, **variables: str) -> Done:
    """Run `convert` with these words."""
    launcher = commands.arguments(Path("/"), ("convert",))[:-2]
    variables["PATH"] = variables.get("PATH", os.environ["PATH"]) + ":/usr/sbin:/sbin"
    done = subprocess.run(
        [*launcher, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=commands.environment(**variables),
        cwd="/",
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def converted_on(device: str, **variables: str) -> Done:
    """Run the conversion of a device."""
    return command("run", "--device", device, "--yes", "--have-backup", **variables)


def started(device: str) -> subprocess.Popen[str]:
    """Start it and leave it to the caller."""
    launcher = commands.arguments(Path("/"), ("convert",))[:-2]
    words = ("run", "--device", device, "--yes", "--have-backup")
    return subprocess.Popen(
        [*launcher, *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=commands.environment(PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"),
        cwd="/",
    )


def observed(device: str, what: str, moment: str, phase: str) -> subprocess.CompletedProcess[str]:
    """Run it and have it fail, or killed, before or after one of its phases."""
    path = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return subprocess.run(
        [sys.executable, "-c", _OBSERVED, device, what, moment, phase],
        capture_output=True,
        text=True,
        env=commands.environment(PATH=path),
        timeout=120,
        check=False,
    )


def kind_of(device: str) -> str:
    return run("blkid", "-p", "-o", "value", "-s", "TYPE", device).strip()


def expect(image: Path, kind: str, before: manifest.Manifest) -> None:
    """Check the image: its kind, that it is whole, every file of it, and its fstab."""
    with attached(image) as device:
        assert kind_of(device) == kind
        assert uuid_of(device) == UUID
        if kind == "ext4":
            run("e2fsck", "-f", "-n", device)
        else:
            run("btrfs", "check", "--readonly", device)
    with on(image) as root:
        told = manifest.compare(before, manifest.manifest(root, exclude=OWN))
        # Its directory is newer than it was where the fstab was changed.
        assert [line for line in told if not line.startswith("'etc': modified")] == []
        assert ((root / "etc/fstab").read_text() == FSTAB) == (kind == "btrfs")
