# SPDX-License-Identifier: GPL-2.0-or-later
"""Walks the whole chain: what decides the next boot, what updates would change, the way back."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator

from ...core.boot import findings, judge
from ...core.boot.entries import Bootable
from ...core.boot.findings import Link
from ...core.boot.layout import root_of
from ...core.formats import cmdline, mountinfo
from ...core.loader.choice import Loader
from ...core.snapshots import saved_files
from ...errors import KernelError, RefusedError, StoreError
from ..execute import swap
from ..linux import files
from ..machine import configuration, kernels, usable
from ..machine.host import Host
from ..packages import coverage, rpm_changes
from ..pending import state
from ..root import root_lines, stand_ins, trial
from ..snapshots import saved_kernels, snapshot_entries
from ..store.store import Store
from . import next_boot
from .next_boot import Walk


def walk(host: Host, store: Store | None) -> tuple[Link, ...]:
    """Return every link of the chain, in the order of a boot, then what comes after it.

    `store` is None where there is none yet. Reads only. Raises KernelError.
    """
    with next_boot.opened(host) as found:
        return (
            *_pending(host, store),
            *_filesystem(host),
            _loader(found),
            *_once(found),
            *next_boot.deciding(found),
            *_running_kernel(found),
            *_layout(found),
            *_devices(host),
            *_other_entries(found),
            *_kernel_updates(found),
            *_swap_files(found),
            *_boot_out_of_reach(found),
            *_snapshot_entries(found),
            _plugin(host),
            *_roads(host, store),
            *_snapshots(host, store),
        )


def _pending(host: Host, store: Store | None) -> Iterator[Link]:
    name = "rollback"
    try:
        found = state.look(host, store)
    except StoreError as error:  # said as a finding
        yield findings.warning(
            name, f"the journal of a rollback cannot be read: {error}", error.hint
        )
        return
    if found.journal is None:
        return
    target = found.journal.target
    if found.waiting is state.Waiting.REBOOT:
        yield findings.warning(
            name,
            f"a rollback waits for its reboot, all of this is about its new root: {target}",
            "Reboot, or take it back with 'fs-rollback undo'.",
        )
    elif found.waiting is state.Waiting.DISPLACED:
        why = state.explain(host, found)
        yield findings.warning(name, why.sentence, why.hint)
    elif found.waiting is state.Waiting.ELSEWHERE:
        why = state.explain(host, found)
        yield findings.warning(
            name, f"this boot did not use the new root: {why.sentence}", why.hint
        )
    elif found.journal.state.value == "prepared":
        yield findings.warning(name, f"a rollback was interrupted: {target}", "fs-rollback settle")


def _filesystem(host: Host) -> Iterator[Link]:
    found = usable.not_writable(host)
    if found is not None:
        yield findings.warning("filesystem", str(found), found.hint)


def _loader(walk: Walk) -> Link:
    loader = walk.found.choice.loader
    if loader is Loader.UNKNOWN:
        return findings.warning(
            "loader",
            "the boot loader is unknown: what it reads, and what it boots, cannot be known",
            "GRUB with blscfg and systemd-boot are known. Look at the boot menu after a rollback.",
        )
    places = {os.path.dirname(b.entry.file) for b in walk.found.bootables}
    return findings.ok(
        "loader", f"{loader.value}, entries in {', '.join(sorted(places)) or 'no place'}"
    )


def _once(walk: Walk) -> Iterator[Link]:
    choice = walk.found.choice
    chosen = walk.found.once
    if chosen is not None:
        file = chosen.entry.file
        yield findings.warning(
            "one-shot entry",
            f"the next boot, and only that, uses another entry than the default: {file}",
            "Right if you asked for it ('fs-rollback try'); the links below are the default's.",
        )
    elif choice.next_entry or choice.efi_oneshot:
        yield findings.warning(
            "one-shot entry",
            f"the next boot is set to what is no entry: {choice.next_entry or choice.efi_oneshot}",
            "'grub2-editenv - unset next_entry', or 'bootctl set-oneshot \"\"'.",
        )


def _running_kernel(walk: Walk) -> Iterator[Link]:
    """Compare what runs with the root: all there is where no boot entry tells what will run."""
    if not walk.host.is_running:
        return
    running = kernels.running()
    if kernels.running_without_modules(walk.tree):
        # Before the reboot of a rollback it is the old root's.
        if walk.default is None or walk.root.id == walk.host.root_id:
            yield findings.warning(
                "running kernel",
                f"the root has no modules for the kernel that runs now: {running}",
                "Have the loader start a kernel that the root has modules for, or reinstall this"
                " one. If the default entry above is another one, the loader did not start it.",
            )
    elif walk.default is None:
        yield findings.ok(
            "running kernel", f"the root has the modules of the running kernel {running}"
        )


def _layout(walk: Walk) -> Iterator[Link]:
    refusal = usable.unsupported(walk.host) or walk.refusal
    if refusal is not None:
        is_own = trial.aside(walk.host) is None  # else the refusal tells how one is possible
        said = f"no rollback is possible: {refusal}" if is_own else str(refusal)
        yield findings.warning("layout", said, refusal.hint)
    else:
        yield findings.ok("layout", walk.layout.describe())


def _devices(host: Host) -> Iterator[Link]:
    missing = usable.devices_missing(host)
    if missing is not None:
        yield findings.warning("devices", f"no rollback is possible: {missing}", missing.hint)


def _other_entries(walk: Walk) -> Iterator[Link]:
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
                "other entry",
                f"files of an entry are missing or empty: {file}, {missing}",
                f"Remove it, or reinstall kernel {bootable.kernel or 'that it starts'}.",
            )
        elif bootable.kernel and bootable.kernel not in modules:
            yield findings.warning(
                "other entry",
                "an entry starts a kernel that the root has no modules for, or none of btrfs:"
                f" {file}",
                f"Do not boot it; reinstall kernel {bootable.kernel}, or remove the entry.",
            )


def _entry_of_another_root(walk: Walk, bootable: Bootable) -> Iterator[Link]:
    """Tell of an entry that leads to another subvolume: nothing here depends on it."""
    if bootable.said is None:
        return
    silent_id = walk.layout.silent_id(walk.host.default_id)
    what = f"{bootable.entry.file}, {judge.says(bootable.said)}"
    if root_of(bootable.said, walk.host.subvolumes, silent_id) is None:
        yield findings.warning(
            "other entry",
            f"an entry boots a subvolume that does not exist: {what}",
            "Do not choose it in the boot menu. It is no entry of this root, and a rollback leaves"
            " it alone.",
        )
    elif not bootable.foreign:
        yield findings.warning(
            "other entry",
            f"an entry boots another root than the usual one: {what}",
            "Nothing to do if it was made for that. A rollback leaves it alone.",
        )


def _kernel_updates(walk: Walk) -> Iterator[Link]:
    """Compare what the next kernel update reads with what the default entry says."""
    name = "kernel updates"
    if walk.default is not None and walk.default.of_snapshot:
        yield findings.warning(
            "default entry",
            f"the default entry boots the copy of a snapshot: {walk.default.entry.file}",
            "Make the usual entry the default again."
            if snapshot_entries.saved_by_grub(walk.host, walk.found) is None
            else "GRUB saved what somebody chose in its menu (GRUB_SAVEDEFAULT=true); the next"
            " transaction, or any fs-rollback command that changes something, makes the usual"
            " entry the default again.",
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
        yield findings.warning(name, str(error), error.hint)
        return
    for statement in statements:
        yield judge.kernel_settings(
            statement, walk.layout, walk.host.subvolumes, walk.host.default_id
        )


def _foreign_root(walk: Walk, line: str) -> Iterator[Link]:
    wanted = walk.default.entry.arguments if walk.default is not None else ""
    spec, own = cmdline.root_arguments(line).root, cmdline.root_arguments(wanted).root
    if walk.said is not None and (not spec or walk.host.identity.is_meant(spec) is False):
        yield findings.warning(
            "kernel updates",
            f"the next kernel update would boot another root: /etc/kernel/cmdline says root={spec}",
            f"In /etc/kernel/cmdline, write 'root={own}'.",
        )


def _swap_files(walk: Walk) -> Iterator[Link]:
    """Tell of swap files on btrfs that the kernel will not use."""
    host = walk.host
    for path in swap.named(walk.tree):
        if stand_ins.covered(host, path):
            mount = mountinfo.containing(host.mounts, os.path.join(host.root, path))
            there = mount is not None and mount.point != host.mount.point
            if not there or not walk.is_mounted or mount is None or mount.fstype != "btrfs":
                continue  # not to be looked at here, or a filesystem with other rules
        try:
            why, size = swap.status(walk.tree, path)
        except KernelError as error:  # said as a finding
            yield findings.warning("swap", f"a swap file cannot be looked at: {error}", error.hint)
            continue
        if not why:
            yield findings.ok("swap", f"/{path} can be used")
            continue
        file, when = shlex.quote(f"/{path}"), "" if walk.is_mounted else "After the reboot: "
        make = f"btrfs filesystem mkswapfile --size {size or '4G'} {file}"
        yield findings.warning(
            "swap",
            f"the kernel will not use a swap file that /etc/fstab or a unit names: /{path} {why}",
            f"{when}{make if why == 'is missing' else f'rm {file}; {make}'}. A subvolume of its"
            " own, beside the root, keeps it out of snapshots.",
        )


def _boot_out_of_reach(walk: Walk) -> Iterator[Link]:
    """Warn of a /boot that the loader reads, and that this root's kernel updates do not change."""
    points = {e.point for e in root_lines.fstab_entries(walk.tree)}
    own = files.device_of(walk.tree, "boot/.")
    plain = own is not None and own == os.fstat(walk.tree).st_dev and "/boot" not in points
    for place in walk.found.places:
        if place.point == "/boot" and plain and not place.in_root:
            yield findings.warning(
                "boot directory",
                "the loader reads another /boot than the one that kernel updates of the root write:"
                f" /{place.where.inside} at the top level",
                "Copy new kernels and entries there by hand, or give /boot a subvolume of its own"
                " and mount it through /etc/fstab.",
            )


