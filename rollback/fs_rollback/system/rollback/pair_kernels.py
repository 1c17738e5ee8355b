# SPDX-License-Identifier: GPL-2.0-or-later
"""Pairs kernels with the root to be restored, since /boot may not be rolled back with it.

An entry fits if the target has the modules of its kernel; such an entry becomes the default. If
there is none, a saved kernel is restored; if there is none either, the rollback is refused.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from typing import NamedTuple, Optional

from ...core.boot.entries import Bootable, best_fit, kernel_version, newest
from ...core.boot.layout import Layout
from ...core.formats import bls
from ...core.loader import loaders
from ...core.loader.loader_path import LoaderPath
from ...core.loader.menu_names import is_snapshot_name
from ...core.rollback.kernel_steps import ForgetOneShot, MenuFiles, PutBackKernel, SetDefaultEntry
from ...core.rollback.plan import KernelPlan
from ...core.snapshots import saved_files
from ...core.snapshots.saved_files import SavedBoot
from ...core.snapshots.snapshot import STORE, Snapshot
from ...errors import RefusedError, kernel_errors
from ..linux import files
from ..loader import entries, places, settings
from ..loader.entries import Boot
from ..machine import kernels
from ..machine.host import Host
from ..root import root_lines
from ..snapshots import saved_kernels
from ..store.store import Store

# A file takes whole blocks, and its directory may need another one.
_OVERHEAD_BYTES = 128 << 10


class Pairing(NamedTuple):
    """The steps about kernels, and the warnings before the question."""

    plan: KernelPlan
    warnings: tuple[str, ...]


def pair(host: Host, store: Store, layout: Layout, target: Snapshot, tree: int) -> Pairing:
    """Return the steps to have the next boot start a kernel that fits `target`, open as `tree`.

    Raises RefusedError if there is no such kernel.
    """
    modules = kernels.that_fit(tree)
    found = entries.read(host, layout)
    if any(b.ours for b in found.bootables) and not found.staying:
        return Pairing(KernelPlan(menu=_menu(found, tree)), ())
    forget = _forget(found)
    if not modules:
        return Pairing(KernelPlan(forget=forget), ())
    if not found.staying:
        return Pairing(KernelPlan(), tuple(_without_entries(host, layout, modules)))
    staying = [b for b in found.staying if not b.of_snapshot]
    saved, unread = _saved(store, target)
    fitting = best_fit(found.choice, staying, modules, saved.default)
    put_back = None
    if fitting is None:
        sources = _saved_sources(host, saved) or _in_target(host, layout, found, target)
        way = _put_back(host, found, target, modules, sources)
        if way is None:
            raise _no_kernel(found, modules, unread)
        put_back, fitting = way
    default, warnings = _make_default(found, fitting, modules)
    running = kernels.that_fit(host.root_fd)
    first = fitting.kernel in running
    lend = "" if first or default is None else _to_lend(found, running, modules)
    warnings += _misfits(staying, modules)
    return Pairing(KernelPlan(put_back, default, first, lend, forget), (*unread, *warnings))


def _menu(found: Boot, tree: int) -> Optional[MenuFiles]:
    """Return what makes the menu of a root that takes its /boot along one of today's snapshots."""
    place = next((p for p in found.places if p.follows), None)
    if place is None:
        return None
    in_target = files.list_in_tree(tree, place.folder) or []
    there = {name for name in in_target if is_snapshot_name(name)}
    ours = (b.entry.file for b in found.bootables if b.of_snapshot and b.entry.linux)
    names = {os.path.basename(file) for file in ours}
    if not there | names:
        return None
    return MenuFiles(place.folder, tuple(sorted(there - names)), tuple(sorted(names)))


def _forget(found: Boot) -> Optional[ForgetOneShot]:
    """Return the step that takes back what was set for the next boot only, None if nothing is."""
    shot = settings.one_shot(found.choice, found.setting)
    return ForgetOneShot(shot.file, shot.key, shot.value or "") if shot is not None else None


def _to_lend(found: Boot, running: Collection[str], modules: Collection[str]) -> str:
    """Return the kernel that boots until the default is changed, if only the old root fits it."""
    kernel = found.default.kernel if found.default is not None else ""
    return kernel if kernel in running and kernel not in modules else ""


def _make_default(
    found: Boot, fitting: Bootable, modules: Collection[str]
) -> tuple[Optional[SetDefaultEntry], list[str]]:
    """Return the step that makes an entry the default, None where it is or cannot be."""
    entry = fitting.entry
    choose = f"choose {entry.title or entry.id} (kernel {fitting.kernel}) in the boot menu"
    rules = loaders.rules(found.choice.loader)
    if rules is None:
        return None, [
            f"the boot loader was not recognized, so its default entry cannot be set: {choose}"
        ]
    default = found.default
    if default is not None and default.entry == entry:
        return None, []
    if default is not None and default.foreign and not default.of_snapshot:
        return None, [f"the boot menu boots another system by default: {choose}"]
    if found.setting is None and default is not None:
        if default.kernel not in modules:
            raise _cannot_be_told(found, default, entry.name)
        return None, []
    if found.setting is None:
        return None, [f"grub.cfg sets the default entry by itself: {choose}"]
    setting, value = found.setting, rules.value(entry)
    return SetDefaultEntry(
        entry.id, fitting.kernel, setting.file, setting.key, value, setting.value
    ), []


