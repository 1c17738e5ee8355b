# SPDX-License-Identifier: GPL-2.0-or-later
"""A rollback as data: decided here, printed by `--dry-run`, carried out by system/execute."""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from typing import Any, Optional, Union

from ..boot import layout as layouts
from ..formats import mountinfo
from ..snapshots.replaced_by import ReplacedBy
from ..snapshots.snapshot import LONGEST_PATH, STAGING, STORE, TOP_LEVEL_ID, Snapshot, Subvolume
from . import kernel_steps, mending_steps, nested_steps, steps
from .kernel_steps import ForgetOneShot, PutBackKernel, SetDefaultEntry
from .operations import Operations
from .root_steps import CreateRoot, Exchange, KeepNewRoot, SetAside, SetDefault, Sync
from .step import UnknownStepError, from_json, to_json

FROZEN = ".keep"  # after the name of the new root: an image of the old one, to copy from
CommitStep = Union[Exchange, SetDefault]
# What the journal says beside the steps, where older programs pass it over.
_SAID_ONCE = ("new_uuid", "target_name", "target_path")
_STEPS: dict[str, Any] = {
    step.__name__: step
    for step in (
        CreateRoot,
        KeepNewRoot,
        steps.KeepPaths,
        steps.CarrySubvolume,
        nested_steps.RestoreSubvolume,
        nested_steps.RenewSwap,
        steps.SealSubvolumes,
        nested_steps.RemoveStubs,
        steps.MendFstab,
        nested_steps.AddMounts,
        mending_steps.MendCommandLines,
        mending_steps.DropMounts,
        mending_steps.Relabel,
        Exchange,
        SetDefault,
        Sync,
        SetAside,
        kernel_steps.PutBackKernel,
        kernel_steps.SetDefaultEntry,
        kernel_steps.ForgetOneShot,
        kernel_steps.RenewMenu,
        kernel_steps.LendModules,
        kernel_steps.ReturnModules,
    )
}


