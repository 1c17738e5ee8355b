# SPDX-License-Identifier: GPL-2.0-or-later
"""Makes a plan for a rollback to a snapshot: gather, refuse, plan. Changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import NamedTuple

from ...core.boot.layout import Layout
from ...core.formats import fstab
from ...core.formats.mount_options import subvolume_path
from ...core.formats.mountinfo import is_within, is_within_any
from ...core.rollback.kernel_steps import SetDefaultEntry
from ...core.rollback.plan import (
    KernelPlan,
    Plan,
    Situation,
    left_stand_ins,
    nested_subvolumes,
    plan_rollback,
    relative,
)
from ...core.rollback.steps import RootStep
from ...core.snapshots import names
from ...core.snapshots.record import format_time
from ...core.snapshots.snapshot import STORE, TOP_LEVEL_ID, Snapshot, Subvolume
from ...errors import RefusedError
from ..check import health
from ..execute import swap
from ..linux import btrfs, files
from ..machine.host import Host
from ..pending import state
from ..root import labels, mounted, root_lines, stand_ins, target_lines
from ..store.store import Store
from . import consequences, kept_paths, pair_kernels, refusals


class Proposal(NamedTuple):
    """A plan that may be carried out, with the warnings before the question.

    `carried` are nested subvolumes, from the root, `mounted` the mount points of what is outside.
    """

    target: Snapshot
    situation: Situation
    plan: Plan
    carried: tuple[str, ...]
    warnings: tuple[str, ...]
    mounted: tuple[str, ...]


def propose(
    host: Host,
    store: Store,
    target: Snapshot,
    keep_paths: Sequence[str],
    now: datetime,
    *,
    supersedes: bool = False,
) -> Proposal:
    """Return the plan that makes `target` the root. Changes nothing.

    `now` is aware; `supersedes`: a rollback is waiting, which settling.supersede() ends. Raises
    RefusedError, with the way out, if a rollback would not be safe.
    """
    if not target.exists:
        raise RefusedError(
            f"the subvolume of {target.name} no longer exists",
            hint="It was deleted outside fs-rollback; 'fs-rollback list' shows the snapshots that"
            " exist.",
        )
    if not supersedes:
        state.refuse_while_waiting(host, state.look(host, store))
    refusals.refuse_filesystem(host)
    mounted.refuse_what_is_not_mounted(host)
    layout = root_lines.read_layout(host)
    refusals.refuse_other_root(host, layout, target)
    situation = _situation(host, store, layout, target, kept_paths.resolve(host, keep_paths), now)
    nested = nested_subvolumes(situation)
    refusals.refuse_mounts_by_id(host, nested)
    refusals.refuse_swap(host, {layout.root.id, *(s.id for s in nested)})
    with files.opened(host.path(target.path)) as tree:
        refusals.refuse_stranger(host, target, tree)
        theirs = host.fstab_entries(tree)
        lines = target_lines.look(host, layout, target, tree, situation.lost_mounts)
        pairing = pair_kernels.pair(host, store, layout, target, tree)
        today = (*(f"/{relative(layout.root, s)}" for s in nested), *situation.keep)
        swap_files = tuple(swap.in_new_root(host, layout.root.path, tree, today))
    renewed = tuple(f.path for f in swap_files) if swap.has_room(host, swap_files) else ()
    situation = replace(
        situation,
        kernels=_paired(pairing.plan, lines.default),
        command_lines=lines.files,
        old_root=lines.old,
        swap=renewed,
    )
    return Proposal(
        target,
        situation,
        plan_rollback(situation),
        tuple(relative(layout.root, subvolume) for subvolume in nested),
        (
            *health.before_rollback(host, now),
            *kept_paths.missing(host, keep_paths),
            *pairing.warnings,
            *lines.warnings,
            *consequences.warnings(host, situation, theirs, swap_files),
        ),
        consequences.mounted(host, situation, theirs),
    )


def _paired(kernels: KernelPlan, default: SetDefaultEntry | None) -> KernelPlan:
    """Return what is done about kernels, with the default entry that a /boot in the root gets."""
    return replace(kernels, default=default, default_first=False) if default else kernels


def _situation(
    host: Host,
    store: Store,
    layout: Layout,
    target: Snapshot,
    keep_paths: tuple[str, ...],
    now: datetime,
) -> Situation:
    with files.opened(host.path(target.path)) as tree:
        root = fstab.root_entry(host.fstab_entries(tree))
        found = btrfs.stand_ins(tree)
        lost = target_lines.lost_mounts(host, tree)
        added = stand_ins.mounts(host, layout, tree, found, lost)
        restored = _to_restore(host, target, tree, found)
        relabel = labels.why_relabel(host, tree)
    from_top_level = _is_from_top_level(host, target)
    situation = Situation(
        layout=layout,
        subvolumes=host.subvolumes,
        default_id=host.default_id,
        target=target,
        target_from_top_level=from_top_level,
        target_fstab_subvolume=_root_subvolume(root),
        # In the store, whose mode keeps everyone else out while the new root is being made.
        spare=f"{STORE}/{names.free_name(names.NEW_ROOT_PREFIX, now, store)}",
        replaced=names.free_name(names.REPLACED_PREFIX, now, store),
        created=format_time(now),
        keep=keep_paths,
        mounted_elsewhere=root_lines.mounted_elsewhere(host),
        stubs=frozenset(found),
        lost_mounts=lost,
        relabel=relabel,
        added_mounts=added,
        outside=stand_ins.outside(host, found) if from_top_level else frozenset(),
    )
    left = left_stand_ins(situation)
    return replace(situation, restored=tuple(s for top, s in restored if top in left))


def _to_restore(
    host: Host, target: Snapshot, tree: int, found: Sequence[str]
) -> list[tuple[str, Subvolume]]:
    """Return the subvolumes that lie in a replaced root, parents first, each with where.

    That is the path, from the root, of the subvolume that it is or lies in. What is carried over
    as it is now, or hidden by a mount, does not have to be brought back; nor has what lies right at
    the top level, where it is most likely no part of a root.
    """
    if target.subvolume is None:
        return []
    real = [p for p in found if files.inode_of(tree, p) == btrfs.SUBVOLUME_INODE]
    if target.is_top_level:
        beside = {*root_lines.mounted_elsewhere(host), STORE}
        real = [path for path in real if "/" in path and not is_within_any(path, beside)]
    tops = [path for path in real if not stand_ins.covered(host, path)]
    prefix = f"{target.path}/" if target.path else ""
    inside = sorted(
        (s for s in host.subvolumes if s.path and s.path.startswith(prefix)), key=lambda s: s.path
    )
    places = [(relative(target.subvolume, s), s) for s in inside]
    return [(top, s) for top in tops for place, s in places if is_within(place, top)]


def _is_from_top_level(host: Host, target: Snapshot) -> bool:
    """Whether the target is a copy of a root in the top level, and so has the store's stand-in."""
    if target.is_top_level:
        return True
    if target.record is not None and target.record.source.id == TOP_LEVEL_ID:
        return True
    top = next(s for s in host.subvolumes if s.id == TOP_LEVEL_ID)
    parent = target.subvolume.parent_uuid if target.subvolume else ""
    return bool(parent.strip("0")) and parent == top.uuid


def _root_subvolume(entry: fstab.Entry | None) -> str:
    """Return what a line of fstab says of the root's subvolume, an ID above all; "" if nothing."""
    options = entry.options if entry else ()
    pinned = [option for option in options if option.startswith("subvolid=")]
    return pinned[0] if pinned else (subvolume_path(options) or "")


def steps_alone(proposal: Proposal) -> tuple[RootStep, ...]:
    """Return the steps without the names and the time that are new in each proposal."""
    names_alike = replace(proposal.situation, spare="new", replaced="old", created="")
    return plan_rollback(names_alike).steps