def _snapshot_entries(walk: Walk) -> Iterator[Link]:
    for bootable in snapshot_entries.of_copies(walk.host, walk.found).values():
        why = snapshot_entries.trouble(walk.host, bootable)
        if why:
            yield findings.warning(
                "snapshot entry",
                f"a boot entry does not boot its snapshot: {bootable.entry.title}, {why}",
                "The next transaction, or 'fs-rollback create', renews or removes it.",
            )


def _plugin(host: Host) -> Link:
    if (refusal := usable.unsupported(host)) is not None:
        text = f"dnf transactions take no snapshot: {host.unsupported()}"
        return findings.warning("plugin", text, refusal.hint)
    found = coverage.of_dnf(host)
    if found.problem:
        return findings.warning("plugin", found.problem, found.advice)
    config, broken = configuration.usable(host.root)
    if broken is not None:
        stops = config.on_failure == "abort"
        then = "dnf stops before each transaction" if stops else "transactions take no snapshot"
        return findings.warning("plugin", f"{then}: {broken}", broken.hint)
    return findings.ok("plugin", "each dnf transaction takes a snapshot")


def _roads(host: Host, store: Store | None) -> Iterator[Link]:
    """Give a link for each other road to rpm, and what came along without a snapshot."""
    for road in coverage.roads(host):
        if road.name == "dnf":  # that is the link "plugin"
            continue
        told = f"{road.state.value}: {road.why}" if road.why else road.state.value
        grade = findings.Grade.WARNING if road.advice else findings.Grade.OK
        yield Link(road.name, grade, told, road.advice)
    changed = rpm_changes.without_snapshot(host, store) if store is not None else None
    if changed is not None:
        yield findings.warning(
            "rpm", rpm_changes.sentence(changed), "'fs-rollback create' takes one."
        )


