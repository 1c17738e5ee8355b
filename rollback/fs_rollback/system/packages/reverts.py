# SPDX-License-Identifier: GPL-2.0-or-later
"""What a rollback would revert: packages, and files that were written since the snapshot."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable

from ...core.packages.changes import Item, between
from ...core.snapshots.age import last_before_set_aside
from ...core.snapshots.record import PackageChange
from ...core.snapshots.snapshot import Snapshot, Subvolume
from ..linux import files, process
from ..machine.host import Host
from ..machine.rpmdb import rpmdb_path

# A name may hold anything, a newline and what looks like another line too.
_FOUND = re.compile(
    r"^inode \d+ file offset \d+ len \d+ disk start \d+ offset \d+ gen \d+ flags \S+ (.+)$",
    re.MULTILINE,
)
_QUERY = "%{NAME}\\t%{ARCH}\\t%|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}\\n"


def packages(host: Host, target: Snapshot) -> tuple[PackageChange, ...]:
    """Return what happens to the packages when `target` becomes the root.

    Read by rpm from the two databases, not from records. Raises ProcessError.
    """
    with files.opened(host.path(target.path)) as tree:
        return between(installed(host.root_fd), installed(tree))


def installed(tree: int) -> set[Item]:
    """Return the packages in the rpm database of a tree (an open directory), without an action.

    rpm reads a copy: SQLite wants to write beside the database, which a read-only snapshot does
    not allow, and to know its path, which a detached mount does not have. Raises ProcessError.
    """
    place = rpmdb_path(tree)
    if place is None:
        return set()
    # In /run, which has room where the disk is full: a good reason to roll back.
    memory = "/run" if os.access("/run", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="fs-rollback-", dir=memory) as copy:
        for name in files.list_in_tree(tree, place) or []:
            files.copy_from_tree(tree, f"{place}/{name}", os.path.join(copy, name))
        arguments = ("rpm", "--dbpath", copy, "--query", "--all", "--queryformat", _QUERY)
        lines = process.run(arguments).splitlines()
    rows = (line.split("\t") for line in lines)
    return {Item("", row[0], row[1], row[2]) for row in rows if len(row) == 3}


def advisories(host: Host, reverted: Iterable[PackageChange]) -> list[str] | None:
    """Return the security advisories that apply again when these packages have gone back.

    One line each, as dnf words it, from the metadata it has in its cache. None where that cannot
    be asked: dnf speaks of the running system only. Raises ProcessError.
    """
    wanted = {f"{p.name}-{p.old}.{p.arch}" for p in reverted if p.old}
    if not host.is_running:
        return None
    if not wanted:
        return []
    arguments = ("dnf", "--cacheonly", "--quiet", "updateinfo", "list", "--security", "--installed")
    lines = (" ".join(line.split()) for line in process.run(arguments).splitlines())
    return [line for line in lines if wanted.intersection(line.split())]


def written_files(host: Host, root: Subvolume, target: Snapshot) -> list[str]:
    """Return the files of `root` that were written since `target` was what the machine used.

    From the generations in the filesystem (btrfs-subvolume(8), find-new), which a snapshot keeps:
    so it costs what has changed, not what is there, and looks through earlier rollbacks. Deletions
    and changes of mode or owner do not show. Raises ProcessError.
    """
    # The snapshot ended the transaction it was born in: what came later is at least one newer.
    since = str(_end_of_its_time(host, target) + 1)
    path = host.path(root.path)
    arguments = ("btrfs", "subvolume", "find-new", path, since)
    found = _FOUND.findall(process.run(arguments, pass_fds=(host.top_fd,)))
    return sorted({"/" + path for path in found})


def _end_of_its_time(host: Host, target: Snapshot) -> int:
    """Return the generation after which the target was no longer what the machine used.

    A replaced root was used until it was set aside; the last subvolume made before that tells the
    generation of then, or an earlier one. Its own last generation does not: a later boot removes
    the files that were open and deleted in it, as it does in a read-only snapshot.
    """
    if target.subvolume is None:
        return 0
    last = None
    if target.is_replaced:
        last = last_before_set_aside(target.subvolume, host.subvolumes, host.root_id)
    return (last or target.subvolume).born


def grouped(paths: Iterable[str]) -> dict[str, int]:
    """Count paths by their first two components; in /var/lib, where each service has one, three."""
    counts: dict[str, int] = {}
    for path in paths:
        depth = 3 if path.startswith("/var/lib/") else 2
        group = "/".join(path.split("/")[: depth + 1])
        counts[group] = counts.get(group, 0) + 1
    return counts