@dataclass(frozen=True)
class Plan:
    """The steps in order; `commit` is the index of the one that decides what boots next."""

    steps: tuple[steps.RootStep, ...]
    commit: int

    @property
    def commit_step(self) -> CommitStep:
        """The step before which everything only adds, and after which everything only tidies."""
        step = self.steps[self.commit]
        assert isinstance(step, (Exchange, SetDefault)), "plans commit with one of two"
        return step

    def with_saved_kernels(self, boot_files: str) -> Plan:
        """Return the same plan, whose replaced root has this list of saved kernels."""
        return self._with_aside(boot_files=boot_files)

    def with_target(self, name: str, path: str) -> Plan:
        """Return the same plan, for a copy of this snapshot; stored steps do not say which."""
        return self._with_aside(target_name=name, target_path=path)

    def _with_aside(self, **changes: Any) -> Plan:
        changed = (
            dataclasses.replace(step, **changes) if isinstance(step, SetAside) else step
            for step in self.steps
        )
        return dataclasses.replace(self, steps=tuple(changed))

    @property
    def aside(self) -> SetAside:
        """The step that sets the old root aside."""
        return next(step for step in self.steps if isinstance(step, SetAside))

    @property
    def new_uuid(self) -> str:
        """The UUID of the root that this plan has made, "" while it is not known."""
        return self.commit_step.new_uuid

    @property
    def needs_boot(self) -> bool:
        """Whether there is something to finish or to undo in /boot or on the ESP."""
        return any(isinstance(step, kernel_steps.OF_LOADER) for step in self.steps)

    def with_new_root(self, uuid: str) -> Plan:
        """Return the same plan for the new root that has this UUID."""
        known = tuple(
            dataclasses.replace(step, new_uuid=uuid)
            if isinstance(step, (CreateRoot, KeepNewRoot, Exchange, SetDefault))
            else step
            for step in self.steps
        )
        return dataclasses.replace(self, steps=known)

    def keeping_new_root(self, name: str, created: str, description: str) -> Plan:
        """Return the same plan, which keeps the new root under `name` when it is undone."""
        kept = KeepNewRoot(self.aside.spare, name, created, description, self.new_uuid)
        before = [s for s in self.steps[: self.commit] if not isinstance(s, KeepNewRoot)]
        return Plan((*before, kept, *self.steps[self.commit :]), len(before) + 1)

    def is_foreign(self, operations: Operations) -> bool:
        """Whether the old root is at none of the places where this plan could have left it."""
        aside = self.aside
        places = (aside.old_path, aside.spare, f"{STORE}/{aside.name}")
        return all(operations.subvolume(place)[1] != aside.old_uuid for place in places)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON has it; `from_json` reads it back."""
        rows = to_json(self.steps)
        for row in rows:
            for key in _SAID_ONCE:
                row.pop(key, None)
        return {"commit": self.commit, "steps": rows}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        """Rebuild a stored plan. Raises UnknownStepError if a step is unknown or does not fit."""
        plan = cls(from_json(data["steps"], _STEPS), int(data["commit"]))
        if not isinstance(plan.steps[plan.commit], (Exchange, SetDefault)):
            raise UnknownStepError(f"step {plan.commit} cannot be a commit")
        return plan


@dataclass(frozen=True)
class KernelPlan:
    """What has to change for a kernel to meet its modules.

    `default_first`: the default entry is changed before the commit. If it is not, `lend` is the
    kernel that needs its modules in the new root until then, "" for none. `menu` is there where the
    boot entries go back with the root.
    """

    put_back: Optional[PutBackKernel] = None
    default: Optional[SetDefaultEntry] = None
    default_first: bool = True
    lend: str = ""
    forget: Optional[ForgetOneShot] = None
    menu: Optional[kernel_steps.MenuFiles] = None


@dataclass(frozen=True)
class Situation:
    """All that a plan is made from.

    `keep` are paths in the root, absolute and resolved. `mounted_elsewhere` are subvolume paths
    that the tree's fstab mounts by name. `stubs` are the paths of all empty stand-ins that a
    snapshot of the target has, `outside` those of them that stand for subvolumes beside the root,
    `restored` are subvolumes inside the target itself that are to be brought back. `swap` are the
    swap files, from the root, that the new root has copies of.
    `lost_mounts` are lines of the target's fstab for what is gone. `relabel` is why the new root
    needs labels of SELinux, "" if it does not.
    `command_lines` are files of the target that lead to another root, `old_root` is where the root
    lay when they were written.
    `added_mounts` are lines of the tree's fstab for what is mounted where the target has old data
    or a stand-in.
    `created` is an RFC 3339 time, `spare` and `replaced` are free names.
    """

    layout: layouts.Layout
    subvolumes: tuple[Subvolume, ...]
    default_id: int
    target: Snapshot
    target_from_top_level: bool
    target_fstab_subvolume: str
    spare: str
    replaced: str
    created: str
    keep: tuple[str, ...]
    mounted_elsewhere: frozenset[str]
    stubs: frozenset[str]
    kernels: KernelPlan = KernelPlan()
    added_mounts: tuple[str, ...] = ()
    outside: frozenset[str] = frozenset()
    restored: tuple[Subvolume, ...] = ()
    swap: tuple[str, ...] = ()
    command_lines: tuple[str, ...] = ()
    old_root: str = ""
    lost_mounts: tuple[str, ...] = ()
    relabel: str = ""


def plan_rollback(situation: Situation) -> Plan:
    """Return the plan that makes the target the root.

    Nothing that exists is changed before the commit; nothing that boots depends on what follows.
    """
    root, spare = situation.layout.root, situation.spare
    kernels = situation.kernels
    # First, so that a /boot nested in the root is carried over with it.
    prepare: list[steps.RootStep] = [kernels.forget] if kernels.forget else []
    prepare += [kernels.put_back] if kernels.put_back else []
    first, last = _default_entry(kernels)
    prepare += first
    prepare.append(CreateRoot(situation.target.path, spare, root.uuid))
    if situation.keep:
        prepare.append(steps.KeepPaths(root.path, spare, spare + FROZEN, situation.keep))
    nested = nested_subvolumes(situation)
    prepare += [steps.CarrySubvolume(root.path, spare, relative(root, s)) for s in nested]
    sealed = [relative(root, s) for s in nested if s.read_only]
    target = situation.target.subvolume
    if target is not None and situation.restored:
        restored = [(relative(target, s), s) for s in situation.restored]
        prepare += [nested_steps.RestoreSubvolume(target.path, spare, path) for path, _ in restored]
        sealed += [path for path, s in restored if s.read_only]
    prepare += [nested_steps.RenewSwap(spare, situation.swap)] if situation.swap else []
    prepare += [steps.SealSubvolumes(spare, tuple(sealed))] if sealed else []
    prepare += _mend(situation)
    if kernels.menu:
        prepare.append(kernel_steps.RenewMenu(root.path, spare, **kernels.menu._asdict()))
    if kernels.lend:
        prepare.append(kernel_steps.LendModules(root.path, spare, kernels.lend))
        # Synced in between for the way back: lent before the old default is told.
        last += [Sync(), _return_modules(situation)]
    prepare.append(Sync())
    commit = _commit(situation)
    aside = SetAside(
        spare=spare,
        name=situation.replaced,
        old_path=root.path,
        old_id=root.id,
        old_uuid=root.uuid,
        created=situation.created,
        description=ReplacedBy(situation.target.name).sentence(),
        target_name=situation.target.name,
        target_path=situation.target.path,
    )
    return Plan((*prepare, *commit, *last, aside, Sync()), len(prepare))


def _return_modules(situation: Situation) -> kernel_steps.ReturnModules:
    """Return the step that follows the commit, when the roots may have exchanged their names."""
    root, spare, kernel = situation.layout.root, situation.spare, situation.kernels.lend
    top = situation.layout.in_top_level
    old, new = (root.path, spare) if top else (spare, root.path)
    return kernel_steps.ReturnModules(old, new, kernel, root.uuid)


def _default_entry(kernels: KernelPlan) -> tuple[list[steps.RootStep], list[steps.RootStep]]:
    """Return what is done before the commit and after it, design.md section 5.

    Before it where the old root has that kernel's modules too: a power cut between the two then
    boots either way.
    """
    if kernels.default is None:
        return [], []
    return ([kernels.default], []) if kernels.default_first else ([], [kernels.default])


def _commit(situation: Situation) -> list[steps.RootStep]:
    """Return the commit, what belongs to it, and the sync that brings it to the disk."""
    layout, spare = situation.layout, situation.spare
    root = layout.root
    exchange = Exchange(root.path, spare, root.uuid)
    if layout.kind is layouts.Kind.NAMED:
        # A machine that names its root may have it as default too (Oracle Linux).
        follow = [SetDefault(root.path, root.id)] if root.id == situation.default_id else []
        return [exchange, Sync(), *follow]
    set_default = SetDefault(spare, root.id)
    # Nothing finds this root by its name but GRUB, which reads /boot by path from ID 5.
    return [set_default, Sync(), *([] if layout.in_top_level else [exchange])]


def nested_subvolumes(situation: Situation) -> list[Subvolume]:
    """Return the subvolumes that lie inside the root and go with it, parents first.

    The backup that an interrupted first boot keeps is left out: it belongs to this root alone. So
    are subvolumes whose path is too long.
    """
    root = situation.layout.root
    staging = f"{root.path}/{STAGING}".lstrip("/")
    return sorted(
        (
            subvolume
            for subvolume in situation.subvolumes
            if subvolume.id not in (root.id, TOP_LEVEL_ID)
            and mountinfo.is_within("/" + subvolume.path, "/" + root.path)
            and not is_too_deep(root, subvolume)
            and not mountinfo.is_within(subvolume.path, staging)
            and not (root.id == TOP_LEVEL_ID and _stays_in_top_level(subvolume, situation))
        ),
        key=lambda subvolume: subvolume.path,
    )


def _stays_in_top_level(subvolume: Subvolume, situation: Situation) -> bool:
    """Whether a subvolume is no part of a root that lies in the top level.

    The store with roots of ours, the image that btrfs-convert(8) leaves, and what fstab mounts by a
    path that does not change.
    """
    path = "/" + subvolume.path
    if mountinfo.is_within(path, f"/{STORE}"):
        return True
    mounted = situation.mounted_elsewhere
    return subvolume.path == "ext2_saved" or any(
        mountinfo.is_within(path, "/" + m) for m in mounted
    )


def left_stand_ins(situation: Situation) -> frozenset[str]:
    """Return the stand-ins of the target that nothing else replaces in the new root."""
    root = situation.layout.root
    filled = {f"/{relative(root, s)}" for s in nested_subvolumes(situation)}
    if situation.target.subvolume is not None:
        filled |= {f"/{relative(situation.target.subvolume, s)}" for s in situation.restored}
    filled |= {*situation.keep, f"/{STORE}", f"/{STAGING}"}
    left = (stub for stub in situation.stubs if not mountinfo.is_within_any(f"/{stub}", filled))
    return frozenset(left)


def _mend(situation: Situation) -> list[steps.RootStep]:
    found: list[steps.RootStep] = []
    left = left_stand_ins(situation)
    remove = left & situation.outside
    directories = tuple(sorted(left - remove))
    if situation.target_from_top_level:
        remove |= {STORE}
    if remove or directories:
        found.append(
            nested_steps.RemoveStubs(
                situation.layout.root.path, situation.spare, tuple(sorted(remove)), directories
            )
        )
    named = situation.layout.kind is layouts.Kind.NAMED
    wanted = situation.layout.root.path if named else ""
    says = situation.target_fstab_subvolume
    if says and says != wanted:
        found.append(steps.MendFstab(situation.spare, wanted))
    if situation.lost_mounts:
        found.append(mending_steps.DropMounts(situation.spare, situation.lost_mounts))
    if situation.command_lines:
        root, old = situation.layout.root.path, situation.old_root
        found.append(
            mending_steps.MendCommandLines(
                situation.spare, wanted, root, old, situation.command_lines
            )
        )
    if situation.added_mounts:
        found.append(nested_steps.AddMounts(situation.spare, situation.added_mounts))
    if situation.relabel:
        found.append(mending_steps.Relabel(situation.spare, situation.relabel))
    return found


def relative(root: Subvolume, subvolume: Subvolume) -> str:
    """Return the path of a nested subvolume from its root."""
    return subvolume.path[len(root.path) :].strip("/")


def is_too_deep(root: Subvolume, subvolume: Subvolume) -> bool:
    """Whether the path of a nested subvolume, from its root, is too long to handle."""
    return len(os.fsencode(relative(root, subvolume))) > LONGEST_PATH