def _snapshots(host: Host, store: Store | None) -> Iterator[Link]:
    snapshots = store.load() if store is not None else []
    there = [snapshot for snapshot in snapshots if snapshot.exists]
    if store is None or not there:
        if host.unsupported():
            return  # said already, and none is any use
        yield findings.warning(
            "snapshots",
            "there is none: nothing to go back to",
            "The next dnf transaction or 'fs-rollback create' takes one.",
        )
        return
    for snapshot in there:
        if snapshot.incomplete:
            yield findings.warning(
                "snapshots",
                f"a snapshot is incomplete: {snapshot.name}, {snapshot.problem}",
                "Rolling back to it works; 'fs-rollback delete' removes it.",
            )
    yield findings.ok("snapshots", f"{len(there)}, newest {there[-1].name}")
    names = {s.record.boot_files for s in there if s.record and s.record.boot_files}
    yield from _saved_kernels(store, names)


def _saved_kernels(store: Store, names: set[str]) -> Iterator[Link]:
    problems = [problem for name in sorted(names) for problem in _unreadable(store, name)]
    for problem in problems:
        yield findings.warning(
            "saved kernels",
            f"a kernel saved for a snapshot cannot be put back: {problem}",
            "Snapshots taken from now on save theirs again: 'fs-rollback create'.",
        )
    if names and not problems:
        yield findings.ok("saved kernels", "all are there")


def _unreadable(store: Store, name: str) -> Iterator[str]:
    try:
        for file in saved_kernels.read(store, name).files:
            path = f"{saved_kernels.DIRECTORY}/{file.sha256}"
            status = files.status_of(store.directory, path, follow=False)
            whole = status and stat.S_ISREG(status.st_mode) and status.st_size == file.size_bytes
            if not whole:
                yield f"{file.where}, its copy {file.sha256[:12]} is missing or cut off"
    except (saved_files.BootFilesError, KernelError) as error:  # what the question is
        yield f"list {name[:12]}, {error}"
