# SPDX-License-Identifier: GPL-2.0-or-later
"""The way back in the boot menu: an entry for each of the newest snapshots.

An entry boots a writable copy of its snapshot (a trial, `fs-snapshots/try_...`) with a kernel that
fits it. The copy is whole before its entry is written, and the entry goes before the copy does: an
entry never leads nowhere. Nothing here may stop a transaction: what fails is returned in words.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ..core import bls, boot_files, cmdline, fstab
from ..core.boot_entries import Bootable, kernel_version, newest, trial_of
from ..core.layout import Layout
from ..core.loaders import (
    default_entry,
    is_snapshot_entry,
    snapshot_entry_prefix,
    snapshot_entry_values,
)
from ..core.naming import SNAPSHOT_PREFIX, TRIAL_PREFIX, trial_name
from ..core.record import Kind
from ..core.snapshot import STORE, Snapshot, Subvolume
from ..errors import Error, KernelError, RefusedError
from . import (
    boot,
    boot_sources,
    btrfs,
    files,
    kernels,
    loader_settings,
    places,
    refusals,
    saved_kernels,
)
from .boot import Boot
from .host import Host
from .operations import Operations
from .places import Place
from .store import Store

_LONGEST_TITLE = 120


class _Model(NamedTuple):
    """What an entry is made like: the place it belongs to, a fitting entry, and its kernel."""

    place: Place
    entry: bls.BootEntry
    kernel: str


class Menu(NamedTuple):
    """What an update of the menu came to: what went wrong, and the files that its entries start."""

    problems: tuple[str, ...] = ()
    files: tuple[str, ...] = ()

    def is_whole(self) -> bool:
        """Whether everything that the entries start is still there."""
        return all(os.path.exists(path) for path in self.files)


def update(host: Host, store: Store, count: int, *, also: Sequence[str] = ()) -> Menu:
    """Give the newest `count` snapshots, and those named in `also`, an entry each; no other one.

    What is in use stays: the copy that runs, and what is set for the next boot. Where no rollback
    is possible there is no entry. Needs the lock.
    """
    if not count and not also and not _trials(host):
        return Menu()
    try:
        return _update(host, store, boot_sources.read_layout(host), count, also)
    except RefusedError:
        return Menu()  # `check` and `status` say why
    except (Error, OSError) as error:
        return Menu((f"the boot menu is not up to date: {error}",))


def _update(host: Host, store: Store, layout: Layout, count: int, also: Sequence[str]) -> Menu:
    found = boot.read(host, layout)
    if not any(bootable.usable for bootable in found.bootables):
        return Menu()  # no loader here reads boot entries
    held = _held(host, found)
    wanted: dict[str, Snapshot] = {}
    for subvolume in _newest_first(host):
        name = subvolume.path[len(STORE) + 1 :]
        if len(wanted) < count or name in also or trial_name(name) in held:
            snapshot = store.snapshot_of(subvolume)
            if not refusals.of_stranger(host, snapshot):
                wanted[name] = snapshot
    problems = _remove_others(host, found, {trial_name(name) for name in wanted} | held)
    started: list[str] = []
    for snapshot in wanted.values():
        try:
            started += _ensure(host, store, layout, found, snapshot)
        except (Error, OSError) as error:
            problems.append(f"{snapshot.name} has no entry in the boot menu: {error}")
    return Menu(tuple(problems), tuple(started))


def _newest_first(host: Host) -> list[Subvolume]:
    """Return the subvolumes of the snapshots without reading their records: there may be many."""
    found = _in_store(host, SNAPSHOT_PREFIX).values()
    return sorted(found, key=lambda subvolume: subvolume.id, reverse=True)


def remove_orphans(host: Host) -> list[str]:
    """Remove the entries and copies whose snapshot is gone. Needs the lock. Returns problems."""
    try:
        found = boot.read(host, boot_sources.read_layout(host))
    except RefusedError:
        return []
    present = {trial_of(b.entry) for b in _ours(found)} | set(_trials(host))
    if not present:
        return []
    snapshots = {trial_name(s.path[len(STORE) + 1 :]) for s in _newest_first(host)}
    return _remove_others(host, found, snapshots | _held(host, found))


def entry_of(host: Host, layout: Layout, snapshot: Snapshot) -> tuple[Boot, Optional[Bootable]]:
    """Return what the boot loader reads, and the entry of a snapshot in it, None if it has none."""
    found = boot.read(host, layout)
    trial = trial_name(snapshot.name)
    return found, next((b for b in _ours(found) if trial_of(b.entry) == trial), None)


def remove(host: Host, layout: Layout, snapshot: Snapshot) -> list[str]:
    """Remove the entry and the writable copy of a snapshot that goes. Returns what went wrong."""
    found = boot.read(host, layout)
    if found.default is not None and trial_of(found.default.entry) == trial_name(snapshot.name):
        raise RefusedError(
            f"{snapshot.name} is not deleted: its entry is the default of the boot menu",
            hint="Make another entry the default first.",
        )
    keep = {trial_of(b.entry) for b in _ours(found)} | set(_trials(host))
    return _remove_others(host, found, keep - {trial_name(snapshot.name)})


def _ours(found: Boot) -> list[Bootable]:
    """Return the entries of snapshots on this filesystem; another system's are not ours."""
    return [b for b in found.bootables if b.of_snapshot and b.ours and trial_of(b.entry)]


