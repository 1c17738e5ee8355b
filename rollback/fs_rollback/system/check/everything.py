# SPDX-License-Identifier: GPL-2.0-or-later
"""Checks everything that the next boot depends on, what updates would change, and the way back."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from datetime import datetime

from ...core.boot import findings, judge
from ...core.boot.entries import Bootable, trial_of
from ...core.boot.findings import Finding
from ...core.boot.layout import root_of
from ...core.formats import cmdline, mountinfo
from ...core.loader.choice import Loader
from ...core.snapshots import saved_files
from ...core.snapshots.names import label
from ...errors import KernelError, RefusedError, StoreError
from ..access import looks
from ..execute import swap
from ..linux import files
from ..machine import kernels, usable
from ..machine.host import Host
from ..pending import by_difference, state
from ..root import root_lines, stand_ins, trial
from ..snapshots import saved_kernels, snapshot_entries
from ..store import guards
from ..store.store import Store
from . import health, next_boot, package_managers
from .next_boot import Walk


def walk(host: Host, store: Store | None, now: datetime) -> tuple[Finding, ...]:
    """Return the findings, first those of the next boot in its order, then all others.

    `store` is None if there is none yet, `now` is aware. Reads only. Raises KernelError.
    """
    with next_boot.opened(host) as found:
        return (
            *_pending(host, store),
            *health.filesystem(host),
            _loader(found),
            *_once(found),
            *next_boot.deciding(found),
            *next_boot.labels_of(found),
            *_running_kernel(found),
            *_layout(found),
            *health.look(host, now),
            *health.disks(host),
            *_other_entries(found),
            *_kernel_updates(found),
            *_swap_files(found),
            *_boot_out_of_reach(found),
            *_snapshot_entries(found),
            *package_managers.look(host, store),
            *_snapshots(host, store),
            *_looks(host),
        )


def _looks(host: Host) -> Iterator[Finding]:
    for look in looks.find(host):
        yield findings.warning(
            "mount.snapshot",
            look.snapshot,
            f"{look.snapshot} is mounted on {look.point}, so it cannot be deleted or pruned",
            f"When you no longer need it: fs-rollback umount {look.snapshot}",
        )


def _pending(host: Host, store: Store | None) -> Iterator[Finding]:
    for path in by_difference.away(host, host.root_subvolume.path):
        text = f"/{path} is not in its place: copying it to the new root was interrupted"
        yield findings.warning("rollback.path-away", path, text, "fs-rollback settle")
    try:
        found = state.look(host, store)
    except StoreError as error:  # said as a finding
        text = f"the journal of a rollback cannot be read: {error}"
        yield findings.warning("rollback.unreadable", "", text, error.hint)
        return
    if found.journal is None:
        return
    target = state.target_of(host, found.journal)
    if found.waiting is state.Waiting.REBOOT:
        yield findings.warning(
            "rollback.waiting",
            "",
            f"a rollback to {target} is waiting for a reboot; these checks are about its new root",
            "Reboot, or cancel the rollback with 'fs-rollback undo'.",
        )
    elif found.waiting is state.Waiting.DISPLACED:
        why = state.explain(host, found)
        yield findings.warning("rollback.displaced", "", why.sentence, why.hint)
    elif found.waiting is state.Waiting.ELSEWHERE:
        why = state.explain(host, found)
        text = f"this boot did not use the new root: {why.sentence}"
        yield findings.warning("rollback.other-root", "", text, why.hint)
    elif found.journal.state.value == "prepared":
        text = f"a rollback to {target} was interrupted"
        yield findings.warning("rollback.interrupted", "", text, "fs-rollback settle")


def _loader(walk: Walk) -> Finding:
    loader = walk.found.choice.loader
    if loader is Loader.UNKNOWN:
        return findings.warning(
            "loader.unknown",
            "",
            "the boot loader was not recognized, so what it reads and boots is unknown",
            "fs-rollback knows GRUB with blscfg and systemd-boot. Check the boot menu after a"
            " rollback.",
        )
    places = {os.path.dirname(b.entry.file) for b in walk.found.bootables}
    where = ", ".join(sorted(places)) or "no place"
    return findings.ok("loader.ok", "", f"{loader.value}, entries in {where}")


def _once(walk: Walk) -> Iterator[Finding]:
    choice = walk.found.choice
    chosen = walk.found.once
    if chosen is not None and chosen.is_guarded:
        text = "the next boot is guarded; if it fails, the default entry boots the snapshot"
        yield findings.ok("one-shot-entry.guarded", chosen.entry.file, text)
    elif chosen is not None:
        file = chosen.entry.file
        yield findings.warning(
            "one-shot-entry.set",
            file,
            f"for the next boot only, an entry other than the default is set: {file}",
            "Expected if you set it ('fs-rollback try'). The checks below are about the default"
            " entry.",
        )
    elif choice.next_entry or choice.efi_oneshot:
        yield findings.warning(
            "one-shot-entry.no-entry",
            choice.next_entry or choice.efi_oneshot,
            "the next boot is set to an entry that does not exist:"
            f" {choice.next_entry or choice.efi_oneshot}",
            "Clear it with 'grub2-editenv - unset next_entry' or 'bootctl set-oneshot \"\"'.",
        )


def _running_kernel(walk: Walk) -> Iterator[Finding]:
    """Compare what runs with the root: all there is where no boot entry tells what will run."""
    if not walk.host.is_running:
        return
    running = kernels.running()
    if kernels.running_without_modules(walk.tree):
        # Before the reboot of a rollback it is the old root's.
        if walk.default is None or walk.root.id == walk.host.root_id:
            yield findings.warning(
                "running-kernel.no-modules",
                running,
                f"the root has no modules for the running kernel: {running}",
                "Make the boot loader start a kernel that the root has modules for, or reinstall"
                " this kernel. If the default entry above names another kernel, the boot loader"
                " did not start that entry.",
            )
    elif walk.default is None:
        yield findings.ok(
            "running-kernel.ok",
            running,
            f"the root has the modules of the running kernel {running}",
        )


def _layout(walk: Walk) -> Iterator[Finding]:
    refusal = usable.unsupported(walk.host) or walk.refusal
    if refusal is not None:
        is_own = trial.aside(walk.host) is None  # else the refusal tells how one is possible
        said = f"no rollback is possible: {refusal}" if is_own else str(refusal)
        code = "layout.no-rollback" if is_own else "layout.trial"
        yield findings.warning(code, "", said, refusal.hint)
    else:
        yield findings.ok("layout.ok", "", walk.layout.describe())


def _other_entries(walk: Walk) -> Iterator[Finding]:
    modules, default = kernels.that_fit(walk.tree), walk.default
    for bootable in walk.found.bootables:
        if bootable == default or bootable.of_snapshot or not bootable.ours:
            continue
        file = bootable.entry.file
        if not bootable.leads:
            yield from _entry_of_another_root(walk, bootable)
        elif bootable.missing:
            missing = ", ".join(bootable.missing)
            yield findings.warning(
                "other-entry.files-missing",
                file,
                f"files of an entry are missing or empty: {file}, {missing}",
                "Remove the entry, or reinstall its"
                f" kernel{bootable.kernel and ' ' + bootable.kernel}.",
            )
        elif bootable.kernel and bootable.kernel not in modules:
            yield findings.warning(
                "other-entry.no-modules",
                file,
                "an entry starts a kernel for which the root has no modules, or no btrfs module:"
                f" {file}",
                f"Do not boot it; reinstall kernel {bootable.kernel}, or remove the entry.",
            )


def _entry_of_another_root(walk: Walk, bootable: Bootable) -> Iterator[Finding]:
    """Tell of an entry that leads to another subvolume: nothing here depends on it."""
    if bootable.said is None:
        return
    silent_id = walk.layout.silent_id(walk.host.default_id)
    file = bootable.entry.file
    what = f"{file}, {judge.says(bootable.said)}"
    if root_of(bootable.said, walk.host.subvolumes, silent_id) is None:
        yield findings.warning(
            "other-entry.subvolume",
            file,
            f"an entry boots a subvolume that does not exist: {what}",
            "Do not choose it in the boot menu. It does not belong to this root, and a rollback"
            " does not change it.",
        )
    elif not bootable.foreign:
        yield findings.warning(
            "other-entry.other-root",
            file,
            f"an entry boots a root other than the usual one: {what}",
            "Nothing to do if that is intended. A rollback does not change it.",
        )


def _kernel_updates(walk: Walk) -> Iterator[Finding]:
    """Compare what the next kernel update reads with what the default entry says."""
    if walk.default is not None and walk.default.of_snapshot and not walk.default.is_guarded:
        file = walk.default.entry.file
        if guards.glance(walk.host.top_fd).leads_back_to(trial_of(walk.default.entry)):
            yield findings.warning(
                "default-entry.way-back",
                file,
                f"the next boot starts the snapshot that a guarded boot falls back to: {file}",
                "'fs-rollback guard status' shows why.",
            )
            return
        yield findings.warning(
            "default-entry.snapshot",
            file,
            f"the default entry boots a copy of a snapshot: {file}",
            "Make the usual entry the default again."
            if snapshot_entries.saved_by_grub(walk.host, walk.found) is None
            else (
                "GRUB saved the entry that was chosen in its menu (GRUB_SAVEDEFAULT=true). The"
                " next transaction, or any fs-rollback command that changes something, makes the"
                " usual entry the default again."
            ),
        )
        return
    text = files.read_in_tree(walk.tree, root_lines.COMMAND_LINE)
    if text is not None:
        yield from _foreign_root(walk, cmdline.of_file(text))
    if walk.said is None:
        return
    try:
        statements = root_lines.for_updates(walk.host, walk.tree)
    except RefusedError as error:  # said as a finding
        yield findings.warning("kernel-updates.unknown", "", str(error), error.hint)
        return
    for statement in statements:
        yield judge.kernel_settings(
            statement, walk.layout, walk.host.subvolumes, walk.host.default_id
        )


def _foreign_root(walk: Walk, line: str) -> Iterator[Finding]:
    wanted = walk.default.entry.arguments if walk.default is not None else ""
    spec, own = cmdline.root_arguments(line).root, cmdline.root_arguments(wanted).root
    if walk.said is not None and (not spec or walk.host.identity.is_meant(spec) is False):
        yield findings.warning(
            "kernel-updates.other-filesystem",
            f"/{root_lines.COMMAND_LINE}",
            "after the next kernel update another root would boot: /etc/kernel/cmdline says"
            f" root={spec}",
            f"In /etc/kernel/cmdline, write 'root={own}'.",
        )


def _swap_files(walk: Walk) -> Iterator[Finding]:
    """Tell of swap files on btrfs that the kernel will not use."""
    host = walk.host
    for path in swap.named(host, walk.tree):
        if stand_ins.covered(host, path):
            mount = mountinfo.containing(host.mounts, os.path.join(host.root, path))
            there = mount is not None and mount.point != host.mount.point
            if not there or not walk.is_mounted or mount is None or mount.fstype != "btrfs":
                continue  # not to be looked at here, or a filesystem with other rules
        try:
            why, size = swap.status(walk.tree, path)
        except KernelError as error:  # said as a finding
            text = f"a swap file cannot be checked: {error}"
            yield findings.warning("swap.unknown", f"/{path}", text, error.hint)
            continue
        if not why:
            yield findings.ok("swap.ok", f"/{path}", f"/{path} can be used")
            continue
        file, when = shlex.quote(f"/{path}"), "" if walk.is_mounted else "After the reboot: "
        make = f"btrfs filesystem mkswapfile --size {size or '4G'} {file}"
        yield findings.warning(
            "swap.unusable",
            f"/{path}",
            f"the kernel cannot use a swap file that /etc/fstab or a unit names: /{path} {why}",
            f"{when}{make if why == 'is missing' else f'rm {file}; {make}'}. To keep it out of"
            " snapshots, put it in its own subvolume outside the root.",
        )


def _boot_out_of_reach(walk: Walk) -> Iterator[Finding]:
    """Warn of a /boot that the loader reads, and that this root's kernel updates do not change."""
    points = {e.point for e in walk.host.fstab_entries(walk.tree)}
    own = files.device_of(walk.tree, "boot/.")
    plain = own is not None and own == os.fstat(walk.tree).st_dev and "/boot" not in points
    for place in walk.found.places:
        if place.point == "/boot" and plain and not place.in_root:
            yield findings.warning(
                "boot-directory.not-updated",
                place.point,
                "kernel updates do not change the /boot that the boot loader reads:"
                f" /{place.where.inside} at the top level",
                "Copy new kernels and entries there by hand, or give /boot a subvolume of its own"
                " and mount it through /etc/fstab.",
            )


