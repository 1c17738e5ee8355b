# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback from the question to the verdict: gather, refuse, plan, carry out, read again."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

from ..core import fstab, naming, steps
from ..core import layout as layouts
from ..core.layout import Layout
from ..core.mountinfo import is_within
from ..core.pending import Pending, State
from ..core.plan import Plan, Situation, nested_subvolumes, plan_rollback, relative
from ..core.record import format_time
from ..core.snapshot import STORE, TOP_LEVEL_ID, Snapshot
from ..errors import RefusedError
from . import boot_sources, btrfs, executor, files, history, keep, kernels, verify, window
from .host import Host
from .operations import Operations
from .store import Store


class Proposal(NamedTuple):
    """A plan that may be carried out, with what to say before the question."""

    target: Snapshot
    situation: Situation
    plan: Plan
    carried: tuple[str, ...]
    warnings: tuple[str, ...]


def propose(
    host: Host, store: Store, target: Snapshot, keep_paths: Sequence[str], now: datetime
) -> Proposal:
    """Return the plan that makes `target` the root. Changes nothing.

    `now` is aware. Raises RefusedError with the way out where a rollback would not be safe.
    """
    if not target.exists:
        raise RefusedError(
            f"{target.name} has no subvolume any more",
            hint="It was deleted by other means; 'fs-rollback list' shows what there is.",
        )
    window.refuse_while_waiting(window.look(host, store))
    _refuse_filesystem(host)
    layout = boot_sources.read_layout(host)
    _refuse_other_root(host, layout, target)
    situation = _situation(host, store, layout, target, keep.resolve(host, keep_paths), now)
    nested = nested_subvolumes(situation)
    _refuse_swap(host, {layout.root.id, *(s.id for s in nested)})
    with files.opened(host.path(target.path)) as tree:
        _refuse_other_layout(host, layout, target, tree)
        warnings = _compare_kernels(host, layout, tree)
    return Proposal(
        target,
        situation,
        plan_rollback(situation),
        tuple(relative(layout.root, subvolume) for subvolume in nested),
        tuple(warnings),
    )


def carry_out(
    host: Host,
    store: Store,
    proposal: Proposal,
    user: str,
    observe: executor.Observer = lambda *_: None,
    operations: steps.Operations | None = None,
) -> None:
    """Carry the plan out and read the machine again; returns only if the next boot finds the root.

    `observe` is told of each step, `operations` are the host's own if none are given. Raises what
    a failing step raised after taking everything back, UndoFailedError if that failed,
    VerificationError if the machine reads otherwise than it should (taken back too).
    """
    situation = proposal.situation
    root = situation.layout.root
    journal = Pending(
        state=State.PREPARED,
        created=situation.created,
        user=user,
        target=proposal.target.name,
        old_id=root.id,
        old_uuid=root.uuid,
        boot_id=window.boot_id(),
        plan=proposal.plan,
    )
    operations = operations or Operations(host)
    with _no_transaction(host):
        executor.execute(store, journal, operations, observe)
        try:
            verify.verify(host.root, proposal)
        except BaseException:
            with executor.signals_held_back():
                executor.undo(store, journal, operations)
            raise


@contextmanager
def _no_transaction(host: Host) -> Iterator[None]:
    """Hold rpm's lock: no transaction may change the root while it is being replaced."""
    lock = history.rpm_lock(host)
    if lock is None:
        raise RefusedError(
            "a package transaction is running", hint="Wait until it has finished, then try again."
        )
    try:
        yield
    finally:
        if lock >= 0:
            os.close(lock)


def _situation(
    host: Host,
    store: Store,
    layout: Layout,
    target: Snapshot,
    keep_paths: tuple[str, ...],
    now: datetime,
) -> Situation:
    taken = store.names() | {subvolume.path for subvolume in host.subvolumes}
    nested_paths = {
        relative(layout.root, s)
        for s in host.subvolumes
        if s.id != layout.root.id and is_within("/" + s.path, "/" + layout.root.path)
    }
    candidates = nested_paths | {s.path for s in host.subvolumes}
    tree = host.path(target.path)
    with files.opened(tree) as directory:
        text = files.read_in_tree(directory, "etc/fstab") or ""
    return Situation(
        layout=layout,
        subvolumes=host.subvolumes,
        default_id=host.default_id,
        target=target,
        target_from_top_level=_is_from_top_level(host, target),
        target_fstab_subvolume=_root_subvolume(text),
        spare=naming.free_name(naming.NEW_ROOT_PREFIX, now, taken),
        replaced=naming.free_name(naming.REPLACED_PREFIX, now, taken),
        created=format_time(now),
        keep=keep_paths,
        mounted_elsewhere=boot_sources.mounted_elsewhere(host),
        stubs=frozenset(p for p in candidates if p and btrfs.is_stub(f"{tree}/{p}")),
    )


def _is_from_top_level(host: Host, target: Snapshot) -> bool:
    """Whether the target is a copy of a root in the top level, and so has the store's stand-in."""
    if target.is_top_level:
        return True
    if target.record is not None and target.record.source.id == TOP_LEVEL_ID:
        return True
    top = next(s for s in host.subvolumes if s.id == TOP_LEVEL_ID)
    parent = target.subvolume.parent_uuid if target.subvolume else ""
    return bool(parent.strip("0")) and parent == top.uuid


def _root_subvolume(text: str) -> str:
    """Return what a text of fstab says of the root's subvolume, "" if nothing."""
    entry = fstab.root_entry(fstab.parse(text))
    for option in entry.options if entry else ():
        if option.startswith("subvol="):
            return option[7:].strip("/")
        if option.startswith("subvolid="):
            return option
    return ""