def _trials(host: Host) -> dict[str, Subvolume]:
    return _in_store(host, TRIAL_PREFIX)


def _in_store(host: Host, start: str) -> dict[str, Subvolume]:
    """Return the subvolumes right in the store whose names begin like this, by name."""
    prefix = f"{STORE}/{start}"
    return {
        s.path[len(STORE) + 1 :]: s
        for s in host.subvolumes
        if s.path.startswith(prefix) and "/" not in s.path[len(prefix) :]
    }


def _held(host: Host, found: Boot) -> set[str]:
    """Return the writable copies that are in use, or will be with the next boot."""
    in_use = {host.running_id, host.default_id, *host.mounted_ids}
    held = {name for name, subvolume in _trials(host).items() if subvolume.id in in_use}
    # Somebody may have made one the default (GRUB_SAVEDEFAULT): without it another would boot.
    return held | {trial_of(b.entry) for b in _ours(found) if b in (found.once, found.default)}


def _remove_others(host: Host, found: Boot, keep: set[str]) -> list[str]:
    """Remove all entries and writable copies but those named in `keep`."""
    problems = []
    for bootable in _ours(found):
        if trial_of(bootable.entry) not in keep:
            try:
                _remove_entry(host, found, bootable)
            except KernelError as error:
                problems.append(str(error))
                keep = keep | {trial_of(bootable.entry)}  # an entry must not lead nowhere
    for name in sorted(_trials(host).keys() - keep):
        try:
            btrfs.delete_subvolume(host.path(f"{STORE}/{name}"), recursive=True)
        except KernelError as error:
            problems.append(str(error))
    host.forget()
    return problems


def _remove_entry(host: Host, found: Boot, bootable: Bootable) -> None:
    """Remove an entry, and what it alone starts of kernels that the running root does not have."""
    place = found.place_of(bootable)
    operations = Operations(host)
    if found.once == bootable:
        shot = loader_settings.one_shot(found.choice, found.setting)
        if shot is not None:  # GRUB would start the first entry instead, not the default one
            loader_settings.write_setting(host, shot.file, shot.key, None)
    operations.remove_file(place.locate_entry(bootable.entry.file))
    if place.in_root or bootable.kernel in kernels.with_modules(host.root_fd):
        return
    others = [b for b in found.bootables if b.entry != bootable.entry]
    needed = {found.place_of(b).locate(path) for b in others for path in b.entry.files}
    for path in bootable.entry.files:
        if place.locate(path) not in needed:
            operations.remove_file(place.locate(path))


