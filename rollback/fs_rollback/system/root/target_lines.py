# SPDX-License-Identifier: GPL-2.0-or-later
"""What a snapshot's own files say about the root: mended in the new root, or told beforehand.

They are of the time of the snapshot. The root may have had another name then, or been found without
one; and boot entries of other systems and other tools lie beside those of the root.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, NamedTuple, Optional

from ...core.boot.entries import Bootable, newest
from ...core.boot.layout import Kind, Layout, Statement, from_command_line, from_file
from ...core.formats import cmdline, default_grub, fstab
from ...core.loader import loaders
from ...core.loader.loader_path import LoaderPath
from ...core.snapshots.names import label
from ...core.snapshots.record import Source
from ...core.snapshots.snapshot import STORE, Snapshot
from ...errors import Error, RefusedError
from ..linux import files
from ..loader import entries as loader_entries
from ..loader.entries import Boot
from ..machine import kernels
from ..machine.host import Host
from . import fstab_facts
from .root_lines import COMMAND_LINE, DEFAULT_GRUB

if TYPE_CHECKING:
    from ...core.rollback.kernel_steps import SetDefaultEntry


class TargetLines(NamedTuple):
    """The files to mend, where the root lay when they were written, and what to say.

    `default` makes an entry of this root the default one in the target's own boot menu.
    """

    files: tuple[str, ...]
    old: str
    default: Optional[SetDefaultEntry]
    warnings: tuple[str, ...]


def look(
    host: Host, layout: Layout, target: Snapshot, tree: int, lost: Collection[str]
) -> TargetLines:
    """Return what to do about the lines of a target, whose root `tree` is. Changes nothing.

    `lost` are those of its fstab without which the new root has to do.
    """
    warnings: list[str] = []
    found = _command_line(host, layout, target, tree, warnings)
    _look_at_default_grub(host, layout, target, tree, warnings)
    was = _root_then(host, layout, target, tree)
    default = None
    # Elsewhere no boot entries go back with the root.
    by_name = layout.kind is Kind.NAMED or not layout.root.path.startswith(f"{STORE}/")
    if by_name and not layout.in_top_level and target.subvolume is not None:
        menu = loader_entries.read(host, Layout(Kind.NAMED, target.subvolume, ()))
        inside = [b for b in menu.bootables if menu.place_of(b).in_root and not b.of_snapshot]
        _refuse_without_kernels(host, layout, target, tree, inside)
        right = [b for b in inside if _leads(b.said, host, layout) and not _moved(b, was, layout)]
        stale = [b for b in inside if _led_here(b.said, was) and b not in right]
        if not right and not stale:  # without one of them there would be no way into the new root
            stale = [b for b in inside if b.said is not None and not b.foreign]
        found += [b.entry.file.lstrip("/") for b in stale]
        good = [*right, *stale]
        fitting = [b for b in good if b.kernel in kernels.that_fit(tree)]
        default = _default(layout, target, menu, good, fitting)
        if default is None and _is_elsewhere(menu, good):
            warnings.append(
                f"the default entry in the boot menu of {label(target)} starts another root: choose"
                " the right entry there at the next boot"
            )
    if found and not _can_be_written(layout):
        warnings.append(
            f"these files in {label(target)} name another root; correct them after the reboot:"
            f" {', '.join('/' + path for path in found)}"
        )
        found = []
    warnings += [
        f"/etc/fstab in {label(target)} mounts something that no longer exists; that line is"
        f" commented out in the new root: {line}"
        for line in lost
    ]
    return TargetLines(tuple(found), was.path, default, tuple(warnings))


def _refuse_without_kernels(
    host: Host, layout: Layout, target: Snapshot, tree: int, inside: Collection[Bootable]
) -> None:
    """Raise RefusedError if each entry of the target's own menu lacks its kernel.

    A machine that lacks that of its default entry already can be rolled back all the same.
    """
    lacking = [path for path in map(_own_kernel, inside) if not _is_file(tree, path)]
    if not inside or len(lacking) < len(inside):
        return
    default = loader_entries.read(host, layout).default
    if default is not None and default.entry.linux in default.missing:
        return
    raise RefusedError(
        f"no boot entry in {label(target)} can start its kernel:"
        f" {', '.join('/' + path for path in lacking)} {'is' if len(lacking) == 1 else 'are'}"
        " missing or empty in it",
        hint="Choose another snapshot: 'fs-rollback list' shows them.",
    )


def _own_kernel(bootable: Bootable) -> str:
    """Return where in its root an entry has its kernel, whatever that root is called."""
    _, boot, inside = bootable.entry.linux.rpartition("/boot/")
    return (boot + inside).lstrip("/")


def _is_file(tree: int, path: str) -> bool:
    """Whether something is there; what is named in another way may be anywhere."""
    status = files.status_of(tree, path) if path.startswith("boot/") else None
    return not path.startswith("boot/") or (status is not None and status.st_size > 0)


def lost_mounts(host: Host, tree: int) -> tuple[str, ...]:
    """Return the lines of a tree's fstab at which its boot would wait for what is gone.

    What is of other filesystems counts only where the machine's own fstab has it no more: a disk
    may be away for an hour.
    """
    entries = host.fstab_entries(tree)
    present = {entry.text for entry in host.fstab_entries()}
    root = fstab.root_entry(entries)
    found = []
    for entry in entries:
        if entry == root or entry.fstype == "swap" or {"noauto", "nofail"} & set(entry.options):
            continue
        same = root is not None and entry.spec == root.spec
        if entry.fstype in ("btrfs", "auto") and (same or host.identity.is_meant(entry.spec)):
            is_lost = not fstab_facts.has_subvolume(host, entry.options)
        else:
            is_lost = entry.text not in present and _has_no_device(host, tree, entry)
        found += [entry.text] if is_lost else []
    return tuple(found)


def _has_no_device(host: Host, tree: int, entry: fstab.Entry) -> bool:
    try:
        facts = fstab_facts.look(host, tree, entry)
    except Error:  # not known to be gone: the line stays as it is
        return False
    return facts is not None and facts.has_device is False


def _command_line(
    host: Host, layout: Layout, target: Snapshot, tree: int, warnings: list[str]
) -> list[str]:
    """Return /etc/kernel/cmdline if it has to be mended."""
    line = cmdline.of_file(files.read_in_tree(tree, COMMAND_LINE) or "")
    spec = cmdline.root_arguments(line).root
    try:
        said = from_file(COMMAND_LINE, line, host.identity.is_meant)
    except RefusedError:
        return [COMMAND_LINE]  # it names a subvolume by what is no ID
    if spec and said is None:
        warnings.append(
            f"/{COMMAND_LINE} in {label(target)} names another filesystem, root={spec}: correct it"
            " after the reboot, before the next kernel update"
        )
    return [COMMAND_LINE] if said is not None and not _leads(said, host, layout) else []


def _look_at_default_grub(
    host: Host, layout: Layout, target: Snapshot, tree: int, warnings: list[str]
) -> None:
    line = default_grub.command_line(files.read_in_tree(tree, DEFAULT_GRUB) or "")
    flags = cmdline.root_arguments(line).flags
    try:
        said = from_command_line(DEFAULT_GRUB, line, host.identity.is_meant)
        is_good = said is None or said.silent or _leads(said, host, layout)
    except RefusedError:  # no kernel understands it
        is_good = False
    if not is_good:
        warnings.append(
            f"/{DEFAULT_GRUB} in {label(target)} says rootflags={','.join(flags)}, which names"
            " another root: correct it after the reboot, before grub2-mkconfig runs again"
        )


def _leads(said: Optional[Statement], host: Host, layout: Layout) -> bool:
    """Whether a line in the new root leads to it, now and after the next rollback."""
    if said is None or said.subvolume_id is not None:
        return False
    if said.silent:
        return layout.silent_id(host.default_id) == layout.root.id
    return said.subvolume == layout.root.path


def _root_then(host: Host, layout: Layout, target: Snapshot, tree: int) -> Source:
    """Return what the root was when the target was taken, as the record or its fstab says."""
    if target.record is not None and not target.is_replaced:
        return target.record.source
    root = fstab.root_entry(host.fstab_entries(tree))
    path = root.subvolume if root is not None else None
    return Source(layout.root.path if path is None else path, target.id, "")


def _led_here(said: Optional[Statement], was: Source) -> bool:
    """Whether a line led to the root at the time, as far as can be told; all else is left alone."""
    if said is None:
        return False
    return said.subvolume == was.path if said.subvolume else said.subvolume_id in (None, was.id)


def _moved(bootable: Bootable, was: Source, layout: Layout) -> bool:
    """Whether an entry starts what lies in the root, at the place where that was at the time."""
    old, new = (f"/{path}/" if path else "/" for path in (was.path, layout.root.path))
    paths = [path for path in bootable.entry.files if path.startswith(old)]
    return old != new and not all(path.startswith(new) for path in paths)


def _is_elsewhere(menu: Boot, good: Collection[Bootable]) -> bool:
    """Whether the target's own menu boots another root of this system by default."""
    default = menu.default
    if default is None or default in good or default.of_snapshot or default.foreign:
        return False
    return menu.place_of(default).in_root


def _default(
    layout: Layout,
    target: Snapshot,
    menu: Boot,
    good: Collection[Bootable],
    fitting: Collection[Bootable],
) -> Optional[SetDefaultEntry]:
    """Return the step that has the target's own menu boot the new root by default."""
    from ...core.rollback.kernel_steps import SetDefaultEntry

    wanted, setting, place = newest(fitting), menu.setting, LoaderPath.from_top(target.path)
    if not _is_elsewhere(menu, good) or wanted is None or setting is None:
        return None
    rules = loaders.rules(menu.choice.loader)
    if rules is None or not setting.file.startswith(f"{place}/"):
        return None
    file = LoaderPath.from_top(layout.root.path, setting.file[len(place) :])
    entry = wanted.entry
    return SetDefaultEntry(
        entry.id, wanted.kernel, file, setting.key, rules.value(entry), setting.value
    )


def _can_be_written(layout: Layout) -> bool:
    try:
        cmdline.with_root_subvolume("", layout.root.path or None)
    except ValueError:  # what the question is
        return False
    return True