def _cannot_be_told(found: Boot, default: Bootable, wanted: str) -> RefusedError:
    """Return what to say where GRUB would boot a kernel without modules, whatever is written."""
    unfit = f"the default boot entry {default.entry.id} starts kernel {default.kernel}, which has"
    if found.choice.saved_entry:
        return RefusedError(
            f"{unfit} no modules in the snapshot, and grub.cfg sets that default by itself",
            hint="Set GRUB_DEFAULT=saved in /etc/default/grub, regenerate grub.cfg, and try again.",
        )
    return RefusedError(
        f"{unfit} no modules in the snapshot, and GRUB's environment block is damaged",
        hint=f"Recreate it: grub2-editenv - create; grub2-editenv - set saved_entry={wanted}",
    )


def _misfits(staying: Sequence[Bootable], modules: Collection[str]) -> list[str]:
    return [
        f"the boot entry {b.entry.id} stays in the menu, but the restored root has no modules for"
        f" its kernel {b.kernel}, or no btrfs module"
        for b in staying
        if b.usable and b.kernel not in modules
    ]


def _put_back(
    host: Host,
    found: Boot,
    target: Snapshot,
    modules: Sequence[str],
    sources: list[_Source],
) -> Optional[tuple[PutBackKernel, Bootable]]:
    """Return the step that puts a kernel back, and the entry that will start it then.

    None where nothing has one that fits.
    """
    sources = sources + _entries_without_files(found)
    images = {k: LoaderPath.from_top(target.path, "usr/lib/modules", k, "vmlinuz") for k in modules}
    ways = [_way_back(host, found, sources, kernel, images[kernel]) for kernel in modules]
    usable = {way[1]: way[0] for way in ways if way is not None}
    chosen = newest(usable)
    if chosen is None:
        return None
    step = usable[chosen]
    _refuse_full_boot(host, step)
    return step, chosen


def _no_kernel(found: Boot, modules: Sequence[str], unread: Sequence[str]) -> RefusedError:
    there = sorted({b.kernel for b in found.staying if b.usable})
    return RefusedError(
        f"no kernel in /boot ({', '.join(there) or 'none'}) has its modules in the snapshot"
        f" ({', '.join(modules)}), and {unread[0] if unread else 'none was saved for it'}",
        hint="Install a kernel that the snapshot has modules for, or choose a later snapshot.",
    )


class _Source(NamedTuple):
    """A file that can be put back: which kernel it is of, where it lies, where it belongs."""

    kernel: str
    source: str
    where: str


def _saved(store: Store, target: Snapshot) -> tuple[SavedBoot, tuple[str, ...]]:
    """Return what was saved when the target was taken, and in words where that is unknown."""
    name = target.record.boot_files if target.record else ""
    try:
        return saved_kernels.read(store, name) if name else SavedBoot("", ()), ()
    except saved_files.BootFilesError as error:  # what is in /boot may do
        return SavedBoot("", ()), (f"the list of what was saved for it cannot be read: {error}",)


def _saved_sources(host: Host, saved: SavedBoot) -> list[_Source]:
    found = [
        _Source(r.kernel, LoaderPath.from_top(saved_kernels.PLACE, r.sha256), r.where)
        for r in saved.files
    ]
    present = [source for source in found if _size(host, source.source) is not None]
    return [source for source in present if saved_kernels.is_whole(host, source.source)]


def _in_target(host: Host, layout: Layout, found: Boot, target: Snapshot) -> list[_Source]:
    """Return what the target's own /boot holds, where that is part of the root."""
    rows = []
    for place in (p for p in found.places if p.in_root):
        with files.opened(host.path(target.path)) as tree:
            entries = places.entries_in(tree, place.folder, place.point)
        for entry in entries:
            name = os.path.basename(entry.file)
            kernel = kernel_version(entry)
            rows += [
                _Source(
                    kernel, LoaderPath.from_top(_below(layout, target, path)), place.locate(path)
                )
                for path in entry.files
            ]
            source = LoaderPath.from_top(target.path, place.folder, name)
            rows.append(_Source(kernel, source, place.locate_entry(name)))
    return [row for row in rows if _size(host, row.source) is not None]


