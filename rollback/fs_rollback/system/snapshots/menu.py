# SPDX-License-Identifier: GPL-2.0-or-later
"""The boot menu entries of the newest snapshots.

An entry boots a writable copy of its snapshot (a trial, `fs-snapshots/try_...`) with a kernel that
fits it. The copy is complete before its entry is written, and the entry is removed before the copy:
every boot entry has a bootable target. If both are on one filesystem, one commit brings them to
the disk. An entry elsewhere is written when the copy is on the disk, and in such a way that a boot
loader, which replays no journal, finds it complete or not at all. Nothing here may stop a
transaction: failures are returned as sentences.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Optional

from ...core.boot.entries import Bootable, trial_of
from ...core.boot.layout import Layout
from ...core.formats import bls
from ...core.loader.loader_path import LoaderPath
from ...core.loader.menu_names import is_snapshot_name
from ...core.snapshots import saved_files
from ...core.snapshots.names import SNAPSHOT_PREFIX, label, trial_name
from ...core.snapshots.snapshot import STORE, Snapshot, Subvolume
from ...errors import Error, KernelError, RefusedError
from ..execute.trees import Operations
from ..linux import btrfs, durable, files
from ..loader import entries, places, settings
from ..loader.entries import Boot
from ..loader.places import Place
from ..machine import kernels, usable
from ..machine.host import Host
from ..root import mounted, root_lines
from ..store.store import Store
from . import menu_entry, saved_kernels, snapshot_entries


class Problem(NamedTuple):
    """What went wrong in an update, in words; `snapshot` is the one that has no entry for it."""

    text: str
    snapshot: str = ""


class Menu(NamedTuple):
    """What an update of the menu came to: what went wrong, and the files that its entries start."""

    found: tuple[Problem, ...] = ()
    files: tuple[str, ...] = ()

    @property
    def problems(self) -> tuple[str, ...]:
        """What went wrong, in words."""
        return tuple(problem.text for problem in self.found)

    def why_none(self, snapshot: str) -> str:
        """Return why a snapshot has no entry, "" where nothing went wrong with it."""
        return next((p.text for p in self.found if p.snapshot == snapshot), "")

    def is_whole(self) -> bool:
        """Whether everything that the entries start is still there."""
        return all(os.path.exists(path) for path in self.files)


def update(host: Host, store: Store, count: int, *, also: Sequence[str] = ()) -> Menu:
    """Give the newest `count` snapshots, and those named in `also`, an entry each; no other one.

    What is in use stays: the copy that runs, and what is set for the next boot. Where no rollback
    is possible there is no entry. Where /boot is not mounted that is said: no kernel of it was
    saved either. Needs the lock.
    """
    try:
        unmounted = _unmounted(host)
        if unmounted:
            return Menu((Problem(unmounted),))
        if not count and not also and not snapshot_entries.copies(host) and not _has_entries(host):
            return Menu()
        return _update(host, store, root_lines.read_layout(host), count, also)
    except RefusedError:
        return Menu()  # `check` and `status` say why
    except (Error, OSError) as error:  # said by who called this, see the top
        from ..store import trace

        problem = f"the boot menu was not updated: {error}"
        trace.tell(host, trace.Event("failed", reason=problem))
        return Menu((Problem(problem),))


def _unmounted(host: Host) -> str:
    """Return what to say where what the boot loader reads is not mounted, else ""."""
    try:
        mounted.refuse_what_is_not_mounted(host)
    except RefusedError as error:  # what the answer is
        return f"no kernel was saved, and the boot menu was not updated: {error.line}"
    return ""


def _update(host: Host, store: Store, layout: Layout, count: int, also: Sequence[str]) -> Menu:
    found = entries.read(host, layout)
    if not any(bootable.usable for bootable in found.bootables):
        return Menu()  # no loader here reads boot entries
    present = snapshot_entries.of_copies(host, found)
    found = _with_usual_default(host, store, layout, found)
    held = _held(host, found, present)
    wanted: dict[str, Snapshot] = {}
    for subvolume in _newest_first(host):
        name = subvolume.path[len(STORE) + 1 :]
        if len(wanted) < count or name in also or trial_name(name) in held:
            snapshot = store.snapshot_of(subvolume)
            asked_for = name in also or trial_name(name) in held
            if snapshot.of_trial and not asked_for:
                continue
            if not usable.of_stranger(host, snapshot):
                wanted[name] = snapshot
    keep = {trial_name(name) for name in wanted} | held
    failures, staying = _remove_entries(host, found, present, keep)
    problems = [Problem(failure) for failure in failures]
    started: list[str] = []
    for snapshot in wanted.values():
        try:
            entry = present.get(trial_name(snapshot.name))
            started += _ensure(host, store, layout, found, snapshot, entry)
        except (Error, OSError) as error:  # the others get theirs
            problems.append(_no_entry(snapshot, error))
    _bring_to_disk(host, found)
    problems += map(Problem, _delete_copies(host, keep | staying))
    return Menu(tuple(problems), tuple(started))


def _no_entry(snapshot: Snapshot, error: Exception) -> Problem:
    return Problem(f"{label(snapshot)} has no entry in the boot menu: {error}", snapshot.name)


def _newest_first(host: Host) -> list[Subvolume]:
    """Return the subvolumes of the snapshots without reading their records: there may be many."""
    found = snapshot_entries.in_store(host, SNAPSHOT_PREFIX).values()
    return sorted(found, key=lambda subvolume: subvolume.id, reverse=True)


def mend(host: Host, store: Store) -> list[str]:
    """Remove the entries and copies whose snapshot is gone, and renew entries that others rewrote.

    What takes room, copies and kernels that are gone, comes with the next `update`. Needs the lock.
    Returns problems.
    """
    try:
        mounted.refuse_what_is_not_mounted(host)  # the entries may be there
        layout = root_lines.read_layout(host)
        found = entries.read(host, layout)
    except RefusedError:  # nothing is known of the entries, so none is touched; `check` says why
        return []
    present = snapshot_entries.of_copies(host, found)
    if not present and not snapshot_entries.copies(host):
        return []
    found = _with_usual_default(host, store, layout, found)
    snapshots = {trial_name(s.path[len(STORE) + 1 :]): s for s in _newest_first(host)}
    held = _held(host, found, present)
    problems = _remove_others(host, found, present, snapshots.keys() | held)
    there = snapshots.keys() & snapshot_entries.copies(host).keys()
    for trial, entry in present.items():
        rewritten = trial in there and snapshot_entries.trouble(host, entry._replace(missing=()))
        if rewritten:
            snapshot = store.snapshot_of(snapshots[trial])
            try:
                _ensure(host, store, layout, found, snapshot, entry)
            except (Error, OSError) as error:  # the others are mended
                problems.append(_no_entry(snapshot, error).text)
    return problems


def _with_usual_default(host: Host, store: Store, layout: Layout, found: Boot) -> Boot:
    """Make the usual entry the default where GRUB has saved the choice of a snapshot's.

    Who chooses one in the menu wants it once: the next reboot leads back. Returns what is read
    then.
    """
    if found.setting is None or snapshot_entries.saved_by_grub(host, found) is None:
        return found
    snapshots = map(store.snapshot_of, _newest_first(host))
    usual = snapshot_entries.usual_default(host, store, found, snapshots)
    if usual is None:
        return found
    from ..store import trace

    setting = found.setting
    settings.write_setting(host, setting.file, setting.key, usual.entry.name)
    trace.tell(host, trace.Event("menu-default", reason=usual.entry.title))
    return entries.read(host, layout)


def entry_of(host: Host, layout: Layout, snapshot: Snapshot) -> tuple[Boot, Optional[Bootable]]:
    """Return what the boot loader reads, and the entry of a snapshot in it, None if it has none."""
    found = entries.read(host, layout)
    return found, snapshot_entries.of_copies(host, found).get(trial_name(snapshot.name))


def remove(host: Host, layout: Layout, snapshot: Snapshot) -> list[str]:
    """Remove the entry and the writable copy of a snapshot that goes. Returns what went wrong."""
    found = entries.read(host, layout)
    present = snapshot_entries.of_copies(host, found)
    trial = trial_name(snapshot.name)
    if trial in present and present[trial] == found.default:
        raise RefusedError(
            f"{label(snapshot)} is not deleted: its entry is the default of the boot menu",
            hint="Make another entry the default first.",
        )
    keep = present.keys() | snapshot_entries.copies(host).keys()
    return _remove_others(host, found, present, keep - {trial})


def _has_entries(host: Host) -> bool:
    """Whether there are entries of snapshots, without reading any: where none are wanted."""
    return any(map(is_snapshot_name, map(os.path.basename, places.entry_files(host.root_fd))))


def _held(host: Host, found: Boot, present: Mapping[str, Bootable]) -> set[str]:
    """Return the writable copies that are in use, or will be with the next boot."""
    in_use = {host.running_id, host.default_id, *host.mounted_ids}
    held = {name for name, copy in snapshot_entries.copies(host).items() if copy.id in in_use}
    # Somebody may have made one the default (GRUB_SAVEDEFAULT): without it another would boot.
    chosen = (found.once, found.default)
    return held | {trial for trial, entry in present.items() if entry in chosen}


def _remove_others(
    host: Host, found: Boot, present: Mapping[str, Bootable], keep: Collection[str]
) -> list[str]:
    """Remove all entries and writable copies but those named in `keep`; returns what went wrong."""
    problems, staying = _remove_entries(host, found, present, keep)
    _bring_to_disk(host, found)
    return problems + _delete_copies(host, {*keep, *staying})


def _remove_entries(
    host: Host, found: Boot, present: Mapping[str, Bootable], keep: Collection[str]
) -> tuple[list[str], set[str]]:
    """Remove all entries but those in `present` of the copies in `keep`: there may be others.

    Returns what went wrong, and the copies whose entries are there still.
    """
    problems, staying = [], set()
    for place in found.places:
        try:
            _remove_unfinished(place)
        except KernelError as error:  # it boots nothing
            problems.append(str(error))
    for bootable in snapshot_entries.ours(host, found):
        trial = trial_of(bootable.entry)
        if trial not in keep or bootable != present.get(trial):
            try:
                _remove_entry(host, found, bootable)
            except KernelError as error:  # then its copy stays too
                problems.append(str(error))
                staying.add(trial)
    return problems, staying


def _remove_unfinished(place: Place) -> None:
    """Remove what a power cut left of entries of ours that were being written."""
    with files.opened(place.directory) as directory:
        for name in files.list_in_tree(directory, places.ENTRIES) or []:
            if is_snapshot_name(name) and name.endswith(".conf" + durable.TEMPORARY):
                durable.remove(directory, f"{places.ENTRIES}/{name}")


def _bring_to_disk(host: Host, found: Boot) -> None:
    """Bring what has come and gone to the disk, where loaders find it, before copies go."""
    Operations(host).sync()
    for place in found.places:
        if not place.beside_root:
            places.sync(place)


def _delete_copies(host: Host, keep: set[str]) -> list[str]:
    """Delete all copies but those in `keep`, and those of another system on this filesystem."""
    problems = []
    for name in sorted(snapshot_entries.copies(host).keys() - keep):
        try:
            if not host.is_stranger_at(f"{STORE}/{name}"):
                btrfs.delete_subvolume(host.path(f"{STORE}/{name}"), recursive=True)
        except KernelError as error:  # no entry leads to it: the next update tries again
            problems.append(str(error))
    host.forget()
    return problems


def _remove_entry(host: Host, found: Boot, bootable: Bootable) -> None:
    """Remove an entry, and what it alone starts of kernels that the running root does not have.

    Only what was saved once: somebody may have had the entry start a kernel of his own.
    """
    from ..store import trace

    place = found.place_of(bootable)
    operations = Operations(host)
    if found.once == bootable:
        shot = settings.one_shot(found.choice, found.setting)
        if shot is not None:  # GRUB would start the first entry instead, not the default one
            settings.write_setting(host, shot.file, shot.key, None)
    with places.opened_entries(place) as directory:
        durable.remove(directory, os.path.basename(bootable.entry.file))
    name = SNAPSHOT_PREFIX + trial_of(bootable.entry).partition("_")[2]
    trace.tell(host, trace.Event("menu-removed", name, reason=bootable.entry.title))
    if place.in_root or bootable.kernel in kernels.with_modules(host.root_fd):
        return
    others = [b for b in found.bootables if b.entry != bootable.entry]
    needed = {found.place_of(b).locate(path) for b in others for path in b.entry.files}
    alone = {place.locate(path) for path in bootable.entry.files} - needed
    doomed = sorted(alone & saved_kernels.ever_saved(host)) if alone else []
    if doomed:
        places.sync(place)
    for where in doomed:
        operations.remove_file(where)


def _ensure(
    host: Host,
    store: Store,
    layout: Layout,
    found: Boot,
    snapshot: Snapshot,
    present: Optional[Bootable],
) -> list[str]:
    """Make the entry of a snapshot, or mend the one that is `present`, where it is not whole.

    Returns the paths of the files that it starts.
    """
    trial = trial_name(snapshot.name)
    default = present is not None and present == found.default
    if present is not None and trial not in snapshot_entries.copies(host):
        # What is begun now and cut off must not be taken for the copy that an entry boots.
        _remove_entry(host, found, present)
        _bring_to_disk(host, found)
        present = None
    if present is not None and _is_whole(host, store, found, snapshot, present):
        Operations(host).set_read_only(f"{STORE}/{trial}", read_only=False)
        return _started(found.place_of(present), present.entry)
    with files.opened(host.path(snapshot.path)) as tree:
        modules = kernels.that_fit(tree)
        # What a person has called it stays.
        title = (present.entry.title if present else "") or menu_entry.title_of(snapshot, tree)
    model = menu_entry.find_model(host, layout, found, snapshot, modules)
    if model is None:
        if present is not None:
            _remove_entry(host, found, present)
        raise RefusedError(f"no kernel in /boot fits it ({', '.join(modules) or 'it has none'})")
    try:
        menu_entry.make_copy(host, layout, snapshot, trial, whole=present is not None)
        written = menu_entry.write(host, found, model, trial, title, default=default)
        if present is not None and present.entry.file != written:
            _remove_entry(host, found, present)
    except Error:
        if present is None:
            Operations(host).delete(f"{STORE}/{trial}")
        raise
    from ..store import trace

    number = snapshot.id
    trace.tell(host, trace.Event("menu-added", snapshot.name, number, reason=title))
    return _started(model.place, model.entry)


def _started(place: Place, entry: bls.BootEntry) -> list[str]:
    return [f"{place.base}/{path.lstrip('/')}" for path in entry.files]


def _is_whole(host: Host, store: Store, found: Boot, snapshot: Snapshot, present: Bootable) -> bool:
    """Whether an entry boots its copy, after what it has lost of its files was put back."""
    if snapshot_entries.trouble(host, present._replace(missing=())):
        return False
    return not present.missing or _put_back(host, store, found, snapshot, present)


def _put_back(host: Host, store: Store, found: Boot, snapshot: Snapshot, present: Bootable) -> bool:
    """Put back the files that an entry has lost, as far as they were saved; whether all are."""
    if snapshot.record is None or not snapshot.record.boot_files:
        return False
    try:
        rows = saved_kernels.read(store, snapshot.record.boot_files).files
    except saved_files.BootFilesError:  # nothing that is whole can be put back; `check` says so
        return False
    saved = {row.where: LoaderPath.from_top(saved_kernels.PLACE, row.sha256) for row in rows}
    place = found.place_of(present)
    lost = [place.locate(path) for path in present.missing]
    if not all(where in saved and saved_kernels.is_whole(host, saved[where]) for where in lost):
        return False
    for where in lost:
        Operations(host).put_file(saved[where], where)
    return True