def _refuse_filesystem(host: Host) -> None:
    if host.mount.read_only:
        raise RefusedError(
            f"the filesystem on {host.mount.source} is read-only",
            hint="'dmesg' may say why; a filesystem that has no errors can be remounted"
            f" with 'mount -o remount,rw {host.root}'.",
        )
    if "degraded" in host.mount.super_options:
        raise RefusedError(
            f"the filesystem on {host.mount.source} runs with a device missing",
            hint="Replace the device first: see btrfs-replace(8).",
        )
    reason = host.unsupported()
    if reason:
        raise RefusedError(
            f"{reason}, so a snapshot of the root does not hold the whole system",
            hint="What rpm owns must lie in the root subvolume for a rollback.",
        )
    if history.transaction_is_running(host):
        raise RefusedError(
            "a package transaction is running", hint="Wait until it has finished, then try again."
        )


def _refuse_other_root(host: Host, layout: Layout, target: Snapshot) -> None:
    if layout.root.id != host.root_id:
        running = next((s.path for s in host.subvolumes if s.id == host.root_id), "?")
        raise RefusedError(
            f"/{running} is the root here, but the next boot uses /{layout.root.path}"
            f" ({layout.describe()})",
            hint="Reboot into the root that is to be replaced, then try again.",
        )
    if target.id == layout.root.id:
        raise RefusedError(f"{target.name} is the root already")
    inside = is_within(f"/{STORE}/", "/" + layout.root.path) and layout.root.id != TOP_LEVEL_ID
    if inside:
        raise RefusedError(f"the root /{layout.root.path} contains the snapshot store")


def _refuse_other_layout(host: Host, layout: Layout, target: Snapshot, tree: int) -> None:
    """Raise RefusedError if files in the target would boot another root; fstab is mended."""
    statements = [
        statement
        for statement in boot_sources.read_statements(host, tree, running=False)
        if not statement.where.startswith("/etc/fstab")
    ]
    hint = "Choose a snapshot that was taken since, or correct the files after a manual rollback."
    try:
        found = layouts.decide(statements, host.subvolumes, host.default_id, 0)
    except RefusedError as error:
        raise RefusedError(f"in {target.name}, {error}", hint=hint) from error
    if statements and found.root.id != layout.root.id:
        raise RefusedError(
            f"{target.name} was taken when this machine found its root otherwise:"
            f" {statements[0].where} there says {statements[0].text}",
            hint=hint,
        )


def _refuse_swap(host: Host, subvolumes: set[int]) -> None:
    """Raise RefusedError if an active swap file keeps one of the subvolumes from snapshots."""
    if not host.is_running:
        return
    with open("/proc/swaps", encoding="utf-8", errors="surrogateescape") as file:
        lines = file.read().splitlines()[1:]
    for path in (line.split()[0] for line in lines if line.split()[1:2] == ["file"]):
        if os.path.exists(path) and btrfs.is_on_btrfs(path):
            ours = os.stat(path).st_dev in _devices(host, subvolumes)
            if ours:
                raise RefusedError(
                    f"the swap file {path} is active, and a subvolume with one has no snapshots",
                    hint=f"Turn it off first: swapoff {path}",
                )


def _devices(host: Host, subvolumes: set[int]) -> set[int]:
    paths = (host.path(s.path) for s in host.subvolumes if s.id in subvolumes)
    return {os.stat(path).st_dev for path in paths}


def _compare_kernels(host: Host, layout: Layout, tree: int) -> list[str]:
    """Return what to say of kernels; raise RefusedError where none fits the restored root."""
    bootable, modules = set(_kernels_that_stay(host, layout)), set(kernels.with_modules(tree))
    if not bootable or not modules:
        return []
    fitting = sorted(bootable & modules)
    if not fitting:
        raise RefusedError(
            f"no kernel in /boot ({', '.join(sorted(bootable))}) has its modules in the snapshot"
            f" ({', '.join(sorted(modules))})",
            hint="Install a kernel that the snapshot has modules for, or choose a later snapshot.",
        )
    misfits = sorted(bootable - modules)
    if not misfits:
        return []
    return [
        f"/boot does not go back: choose kernel {' or '.join(fitting)} in the boot menu;"
        f" the restored root has no modules for {', '.join(misfits)}"
    ]


def _kernels_that_stay(host: Host, layout: Layout) -> tuple[str, ...]:
    """Return the kernels that the boot loader reads from where no rollback changes them.

    A /boot of its own; or, where no name leads to the root, the /boot in the top level: GRUB reads
    that by path whatever the default subvolume is. Elsewhere /boot goes back with the root.
    """
    own = files.device_of(host.root_fd, "boot") != os.fstat(host.root_fd).st_dev
    if own or "/boot" in boot_sources.mount_points(host):
        return kernels.in_boot(host.root_fd)
    return kernels.in_boot(host.top_fd) if layout.kind is layouts.Kind.DEFAULT else ()


def lost_files(proposal: Proposal, written: Sequence[str]) -> list[str]:
    """Return which of the files written since the snapshot go back with the rollback.

    Left out is what is kept or carried over, and what belongs to packages: those speak for it.
    """
    carried = ("/" + path for path in proposal.carried)
    stays = (*proposal.situation.keep, *carried, f"/{STORE}")
    return [
        path
        for path in written
        if not any(is_within(path, place) for place in stays)
        and (is_within(path, "/usr/local") or not is_within(path, "/usr"))
    ]
