# SPDX-License-Identifier: GPL-2.0-or-later
"""A machine on its way from ext4 to btrfs: prepared, filled, converted, and what is in it then."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests import filling, manifest
from tests.kernel import commands
from tests.kernel.attached import attached
from tests.kernel.newer_tools import newer_btrfs_progs
from tests.manifest import Manifest

from .conversion import LVM_BYTES
from .ext4 import Ext4Disks
from .loader import GrubLike
from .machine import Machine
from .stories import all_wanted

_PREPARE = "fs-rollback convert prepare --yes --have-backup"
# About a gigabyte of a machine's own files, or a few that are linked, beside those of every kind.
_COPIES = 3 if all_wanted() else 0

# What the conversion itself changes, and what lies outside the 32 bits that it takes of a time.
_OWN = ("etc/fstab", "fs-snapshots", "ext2_saved", "lost+found", "filling/times")
# What the boot loader writes, and what a boot and transactions write.
LOADER = ("boot/grub2/grubenv",)
RUNNING = (
    *LOADER, "var", "root", "tmp", "run", "home", "boot/loader/entries", "etc/lvm", "etc/.updated",
    "usr/bin/app", "usr/share/app",
)  # fmt: skip
# Python's caches, and directories that are newer: the fstab has been put into one of them.
_BESIDE = re.compile(r"'.*/__pycache__['/]|'(?:\.|etc|usr/bin|usr/share)': modified: ")

WELL = """
well() {
    [ "$(findmnt --noheadings --output FSTYPE --mountpoint /)" = "$1" ]
    findmnt --noheadings --output OPTIONS --mountpoint / | grep -E '^rw,'
    findmnt --verify --tab-file /etc/fstab
    [ -z "$(systemctl --failed --quiet --plain --no-legend)" ]
}
checked() {
    fs-rollback status | grep -Ex 'Waiting: +nothing'
    code=0
    fs-rollback check >check || code=$?
    cat check
    [ "$code" -le 1 ]
    not grep -E '^(broken|unknown)' check
}
lies_in() { [ "$(findmnt --noheadings --output FSROOT --mountpoint "$1")" = "$2" ]; }
"""


def ext4(machine: Machine) -> Ext4Disks:
    """Return the disks of a machine with an ext4 root."""
    assert isinstance(machine.disks, Ext4Disks)
    return machine.disks


def prepare(machine: Machine, *options: str, copies: int = _COPIES) -> Manifest:
    """Fill the root of a machine, prepare the conversion of it, and return what is in it.

    With `copies` of its own /usr, each a third of a gigabyte and with hard links, where all is
    wanted.
    """
    disks = ext4(machine)
    with disks.top() as top:
        # 5000 files are minutes under emulation.
        filling.fill(top / "filling", wide=5000 if all_wanted() else 0)
        real = top / "real"
        real.mkdir()
        for number in range(copies if all_wanted() else 0):  # each takes a minute more
            _copy("--archive", top / "usr", real / f"copy-{number}")
        _copy("--archive", "--link", top / "usr/lib/python3", real / "linked")
    said = disks.run_inside(" ".join([_PREPARE, *options]))
    assert "Prepared. Now " in said, said
    return files(machine)


def files(machine: Machine) -> Manifest:
    """Return what is in the root of a machine that is off and has not been booted since `prepare`.

    But for what a conversion changes. In a process of its own: it works in a directory, and other
    machines' stories are told in this one.
    """
    program = [sys.executable, os.path.abspath(manifest.__file__), "list"]
    unwanted = [word for path in _OWN for word in ("--exclude", path)]
    with ext4(machine).top() as top:
        listed = subprocess.run([*program, *unwanted, top], check=True, stdout=subprocess.PIPE)
    return manifest.load(listed.stdout.decode())


def expect_files(machine: Machine, before: Manifest, but_for: Sequence[str] = ()) -> None:
    """Check that each file is what it was, but for these paths: LOADER, or RUNNING."""
    lines = [
        line
        for line in manifest.compare(before, files(machine))
        if not any(re.match(rf"'{re.escape(path)}[/']", line) for path in but_for)
        and not _BESIDE.match(line)
    ]
    assert lines == [], "\n".join(lines[:50])


def check_filesystem(machine: Machine) -> None:
    """Check that the root's filesystem is whole, as its own tools see it; it was not cut off."""
    with root_device(machine) as device:
        command = {
            "ext4": ["e2fsck", "-f", "-n", device],
            "btrfs": [os.fspath(newer_btrfs_progs() / "btrfs"), "check", "--readonly", device],
        }[ext4(machine).root_type]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def root_device(machine: Machine) -> Iterator[str]:
    """Give a block device of this host with the root of a machine that is off."""
    disks = ext4(machine)
    options = ["--offset", str(disks.offset)]
    if disks.design.lvm:
        options += ["--sizelimit", str(LVM_BYTES)]
    with attached(disks.root, *options) as device:
        yield device


def convert_run(
    machine: Machine, *options: str, before_path: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run `convert run` on the root of a machine that is off, as a rescue system does.

    That is this host, with the btrfs-progs that the manual advises; of the directory `before_path`
    a program is taken first, and finds the number of the command's process in $CONVERT_RUN.
    """
    launcher = commands.arguments(Path("/"), ("convert",))[:-2]
    path = f"{before_path}:{newer_btrfs_progs()}:{os.environ['PATH']}:/usr/sbin:/sbin".lstrip(":")
    with root_device(machine) as device:
        command = ["sh", "-c", 'export CONVERT_RUN=$$; exec "$@"', "sh"]
        command += [*launcher, "run", "--device", device, "--yes", *options]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env=commands.environment(PATH=path),
            cwd="/",
            timeout=300,
            check=False,
        )
    assert "Traceback" not in done.stderr, done.stderr
    return done


def console(machine: Machine) -> str:
    """Return what a machine wrote to its console at its last boot."""
    directories = sorted(machine.directory.glob("boot[0-9]*"), key=lambda path: int(path.name[4:]))
    return (directories[-1] / "console.log").read_bytes().decode(errors="replace")


@contextmanager
def by_the_entry(machine: Machine) -> Iterator[None]:
    """Let somebody choose the entry that converts at each boot."""
    assert isinstance(machine.loader, GrubLike)
    machine.loader.at_the_menu = _the_entry
    try:
        yield
    finally:
        machine.loader.at_the_menu = None


def _the_entry(names: Sequence[str]) -> str:
    (name,) = [name for name in names if name.endswith("fs-convert")]
    return name


def _copy(*arguments: str | Path) -> None:
    subprocess.run(["cp", *map(str, arguments)], check=True)
