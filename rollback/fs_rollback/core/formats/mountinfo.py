# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads /proc/PID/mountinfo, proc_pid_mountinfo(5)."""

from __future__ import annotations

import os
from collections.abc import Container, Sequence
from posixpath import normpath
from typing import NamedTuple, Optional

# FUSE on a block device is "fuseblk".
_WITH_SERVER = frozenset(("fuse", "nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "afs"))


class Mount(NamedTuple):
    """One mounted filesystem; `root` is the subvolume path from the top level, with a slash."""

    device: str
    root: str
    point: str
    options: tuple[str, ...]
    fstype: str
    source: str
    super_options: tuple[str, ...]
    id: int = 0

    @property
    def read_only(self) -> bool:
        """Whether the filesystem itself, not only this mount of it, is read-only."""
        return "ro" in self.super_options

    @property
    def has_server(self) -> bool:
        """Whether a program or another machine serves it, which may no longer answer."""
        return self.fstype in _WITH_SERVER or self.fstype.startswith("fuse.")

    @property
    def subvolume_id(self) -> int:
        """The btrfs subvolume ID, 0 if the options do not tell."""
        for option in self.super_options:
            if option.startswith("subvolid="):
                return int(option[9:])
        return 0


def parse(text: str) -> tuple[Mount, ...]:
    """Return the mounts in the order of the file. Raises ValueError on a malformed line."""
    # Not splitlines(): the kernel escapes the newline in a path, and nothing else that ends a line.
    return tuple(_line(line) for line in text.split("\n") if line)


def _line(line: str) -> Mount:
    before, separator, after = line.partition(" - ")
    fields, tail = before.split(" "), after.split(" ")
    if not separator or len(fields) < 6 or len(tail) < 3:
        raise ValueError(f"not a line of mountinfo: {line!r}")
    return Mount(
        device=fields[2],
        root=unescape(fields[3]),
        point=unescape(fields[4]),
        options=tuple(fields[5].split(",")),
        fstype=tail[0],
        source=unescape(tail[1]),
        super_options=tuple(tail[2].split(",")),
        id=int(fields[0]),
    )


def unescape(text: str) -> str:
    r"""Return `text` with \040 and the like (getmntent(3)) as the bytes they stand for."""
    if "\\" not in text:
        return text
    raw = bytearray()
    data = os.fsencode(text)
    position = 0
    while position < len(data):
        digits = data[position + 1 : position + 4]
        octal = len(digits) == 3 and all(48 <= digit <= 55 for digit in digits)
        if data[position] == 92 and octal and int(digits, 8) < 256:
            raw.append(int(digits, 8))
            position += 4
        else:
            raw.append(data[position])
            position += 1
    return os.fsdecode(bytes(raw))


def containing(mounts: Sequence[Mount], path: str) -> Optional[Mount]:
    """Return the mount that has an absolute, real path: the longest match, the last of equals."""
    best: Optional[Mount] = None
    for mount in mounts:
        if is_within(path, mount.point) and (best is None or len(mount.point) >= len(best.point)):
            best = mount
    return best


def is_forced_read_only(mounts: Sequence[Mount], mount: Mount) -> bool:
    """Whether the filesystem of `mount` made itself read-only after an error.

    An error does not change the flags of its mounts; mount(8) changes both, also for a device that
    accepts no writes. False if one of its mounts is read-only: then nobody can tell.
    """
    ours = (other for other in (*mounts, mount) if other.device == mount.device)
    return mount.read_only and not any("ro" in other.options for other in ours)


def checked_path(path: str) -> str:
    """Return an absolute path in its shortest form. Raises ValueError for any other."""
    if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
        raise ValueError(path)
    return "/" + normpath(path).lstrip("/")


def is_within(path: str, directory: str) -> bool:
    """Whether `path` is `directory` or lies below it, by component, without access to the disk."""
    if directory == "/":
        return True
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def is_within_any(path: str, directories: Container[str]) -> bool:
    """Whether `path` is one of the directories or lies below one; fast for thousands of either."""
    end = path.find("/", 1)  # from above: what is kept is near the root, however deep a path is
    while end > 0:
        if path[:end] in directories:
            return True
        end = path.find("/", end + 1)
    return path in directories or "/" in directories
