# SPDX-License-Identifier: GPL-2.0-or-later
"""The side effects of a rollback, which are shown before the question."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from ...core.formats import fstab
from ...core.formats.mountinfo import is_within, is_within_any
from ...core.rollback.plan import (
    Situation,
    is_too_deep,
    left_stand_ins,
    nested_subvolumes,
    relative,
)
from ...core.snapshots.names import label, shown
from ...core.snapshots.snapshot import LONGEST_PATH
from ...errors import kernel_errors
from ..execute.swap import SwapFile
from ..linux import files, tree_search
from ..machine.host import Host
from ..root import root_lines, stand_ins

Entries = Sequence[fstab.Entry]
# Where the directory of a service ends, that has subvolumes of its own in it.
_SERVICES = (
    r"(/(?:var/(?:lib|snap|opt)|srv|opt|(?:home/[^/]+|root)/\.local/share)/[^/]+)/.",
    # Docker, Podman, containerd, LXD and Incus, wherever they were told to put them
    r"(/.+?)/(?:btrfs/subvolumes|io\.containerd\.snapshotter\.v1\.btrfs|storage-pools)/.",
)
_MOST_PLACES = 5  # that a warning names
_NO_DATA = ("", "boot", "efi", "tmp", "proc", "sys", "dev", "run")
_NO_DISK = ("swap", "tmpfs", "proc", "sysfs", "devpts", "devtmpfs", "cgroup2")


def warnings(
    host: Host, situation: Situation, theirs: Entries, swap_files: Sequence[SwapFile]
) -> Iterator[str]:
    """Yield the warnings; `theirs` is the fstab of the target."""
    yield from _out_of_sight(host, situation)
    yield from _too_deep(host, situation)
    yield from _without_index(situation)
    yield from _no_longer_mounted(host, situation, theirs)
    yield from _not_opened(host, situation)
    yield from _swap_that_changes(situation, swap_files)
    if situation.relabel:
        yield (
            "the first boot of the new root labels all its files for SELinux, which takes minutes,"
            f" and then reboots by itself: {situation.relabel}. If SELinux keeps that boot from"
            " coming up, boot it once with enforcing=0 on the kernel command line"
        )


def mounted(host: Host, situation: Situation, theirs: Entries) -> tuple[str, ...]:
    """Return the mount points outside the root that the new root also mounts: they do not change.

    `theirs` is the fstab of the target. Mounts without data of people or services are left out.
    """
    after = _points_after(situation, theirs)
    return tuple(e.point for e in _data_mounts(host) if after is None or e.point in after)


class Home(NamedTuple):
    """What happens to /home, wherever it is: people ask that first."""

    path: str
    stays: bool
    why: str


def home(host: Host, situation: Situation, carried: Sequence[str], points: Sequence[str]) -> Home:
    """Return whether /home stays as it is, and why; `carried` and `points` as in a Proposal."""
    path, covered = "/home", root_lines.mount_points(host)
    if not is_within_any(path, covered):  # what is mounted is not looked at: it may hang
        real = files.real_path(host.root_fd, path, cross=False)
        if real is None and files.device_of(host.root_fd, path) is None:
            return Home(path, stays=True, why="it does not exist")
        path = os.path.normpath("/" + os.path.relpath(real, host.root)) if real else path
    if is_within_any(path, covered):
        why = _mounted_from(host, path)
        if not is_within_any(path, frozenset(points)):
            why += ", but not mounted after the rollback"
        return Home(path, stays=True, why=why)
    if is_within_any(path, frozenset(situation.keep)):
        return Home(path, stays=True, why="kept: copied from the current root")
    if is_within_any(path, {f"/{nested}" for nested in carried}):
        return Home(path, stays=True, why="a nested subvolume")
    return Home(path, stays=False, why="part of the root, and not among the kept paths")


def _mounted_from(host: Host, path: str) -> str:
    """Return what is mounted at a path, or above it."""
    entries = [e for e in host.fstab_entries() if e.point != "/" and is_within(path, e.point)]
    if any(host.identity.is_meant(entry.spec) for entry in entries):
        return "a subvolume of its own"
    kinds = [entry.fstype for entry in entries if entry.fstype not in ("none", "auto")]
    return f"on another filesystem ({kinds[-1]})" if kinds else "mounted from elsewhere"


def _data_mounts(host: Host) -> Iterator[fstab.Entry]:
    for entry in host.fstab_entries():
        optional = "noauto" in entry.options and "x-systemd.automount" not in entry.options
        bound = {"bind", "rbind"} & set(entry.options)
        odd = not entry.point.startswith("/") or entry.point.split("/")[1] in _NO_DATA
        if not (optional or bound or odd or entry.fstype in _NO_DISK):
            yield entry


def _points_after(situation: Situation, theirs: Entries) -> frozenset[str] | None:
    """Return the mount points of the new root's fstab, None where that is today's."""
    if any(is_within("/etc/fstab", place) for place in situation.keep):
        return None
    added = fstab.parse("\n".join(situation.added_mounts))
    return frozenset(entry.point for entry in (*theirs, *added))


def _no_longer_mounted(host: Host, situation: Situation, theirs: Entries) -> Iterator[str]:
    after = _points_after(situation, theirs)
    lost = [e.point for e in _data_mounts(host) if after is not None and e.point not in after]
    if lost:
        yield (
            f"/etc/fstab in {label(situation.target)} has no line for {', '.join(lost)}, so"
            " it will not be mounted after the rollback. To keep the current file: --keep"
            " /etc/fstab"
        )


def _not_opened(host: Host, situation: Situation) -> Iterator[str]:
    """Say where a line that fstab gets may wait at boot for a device that nothing opens."""
    if any(is_within("/etc/crypttab", place) for place in situation.keep):
        return
    with files.opened(host.path(situation.target.path)) as tree:
        names = _encrypted(host.root_fd) - _encrypted(tree)
    entries = fstab.parse("\n".join(situation.added_mounts))
    points = [e.point for e in entries if e.spec[:1] != "/" or e.spec.startswith("/dev/")]
    others = [e.point for e in entries if e.point in points and not host.identity.is_meant(e.spec)]
    if names and others:
        yield (
            f"/etc/crypttab in {label(situation.target)} has no line for"
            f" {', '.join(sorted(names))}. If {', '.join(others)} is on such a device, the next"
            " boot waits for it until it times out. To keep the current file: --keep"
            " /etc/crypttab"
        )


def _encrypted(tree: int) -> set[str]:
    """Return the names that the crypttab of a tree opens devices under, crypttab(5)."""
    lines = (files.read_in_tree(tree, "etc/crypttab") or "").split("\n")
    return {words[0] for words in map(str.split, lines) if words and words[0][0] != "#"}


def _out_of_sight(host: Host, situation: Situation) -> Iterator[str]:
    """Say where data of today gives way to an empty directory, and how to take it along."""
    found, foreign = list[str](), list[str]()
    device = os.fstat(host.root_fd).st_dev
    for path in sorted(left_stand_ins(situation) - situation.outside):
        status = files.status_of(host.root_fd, path, follow=False)
        is_empty = files.list_in_tree(host.root_fd, path, follow=False) == []
        if status is not None and not is_empty and not stand_ins.covered(host, path):
            ours = status.st_dev == device
            (found if ours else foreign).append(shlex.quote(f"/{path}"))
    if foreign:
        yield (
            f"mounted now, but not by /etc/fstab: {', '.join(foreign)}. After the rollback"
            f" these are empty directories, unless {label(situation.target)} contains what"
            " mounts them, such as a systemd unit. To keep the current units: --keep"
            " /etc/systemd/system"
        )
    if found:
        yield (
            f"{label(situation.target)} does not contain the data of these nested subvolumes:"
            f" {', '.join(found)}. They will be empty directories. To keep their current data:"
            f" {' '.join(f'--keep {path}' for path in found)}"
        )


def _too_deep(host: Host, situation: Situation) -> Iterator[str]:
    """Name the subvolumes in the root that stay behind, because nobody can tell their paths."""
    root = situation.layout.root
    known = {s.id for s in host.subvolumes if not is_too_deep(root, s)}
    nested = {s.id: f"/{relative(root, s)}" for s in nested_subvolumes(situation)}
    places, found = {root.id: "", **nested}, dict[tuple[int, int], list[int]]()
    with kernel_errors("list the subvolumes in", host.root):
        for deep in tree_search.subvolume_roots(host.top_fd):
            if deep.id not in known and deep.parent_id in places:
                found.setdefault((deep.parent_id, deep.directory), []).append(deep.id)
        rows, links = list[str](), tree_search.Links()
        for (parent, directory), numbers in islice(found.items(), _MOST_PLACES):
            with suppress(FileNotFoundError):  # it was deleted meanwhile
                way = tree_search.directory_names(host.top_fd, parent, directory, links)
                path = "/".join((places[parent], *map(os.fsdecode, way)))
                ids = ", ".join(map(str, numbers[:_MOST_PLACES]))
                more = f" and {len(numbers) - _MOST_PLACES} more" if numbers[_MOST_PLACES:] else ""
                rows.append(f"ID {ids}{more} in {shown(path)}")
    if rows:
        places_left = len(found) - len(rows)
        more = f"; and those in {places_left} more directories" if places_left else ""
        yield (
            f"subvolumes with paths longer than {LONGEST_PATH} bytes are not carried over. They"
            f" stay in the replaced root, and are deleted with it: {'; '.join(rows)}{more}"
        )


def _without_index(situation: Situation) -> Iterator[str]:
    """Say which services have subvolumes that stay, and files beside those that go back."""
    root = situation.layout.root
    carried = {f"/{relative(root, s)}" for s in nested_subvolumes(situation)}
    found: dict[str, int] = {}
    for path in sorted(carried):
        inside = is_within_any(path.rpartition("/")[0], carried)
        matches = (re.match(pattern, path, re.DOTALL) for pattern in _SERVICES)
        service = next((match[1] for match in matches if match), "")
        if service and not inside and not any(is_within(service, p) for p in situation.keep):
            found[service] = found.get(service, 0) + 1
    for service, count in found.items():
        stay = "a nested subvolume stays as it is" if count == 1 else f"{count} nested subvolumes"
        stay += "" if count == 1 else " stay as they are"
        yield (
            f"in {service}, {stay}, but all other files revert, so the service's index may not"
            " match its data. To keep everything there as it is now: --keep"
            f" {shlex.quote(service)}"
        )


def _swap_that_changes(situation: Situation, found: Sequence[SwapFile]) -> Iterator[str]:
    """Say what the new root has no swap file for, or another one than the command line names."""
    files_of = {f.path: shlex.quote(f"/{f.path}") for f in found}
    for path, size in found:
        if path not in situation.swap:
            yield (
                f"there is no room for a new swap file {files_of[path]}, and the kernel does"
                " not swap to a copy. To create it after the reboot, when there is room: rm"
                f" {files_of[path]}; btrfs filesystem mkswapfile --size {size} {files_of[path]}"
            )
    places = [s.where for s in situation.layout.statements if "resume_offset=" in s.text]
    if situation.swap and places:
        ask = (f"btrfs inspect-internal map-swapfile -r {files_of[p]}" for p in situation.swap)
        yield (
            "the new swap file has another position on the disk: with the resume_offset in"
            f" {', '.join(places)}, the machine would not resume from hibernation. To print the"
            f" new offset after the reboot: {'; '.join(ask)}"
        )