def _snapshot_entries(walk: Walk) -> Iterator[Finding]:
    for bootable in snapshot_entries.of_copies(walk.host, walk.found).values():
        why = snapshot_entries.trouble(walk.host, bootable)
        if why:
            yield findings.warning(
                "snapshot-entry.broken",
                bootable.entry.file,
                f"a boot entry does not boot its snapshot: {bootable.entry.title}, {why}",
                "The next transaction, or 'fs-rollback create', renews or removes it.",
            )


def _snapshots(host: Host, store: Store | None) -> Iterator[Finding]:
    snapshots = store.load() if store is not None else []
    there = [snapshot for snapshot in snapshots if snapshot.exists]
    if store is None or not there:
        if host.unsupported():
            return  # said already, and none is any use
        yield findings.warning(
            "snapshots.none",
            "",
            "none: there is nothing to roll back to",
            "The next dnf transaction or 'fs-rollback create' takes one.",
        )
        return
    for snapshot in there:
        if snapshot.incomplete:
            yield findings.warning(
                "snapshots.incomplete",
                snapshot.name,
                f"a snapshot is incomplete: {label(snapshot)}, {snapshot.problem}",
                "Rolling back to it works; 'fs-rollback delete' removes it.",
            )
    yield findings.ok("snapshots.ok", "", f"{len(there)}, newest {label(there[-1])}")
    names = {s.record.boot_files for s in there if s.record and s.record.boot_files}
    yield from _saved_kernels(store, names)


def _saved_kernels(store: Store, names: set[str]) -> Iterator[Finding]:
    problems = [problem for name in sorted(names) for problem in _unreadable(store, name)]
    for subject, problem in problems:
        yield findings.warning(
            "saved-kernels.unusable",
            subject,
            f"a kernel saved for a snapshot cannot be restored: {problem}",
            "New snapshots save their kernels again; take one with 'fs-rollback create'.",
        )
    if names and not problems:
        yield findings.ok("saved-kernels.ok", "", "all are present")


def _unreadable(store: Store, name: str) -> Iterator[tuple[str, str]]:
    """Give what cannot be used of a list of saved kernels: which file or list, and why."""
    try:
        for file in saved_kernels.read(store, name).files:
            path = f"{saved_kernels.DIRECTORY}/{file.sha256}"
            status = files.status_of(store.directory, path, follow=False)
            whole = status and stat.S_ISREG(status.st_mode) and status.st_size == file.size_bytes
            if not whole:
                lost = f"its copy {file.sha256[:12]} is missing or truncated"
                yield file.where, f"{file.where}, {lost}"
    except (saved_files.BootFilesError, KernelError) as error:  # what the question is
        yield name, f"list {name[:12]}, {error}"
