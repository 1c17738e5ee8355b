# SPDX-License-Identifier: GPL-2.0-or-later
"""One entry of the boot menu and the writable copy that it boots: what they are made like, and how.

When they are made and removed, and in which order they get to the disk, is in menu.py.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ...core.boot.entries import Bootable, is_elsewhere, kernel_version, newest, trial_of
from ...core.boot.layout import Layout
from ...core.columns import width
from ...core.formats import bls, cmdline, fstab
from ...core.loader.loaders import default_entry
from ...core.loader.menu_names import (
    is_snapshot_entry,
    snapshot_entry_prefix,
    snapshot_entry_values,
)
from ...core.snapshots.names import TRIAL_PREFIX, shortened, trial_name
from ...core.snapshots.purpose import typed_in_short
from ...core.snapshots.record import Kind
from ...core.snapshots.snapshot import STORE, Snapshot
from ...errors import RefusedError
from ..execute.trees import Operations
from ..linux import durable, files
from ..loader import places
from ..loader.entries import Boot
from ..loader.places import Place
from ..machine import kernels
from ..machine.host import Host
from ..root import labels, stand_ins, target_lines

# GRUB's menu has room for 75 on a screen of 80 (grub-core/normal/menu_text.c), with the cursor's.
_LONGEST_TITLE, _FEW = 73, 12


class Model(NamedTuple):
    """What an entry is made like: one that fits, and the place that it belongs to."""

    place: Place
    entry: bls.BootEntry


def find_model(
    host: Host, layout: Layout, found: Boot, snapshot: Snapshot, modules: Sequence[str]
) -> Optional[Model]:
    """Return the entry to make a snapshot's like.

    Where /boot is part of the root it is in the copy too, kernels and all. Elsewhere it is what
    fits of the entries that are there, with the running kernel first: that one is known to boot,
    and dnf(8) does not remove it (protect_running_kernel).
    """
    inside = [place for place in found.places if place.in_root]
    if inside:
        return _model_in_snapshot(host, layout, inside[0], snapshot, modules)
    fitting = [b for b in found.bootables if b.fits(modules)]
    known = kernels.running() if host.is_running else ""
    running = [b for b in fitting if b.kernel == known]
    chosen = newest(running or fitting)
    return Model(found.place_of(chosen), chosen.entry) if chosen else None


def _model_in_snapshot(
    host: Host, layout: Layout, place: Place, snapshot: Snapshot, modules: Sequence[str]
) -> Optional[Model]:
    """Return the newest entry of the snapshot's own /boot, its paths leading into the copy."""
    old, new = _prefix(layout.root.path), _prefix(f"{STORE}/{trial_name(snapshot.name)}")
    candidates = []
    with files.opened(host.path(snapshot.path)) as tree:
        for entry in places.entries_in(tree, place.folder, place.point):
            ours = all(path.startswith(old) for path in entry.files)
            inside = [path[len(old) :] for path in entry.files]
            whole = ours and all(files.status_of(tree, path) is not None for path in inside)
            if whole and entry.linux and not is_snapshot_entry(entry):
                bootable = Bootable(entry, kernel_version(entry), (), follows=True, ours=True)
                candidates += [bootable] if bootable.fits(modules) else []
    chosen = newest(candidates)
    if chosen is None:
        return None

    def moved_in(*words: str) -> Optional[str]:
        moved = (new + word[len(old) :] if word.startswith(old) else word for word in words)
        return " ".join(moved) or None

    moved = bls.rewrite(
        chosen.entry.text,
        {
            "linux": moved_in(chosen.entry.linux),
            "initrd": moved_in(*chosen.entry.initrd),
            "devicetree": moved_in(*chosen.entry.devicetree),
            "devicetree-overlay": moved_in(*chosen.entry.overlays),
        },
    )
    return Model(place, bls.parse(chosen.entry.file, moved))


def _prefix(root: str) -> str:
    return f"/{root}/" if root else "/"


