# SPDX-License-Identifier: GPL-2.0-or-later
"""btrfs-convert(8): how it is started, what it says, and what a person does where it fails."""

from __future__ import annotations

import re
import signal
from typing import Callable

from ...errors import Error
from ...system.linux import process
from ...system.linux.process import Say
from . import mounted

_PERCENT = re.compile(r"\[\s*(\d+)/\s*(\d+)\]")

# How it says that it could not allocate a block; 28 is ENOSPC.
_NO_SPACE = re.compile(
    r"No space left on device|ENOSPC|(?<!\d)-28(?!\d)|Unable to find block group"
)

_INHIBIT = (
    "systemd-inhibit",
    "--what=shutdown:sleep:idle:handle-power-key:handle-suspend-key:handle-lid-switch",
    "--who=fs-rollback",
    "--why=converting the root",
)


def convert(device: str, say: Say, lock: int) -> tuple[int, str]:
    """Make a btrfs of an ext4 that is not mounted; returns the exit code and why it failed.

    `lock` is what disk.owned gives. Raises ProcessError where it cannot be started.
    """
    options = ["--uuid", "copy", "--copy-label", "--progress", *_features()]
    return _watched(["btrfs-convert", *options, device], device, say, lock)


def convert_back(device: str, say: Say, lock: int) -> tuple[int, str]:
    """Make the ext4 again that it was; the same otherwise. Raises KernelError too."""
    result = _watched(["btrfs-convert", "-r", device], device, say, lock)
    mounted.flush(lock)  # btrfs-convert(8) leaves that to the next one
    return result


def _watched(command: list[str], device: str, say: Say, lock: int) -> tuple[int, str]:
    counted, no_space = progress(say), []

    def heard(line: str) -> None:
        if _NO_SPACE.search(line):
            no_space.append(line)
        # Nothing can keep a mount from another process: what is converted then is lost.
        if mounted.is_mounted_anywhere(device):
            raise Error(
                f"{device} was mounted during the conversion, so the conversion was stopped",
                hint="Unmount it, keep others from mounting it, and start again.",
            )
        counted(line)

    # Where logind runs, nobody switches off meanwhile: systemd-inhibit(1).
    with process.beside([*_INHIBIT, "sleep", "infinity"]):
        code, last = process.watch(command, heard, pass_fds=[lock])
    return code, failure(code, last, no_space=bool(no_space)) if code else last


def failure(code: int, last: str, *, no_space: bool) -> str:
    """Return why btrfs-convert(8) failed; its last lines are of no use where it crashes.

    `no_space`: a line of it said so.
    """
    room = "there was no room for the btrfs metadata"
    if code >= 0:
        return f"{room}: {last}" if no_space else last
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal has no name
        name = f"signal {-code}"
    return f"it crashed ({name})" + (f", as {room}" if no_space else "")


def _features() -> list[str]:
    """Return the options for a btrfs that every kernel since 5.14 can write.

    Newer programs make a block group tree, for which it takes Linux 6.1: a rescue system's may be
    newer than the machine's kernel.
    """
    known = process.run(["btrfs-convert", "-O", "list-all"], with_errors=True)
    wanted = (("free-space-tree", "free-space-tree"), ("block-group-tree", "^block-group-tree"))
    chosen = [option for name, option in wanted if name in known]
    return ["-O", ",".join(chosen)] if chosen else []


def progress(say: Say) -> Callable[[str], None]:
    """Return what hears a program's counters ("[ 10/ 200]") and says every tenth of the way."""
    said = {"": -1}

    def heard(line: str) -> None:
        match = _PERCENT.search(line)
        if match is None or not int(match.group(2)):
            return
        what = line[: match.start()].strip(" []oO.")
        # It counts more than it has said that there are.
        tenth = min(int(match.group(1)) * 10 // int(match.group(2)), 10)
        if said.get(what, -1) < tenth:
            said[what] = tenth
            say(f"{what}: {tenth * 10} %")

    return heard


def by_hand(device: str, *, back: bool = False) -> list[str]:
    """Return what a person does where a conversion, or the way `back`, was cut off for good."""
    run = f"fs-rollback convert run{' --back' * back} --device {device}"
    return [
        f"dd if={device} of=/ELSEWHERE/copy bs=1M   # first copy the whole device",
        f"{run}   # continues, or restores what was saved",
        f"blkid -p {device}   # shows what it is; the rescue sheet describes what to do then",
    ]