def _ensure(host: Host, store: Store, layout: Layout, found: Boot, snapshot: Snapshot) -> list[str]:
    """Make the entry of a snapshot, or mend it, where it is not there and whole.

    Returns the paths of the files that it starts.
    """
    trial = trial_name(snapshot.name)
    present = next((b for b in _ours(found) if trial_of(b.entry) == trial), None)
    whole = present is not None and trial in _trials(host)
    if present is not None and whole:
        whole = not present.missing or _put_back(host, store, found, snapshot, present)
    if present is not None and whole:
        Operations(host).set_read_only(f"{STORE}/{trial}", read_only=False)
        return _started(found.place_of(present), present.entry)
    with files.opened(host.path(snapshot.path)) as tree:
        modules = kernels.with_modules(tree)
        title = _title(snapshot, tree)
    model = _model(host, layout, found, snapshot, modules)
    if model is None:
        if present is not None:
            _remove_entry(host, found, present)
        raise RefusedError(f"no kernel in /boot fits it ({', '.join(modules) or 'it has none'})")
    _make_trial(host, layout, snapshot, trial, whole=present is not None and not present.missing)
    try:
        _write_entry(found, model, trial, title)
    except Error:
        if present is None:
            btrfs.delete_subvolume(host.path(f"{STORE}/{trial}"), recursive=True)
            host.forget()
        raise
    return _started(model.place, model.entry)


def _started(place: Place, entry: bls.BootEntry) -> list[str]:
    return [f"{place.base}/{path.lstrip('/')}" for path in entry.files]


def _put_back(host: Host, store: Store, found: Boot, snapshot: Snapshot, present: Bootable) -> bool:
    """Put back the files that an entry has lost, as far as they were saved; whether all are."""
    if snapshot.record is None or not snapshot.record.boot_files:
        return False
    try:
        rows = saved_kernels.read(store, snapshot.record.boot_files).files
    except boot_files.BootFilesError:
        return False
    saved = {row.where: f"top:{saved_kernels.PLACE}/{row.sha256}" for row in rows}
    place = found.place_of(present)
    lost = [place.locate(path) for path in present.missing]
    if any(where not in saved for where in lost):
        return False
    for where in lost:
        Operations(host).put_file(saved[where], where)
    return True


def _model(
    host: Host, layout: Layout, found: Boot, snapshot: Snapshot, modules: Sequence[str]
) -> Optional[_Model]:
    """Return the entry to make a snapshot's like.

    Where /boot is part of the root it is in the copy too, kernels and all. Elsewhere it is what
    fits of the entries that are there, with the running kernel first: that one is known to boot,
    and dnf(8) does not remove it (protect_running_kernel).
    """
    inside = [place for place in found.places if place.in_root]
    if inside:
        return _model_in_snapshot(host, layout, inside[0], snapshot, modules)
    fitting = [b for b in found.bootables if b.fits(modules)]
    running = [b for b in fitting if host.is_running and b.kernel == os.uname().release]
    chosen = newest(running or fitting)
    return _Model(found.place_of(chosen), chosen.entry, chosen.kernel) if chosen else None


def _model_in_snapshot(
    host: Host, layout: Layout, place: Place, snapshot: Snapshot, modules: Sequence[str]
) -> Optional[_Model]:
    """Return the newest entry of the snapshot's own /boot, its paths leading into the copy."""
    old, new = _prefix(layout.root.path), _prefix(f"{STORE}/{trial_name(snapshot.name)}")
    folder = f"{place.point.strip('/')}/{places.ENTRIES}"
    candidates = []
    with files.opened(host.path(snapshot.path)) as tree:
        for name in files.list_in_tree(tree, folder) or []:
            text = files.read_in_tree(tree, f"{folder}/{name}") if name.endswith(".conf") else ""
            entry = bls.parse(f"{place.point}/{places.ENTRIES}/{name}", text or "")
            ours = all(path.startswith(old) for path in entry.files)
            inside = [path[len(old) :] for path in entry.files]
            whole = ours and all(files.status_of(tree, path) is not None for path in inside)
            if whole and entry.linux and not is_snapshot_entry(entry):
                bootable = Bootable(entry, kernel_version(entry), (), follows=True, ours=True)
                candidates += [bootable] if bootable.fits(modules) else []
    chosen = newest(candidates)
    if chosen is None:
        return None
    moved = bls.rewrite(
        chosen.entry.text,
        {
            "linux": new + chosen.entry.linux[len(old) :],
            "initrd": " ".join(
                new + word[len(old) :] if word.startswith(old) else word
                for word in chosen.entry.initrd
            )
            or None,
        },
    )
    return _Model(place, bls.parse(chosen.entry.file, moved), chosen.kernel)


