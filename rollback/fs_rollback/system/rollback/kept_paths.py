# SPDX-License-Identifier: GPL-2.0-or-later
"""Which of the paths to keep are part of the root subvolume, and may be taken from it."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ...config import Config
from ...core.formats.mountinfo import is_within
from ...core.snapshots.names import shown
from ...errors import KernelError, RefusedError
from ..linux import files
from ..machine.host import Host
from ..machine.rpmdb import rpmdb_path
from ..root import root_lines

# What packages own goes back as a whole or not at all.
_OWNED_BY_PACKAGES = ("/usr", "/etc", "/boot")
# In bytes. It has to fit into a symbolic link (system/execute/arrivals.py), and into what /proc
# tells of it.
_LONGEST_PATH = 3900


def resolve(host: Host, wanted: Sequence[str]) -> tuple[str, ...]:
    """Return the real paths, from the root, of what lies inside the root subvolume, sorted.

    A pattern stands for what it matches now. Left out is what does not exist, what is mounted
    there, what lies in a nested subvolume (that is carried over) and what another path contains.
    Raises RefusedError for what packages own, and for a path that is too long.
    """
    refuse_long(wanted)
    device = os.fstat(host.root_fd).st_dev
    mounted = root_lines.mount_points(host)
    found: set[str] = set()
    said = {path: one for one in wanted for path in expand(host.root_fd, one) or (one,)}
    for path in (*said, *_bound(host, tuple(said))):
        real = _real_path(host, path)
        _refuse_packages(host, said.get(path, path), real or path)
        outside = any(is_within(path, m) or (real and is_within(real, m)) for m in mounted)
        if real is not None and not outside and files.device_of(host.root_fd, real) == device:
            found.add(real)
    return tuple(sorted(p for p in found if not any(p != q and is_within(p, q) for q in found)))


def refuse_long(paths: Sequence[str]) -> None:
    """Raise RefusedError for a path that is too long to be kept."""
    for path in paths:
        if len(os.fsencode(path)) > _LONGEST_PATH:
            raise _too_long(path)


def _too_long(path: str) -> RefusedError:
    return RefusedError(
        f"{shown(path)} cannot be kept: its path has more than {_LONGEST_PATH} bytes",
        hint="Keep a directory above it, with everything in it.",
    )


def expand(tree: int, path: str) -> list[str]:
    """Return what a path to keep stands for in a tree: nothing if nothing is there.

    What exists under the very name is that. Else `*`, `?` and `[...]` are patterns as a shell's:
    none matches a "/" or a dot that a name begins with. Raises KernelError, and RefusedError where
    they match a path that is too long.
    """
    if _is_there(tree, path):
        return [path]
    found = [""]
    for part in path.strip("/").split("/"):
        if any(character in part for character in "*?["):
            found = [f"{base}/{name}" for base in found for name in _matching(tree, base, part)]
        else:
            found = [f"{base}/{part}" for base in found]
    refuse_long(found)
    return [one for one in found if _is_there(tree, one)]


def dangling_link(tree: int, path: str) -> tuple[str, str] | None:
    """Return the symbolic link, and its target, for which nothing is at a path of a tree.

    None where something is there, or no link is to blame. Raises KernelError.
    """
    parts = path.strip("/").split("/")
    for depth in range(1, len(parts) + 1):
        place = "/" + "/".join(parts[:depth])
        if _is_there(tree, place):
            continue
        target = files.link_in_tree(tree, place)
        return None if target is None else (place, target)
    return None


def _is_there(tree: int, path: str) -> bool:
    """Whether there is such a path; what is mounted is not entered and counts as there."""
    return files.is_beyond_mount(tree, path) or files.device_of(tree, path) is not None


def _matching(tree: int, base: str, pattern: str) -> list[str]:
    if files.is_beyond_mount(tree, base or "/"):
        return []
    names = files.list_in_tree(tree, base or "/") or []
    hidden = pattern.startswith(".")
    return [n for n in names if fnmatchcase(n, pattern) and (hidden or not n.startswith("."))]


def missing(host: Host, wanted: Sequence[str]) -> list[str]:
    """Return a warning for each path or pattern that stands for nothing in the root."""
    return [
        f"nothing is kept for {path}: there is no such path"
        for path in wanted
        if path not in Config().keep and not expand(host.root_fd, path)
    ]


def _bound(host: Host, wanted: Sequence[str]) -> list[str]:
    """Return where the data of the wanted paths is that fstab binds there from elsewhere."""
    found = []
    for entry in host.fstab_entries():
        if {"bind", "rbind"} & set(entry.options):
            for path in wanted:
                if is_within(path, entry.point):
                    found.append(entry.spec.rstrip("/") + path[len(entry.point.rstrip("/")) :])
                elif is_within(entry.point, path):
                    found.append(entry.spec)
    return found


def _real_path(host: Host, path: str) -> str | None:
    """Return a path without symbolic links in the root; None if there is none in it.

    Raises RefusedError where that is too long.
    """
    try:
        absolute = files.real_path(host.root_fd, path, cross=False)
    except KernelError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise _too_long(path) from error
    if absolute is None:
        return None
    real = os.path.normpath("/" + os.path.relpath(absolute, host.root))
    refuse_long((real,))
    return real


def _refuse_packages(host: Host, path: str, real: str) -> None:
    rpmdb = rpmdb_path(host.root_fd)
    owned = {*_OWNED_BY_PACKAGES, *(["/" + rpmdb] if rpmdb else [])}
    for place in owned:
        if is_within(place, real) or (place != "/etc" and is_within(real, place)):
            raise RefusedError(
                f"{path} cannot be kept: {place} reverts together with the packages",
                hint="Keep paths that hold data, for instance /home; see 'keep' in the"
                " configuration and --keep.",
            )