def _entries_without_files(found: Boot) -> list[_Source]:
    """Return the entries that are there while what they start is not."""
    rows = []
    for bootable in found.staying:
        if bootable.ours and bootable.missing and not bootable.of_snapshot:
            where = found.place_of(bootable).locate_entry(bootable.entry.file)
            rows.append(_Source(bootable.kernel, where, where))
    return rows


def _below(layout: Layout, target: Snapshot, path: str) -> str:
    """Return where the target has what lies at `path` from the top level in the root."""
    return f"{target.path}/{path.strip('/')[len(layout.root.path) :].strip('/')}".strip("/")


def _way_back(
    host: Host, found: Boot, sources: Sequence[_Source], kernel: str, own_image: str
) -> Optional[tuple[PutBackKernel, Bootable]]:
    """Return how one kernel comes back with all that its entry names; None if that cannot be.

    `own_image` is where the target has the image of that kernel among its modules.
    """
    rows = {row.where: row.source for row in sources if row.kernel == kernel}
    entry_where = next((where for where in rows if where.endswith(".conf")), None)
    holding = [p for p in found.places if (entry_where or "").startswith(p.where + "/")]
    place = max(holding, key=lambda p: len(p.where), default=None)  # /boot/efi lies in /boot
    if entry_where is None or place is None:
        return None
    text = places.read_file(host, rows[entry_where]) or ""
    name = os.path.basename(entry_where)
    entry = bls.parse(f"{place.point}/{places.ENTRIES}/{name}", text)
    image = place.locate(entry.linux)
    if image not in rows and _size(host, own_image) is not None:
        rows[image] = own_image
    needed = [*(place.locate(path) for path in entry.files), entry_where]
    absent = [where for where in needed if not _is_there(host, where)]
    if not absent or any(where not in rows for where in absent):
        return None
    step = PutBackKernel(kernel, tuple(rows[w] for w in absent), tuple(absent))
    return step, Bootable(entry, kernel, (), follows=False, ours=True)


def _size(host: Host, where: str) -> int | None:
    """Return the size of a regular file in bytes, None where there is none or it is empty."""
    path = places.path_of(host, where)
    is_file = os.path.isfile(path) and not os.path.islink(path)
    return (os.stat(path).st_size or None) if is_file else None


def _is_there(host: Host, where: str) -> bool:
    """Whether the loader finds a file that has something in it, by a link perhaps."""
    path = places.path_of(host, where)
    return os.path.isfile(path) and os.stat(path).st_size > 0


def _refuse_full_boot(host: Host, step: PutBackKernel) -> None:
    """Raise RefusedError where /boot has no room for what is put back."""
    needed = sum(_size(host, source) or 0 for source in step.sources)
    directory = os.path.dirname(places.path_of(host, step.files[-1]))
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    with kernel_errors("access", directory):
        space = os.statvfs(directory)
    if needed + len(step.files) * _OVERHEAD_BYTES > space.f_bavail * space.f_frsize:
        raise RefusedError(
            f"kernel {step.kernel} must be restored to /boot, which has no room for its"
            f" {(needed >> 20) + 1} MiB",
            hint="Remove a kernel that you do not need ('rpm -q kernel-core' lists them), then try"
            " again.",
        )


def _without_entries(host: Host, layout: Layout, modules: Sequence[str]) -> list[str]:
    """Return what to say where there are no boot entries to read: images are compared by name."""
    bootable = set(_kernels_that_stay(host, layout))
    if not bootable and kernels.in_boot(host.root_fd):
        return []  # they go back with the root
    if not bootable:
        return [
            "no boot loader files found here: make sure that the boot loader starts a kernel that"
            f" the restored root has modules for ({', '.join(modules)})"
        ]
    fitting = sorted(bootable & set(modules))
    if not fitting:
        raise RefusedError(
            f"no kernel in /boot ({', '.join(sorted(bootable))}) has its modules in the snapshot"
            f" ({', '.join(modules)})",
            hint="Install a kernel that the snapshot has modules for, or choose a later snapshot.",
        )
    misfits = sorted(bootable - set(modules))
    if not misfits:
        return []
    return [
        f"/boot does not revert: choose kernel {' or '.join(fitting)} in the boot menu; the"
        f" restored root has no modules for {', '.join(misfits)}"
    ]


def _kernels_that_stay(host: Host, layout: Layout) -> tuple[str, ...]:
    """Return the kernels that the boot loader reads from where no rollback changes them.

    A /boot of its own; or, where no name leads to the root, the /boot in the top level: GRUB reads
    that by path whatever the default subvolume is. Elsewhere /boot goes back with the root.
    """
    own = files.device_of(host.root_fd, "boot") != os.fstat(host.root_fd).st_dev
    if own or "/boot" in root_lines.mount_points(host):
        return kernels.in_boot(host.root_fd)
    in_top = layout.in_top_level or layout.root.path.startswith(STORE + "/")
    return kernels.in_boot(host.top_fd) if in_top else ()