def _prefix(root: str) -> str:
    return f"/{root}/" if root else "/"


def _make_trial(host: Host, layout: Layout, snapshot: Snapshot, trial: str, *, whole: bool) -> None:
    """Make the writable copy; its fstab names itself and nothing of the old root.

    One that is there is `whole` if an entry boots it, or if it runs; any other was cut off.
    """
    operations = Operations(host)
    path = f"{STORE}/{trial}"
    if trial in _trials(host):
        if whole or _trials(host)[trial].id in host.mounted_ids:
            operations.set_read_only(path, read_only=False)
            return
        operations.delete(path)
    operations.snapshot(snapshot.path, path, read_only=False)
    host.forget()
    for stub in _stubs(host, snapshot):
        operations.make_directory(snapshot.path, path, stub)
    text = operations.read_file(path, "etc/fstab")
    mended = fstab.without_subvolumes_of(fstab.with_root_subvolume(text, path), layout.root.path)
    if mended != text:
        operations.write_file(path, "etc/fstab", mended)


def _stubs(host: Host, snapshot: Snapshot) -> list[str]:
    """Return the stand-ins of nested subvolumes that the snapshot has: nobody can write there."""
    source = snapshot.record.source.path if snapshot.record else ""
    prefix = f"{source}/" if source else ""
    inside = [s.path[len(prefix) :] for s in host.subvolumes if s.path.startswith(prefix)]
    with files.opened(host.path(snapshot.path)) as tree:
        return [p for p in inside if p and files.inode_of(tree, p) == btrfs.STUB_INODE]


def _write_entry(found: Boot, model: _Model, trial: str, title: str) -> None:
    try:
        options = cmdline.with_root_subvolume(model.entry.options, f"{STORE}/{trial}")
        values = {**snapshot_entry_values(title), "options": options}
        text = bls.rewrite(model.entry.text, values)
    except ValueError as error:
        raise RefusedError(str(error)) from error
    others = [b.entry for b in found.bootables if trial_of(b.entry) != trial]
    name = f"{snapshot_entry_prefix(others)}{trial[len(TRIAL_PREFIX) :]}.conf"
    made = bls.parse(f"{model.place.point}/{places.ENTRIES}/{name}", text)
    if default_entry(found.choice, [*others, made]) == made:
        raise RefusedError(f"{name} would be the entry that boots by default")
    with files.opened(os.path.join(model.place.directory, places.ENTRIES)) as directory:
        like = files.status_of(directory, os.path.basename(model.entry.file))
        mode = (like.st_mode if like else 0o600) & 0o777
        data = (text.encode("utf-8", "surrogateescape"),)
        files.replace(directory, name, data, mode=mode)


def _title(snapshot: Snapshot, tree: int) -> str:
    """Return the title: one line, whatever the command line of the transaction was."""
    record = snapshot.record
    moment = snapshot.created.astimezone().strftime("%Y-%m-%d %H:%M")
    what = f"snapshot {snapshot.name}"
    if record is not None and record.kind is Kind.PRE and record.transaction is not None:
        what = "before " + " ".join(record.transaction.command_line)
    elif record is not None and record.description:
        what = record.description
    clean = "".join(c if c.isprintable() else " " for c in f"{_system(tree)} {what}")
    return f"{clean[:_LONGEST_TITLE]}, {moment}"


def _system(tree: int) -> str:
    text = files.read_in_tree(tree, "etc/os-release") or ""
    names = [line[5:].strip("\"'") for line in text.split("\n") if line.startswith("NAME=")]
    return names[-1] if names else "Linux"
