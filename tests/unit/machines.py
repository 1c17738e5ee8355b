# SPDX-License-Identifier: GPL-2.0-or-later
"""Four machines, one a layout, as a model of a filesystem and as the situation to plan from."""

from __future__ import annotations

from typing import NamedTuple

from fs_rollback.core.boot.layout import Kind, Layout
from fs_rollback.core.rollback.plan import Situation
from fs_rollback.core.snapshots.record import Kind as SnapshotKind
from fs_rollback.core.snapshots.record import Record, Source
from fs_rollback.core.snapshots.snapshot import STORE, Snapshot
from tests.unit.filesystem import Filesystem
from tests.unit.samples import NOW, uuid_of

LAYOUTS = ("fedora", "oracle", "opensuse", "2011")
SPARE = "fs-snapshots/root_20261123132957"
REPLACED = "replaced_20261123132957"
NAME = "yum_20261122080000"
_ROOT = {"fedora": "root", "oracle": "root", "opensuse": "@/.snapshots/1/snapshot", "2011": ""}
_OPTIONS = {"fedora": "subvol=root,", "oracle": "subvol=root,", "opensuse": "", "2011": ""}


class Machine(NamedTuple):
    filesystem: Filesystem
    situation: Situation
    root: str

    def next_root(self) -> str:
        """Return the path of what a boot would find now."""
        if self.situation.layout.kind is Kind.NAMED:
            return self.root
        return self.filesystem.path_of(self.filesystem.default)


def join(root: str, path: str) -> str:
    return f"{root}/{path}".strip("/")


def files(version: int, options: str) -> dict[str, str]:
    return {
        "usr/bin/app": f"version {version}",
        "usr/lib/modules/6.1/modules.dep": "",
        "etc/fstab": f"UUID=5b5b / btrfs {options}noatime 0 0\n",
        "root/.profile": f"written {version}",
        "var/log/messages": f"line {version}",
        "var/data": f"data {version}",
    }


def machine(layout: str) -> Machine:
    """Return a machine with a snapshot, an upgrade after it and subvolumes inside the root."""
    root, options = _ROOT[layout], _OPTIONS[layout]
    disk = Filesystem()
    if layout == "opensuse":
        disk.add("@", {"x": "kept"})
    if root:
        disk.add(root, files(1, options))
    else:
        disk.trees[""].files.update(files(1, options))
    if layout != "opensuse":
        disk.add("home", {"user/letter": "1"})
    disk.add(join(root, "var/lib/machines"), {"guest": "1"})
    disk.add(join(root, "var/lib/machines/inner"), {"file": "1"}, read_only=True)
    if layout in ("oracle", "opensuse"):
        disk.set_default(disk.trees[root].id)
    disk.snapshot(root, f"{STORE}/{NAME}", read_only=True)
    target = disk.trees[f"{STORE}/{NAME}"]
    if layout == "2011":
        disk.add("ext2_saved", {"image": "ext4"})
        disk.trees[""].files["usr/bin/new"] = "new"
    upgraded = {**disk.trees[root].files, **files(2, options)}
    disk.trees[root].files.update(upgraded)
    disk.trees[join(root, "var/lib/machines")].files["guest"] = "2"
    disk.records[NAME] = "the record"
    disk.sync()
    return Machine(disk, _situation(disk, root, layout, target.stubs), root)


def _situation(disk: Filesystem, root: str, layout: str, stubs: frozenset[str]) -> Situation:
    subvolumes = disk.subvolumes()
    by_path = {subvolume.path: subvolume for subvolume in subvolumes}
    place = f"{STORE}/{NAME}"
    number = disk.trees[root].id
    named = layout in ("fedora", "oracle")
    source = Source(root, number, uuid_of(number))
    record = Record(NAME, SnapshotKind.PRE, NOW, by_path[place].uuid, source)
    return Situation(
        layout=Layout(Kind.NAMED if named else Kind.DEFAULT, by_path[root], ()),
        subvolumes=subvolumes,
        default_id=disk.default,
        target=Snapshot(NAME, by_path[place], record),
        target_from_top_level=not root,
        target_fstab_subvolume="root" if named else "",
        spare=SPARE,
        replaced=REPLACED,
        created="2026-11-23T13:29:57Z",
        keep=("/root", "/var/log"),
        mounted_elsewhere=frozenset({"home"} if layout != "opensuse" else ()),
        stubs=stubs,
    )