def make_copy(host: Host, layout: Layout, snapshot: Snapshot, trial: str, *, whole: bool) -> None:
    """Make the writable copy; its fstab names itself and nothing of the old root.

    One that is there is `whole` if an entry boots it, or if it runs; any other was cut off.
    """
    operations = Operations(host)
    path = f"{STORE}/{trial}"
    present = host.by_path(path)
    if present is not None:
        if whole or present.id in host.mounted_ids:
            operations.set_read_only(path, read_only=False)
            _drop_lost_mounts(host, operations, path)
            return
        operations.delete(path)
    operations.snapshot(snapshot.path, path, read_only=False)
    operations.end_unfinished(path)
    text = operations.read_file(path, "etc/fstab")
    with files.opened(host.path(snapshot.path)) as tree:
        found = stand_ins.recorded(snapshot, tree)
        lost = target_lines.lost_mounts(host, tree)
        mounts = stand_ins.mounts(host, layout, tree, found, lost)
        needs_labels = bool(labels.unlabeled(tree))
    for stub in found:
        operations.make_directory(layout.root.path, path, stub)
    if needs_labels:
        operations.label_at_boot(path)
    mended = fstab.with_root_subvolume(fstab.without_lines(text, lost), path)
    mended = fstab.with_mounts(mended, mounts)
    mended = fstab.without_subvolumes_of(mended, layout.root.path)
    if mended != text:
        operations.write_file(path, "etc/fstab", mended)


def _drop_lost_mounts(host: Host, operations: Operations, path: str) -> None:
    """Comment out in a copy's fstab what has gone since the copy was made."""
    with files.opened(host.path(path)) as tree:
        lost = target_lines.lost_mounts(host, tree)
    if lost:
        text = operations.read_file(path, "etc/fstab")
        operations.write_file(path, "etc/fstab", fstab.without_lines(text, lost))


def write(
    host: Host, found: Boot, model: Model, trial: str, title: str, *, default: bool = False
) -> str:
    """Write the entry that boots the copy `trial`; one beside the root is durable with a sync.

    Returns its path. Raises RefusedError where it would be the default and is not that already
    (`default`), where another system's has its name or its options cannot be written; KernelError.
    """
    try:
        options = cmdline.with_root_subvolume(model.entry.arguments, f"{STORE}/{trial}")
        values = {**snapshot_entry_values(title), "options": options}
        text = bls.rewrite(model.entry.text, values)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    others = [b.entry for b in found.bootables if trial_of(b.entry) != trial]
    name = f"{snapshot_entry_prefix(others)}{trial[len(TRIAL_PREFIX) :]}.conf"
    made = bls.parse(f"{model.place.point}/{places.ENTRIES}/{name}", text)
    if any(b.entry.file == made.file and is_elsewhere(b) for b in found.bootables):
        raise RefusedError(f"another system's entry has the name {name}")
    if not default and default_entry(found.choice, [*others, made]) == made:
        raise RefusedError(f"{name} would be the entry that boots by default")
    with places.opened_entries(model.place) as directory:
        like = files.status_of(directory, os.path.basename(model.entry.file))
        mode = (like.st_mode if like else 0o600) & 0o777
        if model.place.beside_root:
            durable.write_for_next_commit(directory, name, text, mode=mode)
            return made.file
        Operations(host).sync()  # the copy is on the disk before anything there leads to it
        durable.write_text(directory, name, text, mode=mode, for_loader=True)
    return made.file


def title_of(snapshot: Snapshot, tree: int) -> str:
    """Return the title: one line of a menu, whatever the command line of the transaction was."""
    record, what = snapshot.record, snapshot.name
    if record is not None and record.kind is Kind.PRE and record.transaction is not None:
        what = f"before {typed_in_short(record.transaction.command_line) or 'a transaction'}"
    elif record is not None and record.full_description:
        what = record.full_description
    begin = _clean(f"{_system(tree)} snapshot {snapshot.id}, ")
    end = snapshot.created.astimezone().strftime(", %Y-%m-%d %H:%M")
    what, room = _clean(what), max(_LONGEST_TITLE - width(begin + end), _FEW)
    return begin + shortened(what, room) + end


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def _system(tree: int) -> str:
    text = files.read_in_tree(tree, "etc/os-release") or ""
    names = [line[5:].strip("\"'") for line in text.split("\n") if line.startswith("NAME=")]
    return names[-1] if names else "Linux"
