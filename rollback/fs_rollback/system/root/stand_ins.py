# SPDX-License-Identifier: GPL-2.0-or-later
"""Stand-ins: the empty directories, inode 2, that a snapshot has where subvolumes were nested.

Nobody can write there. In a copy that boots, what is mounted at such a place today stays mounted,
and every other one becomes a plain directory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence

from ...core.boot.layout import Layout
from ...core.formats import fstab
from ...core.formats.mountinfo import is_within, is_within_any
from ...core.snapshots.snapshot import STAGING, STORE, Snapshot
from ..linux import btrfs, files
from ..machine.host import Host


def recorded(snapshot: Snapshot, tree: int) -> tuple[str, ...]:
    """Return where a snapshot (open as `tree`) has stand-ins, from its record if that says it.

    Those in the store, which lies in a root that is the top level, and those of a first boot that
    was cut off are left out.

    For whoever cannot wait: `btrfs.stand_ins` reads all of the tree, and finds those too that the
    root had when the snapshot was taken, which no program of ours leaves there.
    """
    if snapshot.record is None or snapshot.record.nested is None:
        return tuple(p for p in btrfs.stand_ins(tree) if not is_within_any(p, (STORE, STAGING)))
    known = (path for path in snapshot.record.nested if not is_within(path, STAGING))
    return tuple(path for path in known if files.inode_of(tree, path) == btrfs.STUB_INODE)


def outside(host: Host, found: Iterable[str]) -> frozenset[str]:
    """Return the stand-ins, in a copy of a root in the top level, of what is no part of that root.

    A subvolume beside the root is a subvolume in it as long as the root is the top level.
    """
    there = {subvolume.path for subvolume in host.subvolumes} | {"ext2_saved"}
    plain = (path for path in found if "/" not in path and path in there)
    kinds = (None, btrfs.STUB_INODE, btrfs.SUBVOLUME_INODE)
    points = {entry.point for entry in host.fstab_entries()}
    with files.opened(host.path(host.root_subvolume.path)) as root:
        return frozenset(
            p for p in plain if files.inode_of(root, p) in kinds and "/" + p not in points
        )


def mounts(
    host: Host, layout: Layout, tree: int, found: Iterable[str], lost: Collection[str]
) -> tuple[str, ...]:
    """Return the lines of the machine's fstab that a copy of `tree` needs for what is mounted now.

    `found` are the stand-ins in the tree, `lost` the lines of its fstab that mount what is gone.
    Wanted is what is mounted at, above or in the place of a stand-in; and where the tree has old
    data: a conversion makes /home and /boot subvolumes, and without their lines a rollback to
    before that would show the old files there, not those that users have written since.
    """
    entries = host.fstab_entries()
    present = host.fstab_entries(tree)
    theirs = {entry.point for entry in present if entry.text not in lost}
    gone = {entry.point for entry in present if entry.text in lost}
    wanted: list[fstab.Entry] = []
    for entry in entries:
        if not entry.point.startswith("/") or entry.point == "/" or entry.point in theirs:
            continue
        if _is_inside(entry, layout):
            continue  # it is carried over to the same place
        ours = host.identity.is_meant(entry.spec)
        by_name = any(o.startswith(("subvol=", "subvolid=")) for o in entry.options)
        old_data = ours and by_name and files.list_in_tree(tree, entry.point.lstrip("/"))
        if old_data or entry.point in gone or _concerns(entry.point, found):
            wanted += [e for e in _with_source(entries, entry) if e.point not in theirs]
    return tuple(dict.fromkeys(entry.text for entry in entries if entry in wanted))


def _is_inside(entry: fstab.Entry, layout: Layout) -> bool:
    names = [o[7:].strip("/") for o in entry.options if o.startswith("subvol=")]
    return any(is_within(f"/{n}", f"/{layout.root.path}") for n in names if layout.root.path)


def _concerns(point: str, found: Iterable[str]) -> bool:
    return any(is_within(point, f"/{stub}") or is_within(f"/{stub}", point) for stub in found)


def _with_source(entries: Sequence[fstab.Entry], entry: fstab.Entry) -> Iterator[fstab.Entry]:
    """Give a line and, where it binds a directory, the lines that mount what that is in."""
    yield entry
    if {"bind", "rbind"} & set(entry.options):
        above = [e for e in entries if e.point != "/" and is_within(entry.spec, e.point)]
        for other in above:
            if other != entry:
                yield other


def covered(host: Host, path: str) -> bool:
    """Whether fstab mounts something at a path (from the root), or above it."""
    mounted = (entry.point for entry in host.fstab_entries())
    points = (point for point in mounted if point.startswith("/") and point != "/")
    return any(is_within(f"/{path}", point) for point in points)
