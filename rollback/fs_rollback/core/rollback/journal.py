# SPDX-License-Identifier: GPL-2.0-or-later
"""pending.json: a rollback under way, or one that waits for its reboot.

The version is still 1: version 0.1.0 of this program ignores fields that it does not know, and acts
on the steps of the plan, which have not changed. A journal that it writes lacks those fields; they
are read from the steps then.
"""

from __future__ import annotations

import enum
import json
from typing import Any, NamedTuple

from ..boot.layout import Kind
from ..snapshots.record import parse_time
from .nested_steps import RenewSwap
from .plan import FROZEN, Plan, Situation, nested_subvolumes, relative
from .root_steps import CreateRoot, Exchange
from .steps import CarrySubvolume, KeepPaths

VERSION = 1


class State(enum.Enum):
    """How far a rollback is by its journal; what the machine itself says counts more."""

    PREPARED = "prepared"
    COMMITTED = "committed"


class RootChange(NamedTuple):
    """The two roots of a rollback, and what the new one gets from the old one.

    All but the names are paths. From the top level: `target_path`, the snapshot that the new root
    is a copy of; `root`, the place of the root, "" for the top level itself; `spare`, where the new
    root is made. From the root: `kept`, with a slash in front, `carried`, the nested subvolumes,
    and `swap`, the swap files that are made anew. `layout` is how the machine finds its root,
    `replaced` the name that the old root gets in the store.
    """

    target_path: str
    root: str
    layout: Kind
    spare: str
    replaced: str
    kept: tuple[str, ...]
    carried: tuple[str, ...]
    swap: tuple[str, ...]

    @property
    def in_top_level(self) -> bool:
        """Whether the root that goes is the top level, which stays where it is."""
        return not self.root

    @property
    def frozen(self) -> str:
        """Where an image of the old root is made to copy kept paths from, "" without any."""
        return self.spare + FROZEN if self.kept else ""


class Pending(NamedTuple):
    """The journal of one rollback: what it is doing, for whom, in which boot of the machine.

    `old_id` and `old_uuid` are the root that goes; `boot_id` (/proc/sys/kernel/random/boot_id) is
    the boot it was done in: as long as that lasts, the new root cannot have run. `generation` is
    the transaction number of the filesystem right before the commit: whatever is newer in the new
    root, the new root has written; 0 is unknown. `plan` has the steps, to carry them out, finish
    them or undo them; `roots` has everything else.
    """

    state: State
    created: str
    user: str
    target: str
    old_id: int
    old_uuid: str
    boot_id: str
    plan: Plan
    roots: RootChange
    generation: int = 0

    @property
    def new_uuid(self) -> str:
        """The UUID of the root that the rollback has made, "" while it is not known."""
        return self.plan.new_uuid


class PendingError(ValueError):
    """The text is not a journal that this program can act on."""


def begun(situation: Situation, plan: Plan, user: str, boot_id: str) -> Pending:
    """Return the journal of a rollback that is about to begin."""
    root = situation.layout.root
    return Pending(
        state=State.PREPARED,
        created=situation.created,
        user=user,
        target=situation.target.name,
        old_id=root.id,
        old_uuid=root.uuid,
        boot_id=boot_id,
        plan=plan,
        roots=RootChange(
            target_path=situation.target.path,
            root=root.path,
            layout=situation.layout.kind,
            spare=situation.spare,
            replaced=situation.replaced,
            kept=situation.keep,
            carried=tuple(relative(root, s) for s in nested_subvolumes(situation)),
            swap=situation.swap,
        ),
    )


def dump(pending: Pending) -> str:
    """Return the journal as JSON text."""
    data: dict[str, Any] = {"version": VERSION, **pending._asdict()}
    data["state"] = pending.state.value
    data["plan"] = pending.plan.to_json()
    data["new_uuid"] = pending.new_uuid
    data["roots"] = {**pending.roots._asdict(), "layout": pending.roots.layout.value}
    return json.dumps(data, indent=1) + "\n"


def parse(text: str) -> Pending:
    """Read a journal. Raises PendingError."""
    try:
        data = json.loads(text)
        if data["version"] > VERSION:
            version = data["version"]
            raise PendingError(f"format version {version} is newer than this program supports")
        parse_time(data["created"])
        plan = Plan.from_json(data["plan"])
        generation = int(data.get("generation", 0))
        if not 0 <= generation < 1 << 63:
            raise PendingError(f"{generation} is not a generation")
        roots = _roots(data["roots"]) if "roots" in data else _roots_of_0_1_0(plan)
        target, new_uuid = _text(data["target"]), _text(data.get("new_uuid") or "")
        plan = plan.with_target(target, roots.target_path)
        return Pending(
            state=State(data["state"]),
            created=data["created"],
            user=_text(data["user"]),
            target=target,
            old_id=int(data["old_id"]),
            old_uuid=_text(data["old_uuid"]),
            boot_id=_text(data["boot_id"]),
            plan=plan.with_new_root(new_uuid) if new_uuid else plan,
            roots=roots,
            generation=generation,
        )
    except PendingError:
        raise
    except (
        LookupError,
        StopIteration,
        TypeError,
        ValueError,
        AttributeError,
        ArithmeticError,
        RecursionError,
    ) as error:
        raise PendingError(f"{type(error).__name__}: {error}") from error


def _roots(data: dict[str, Any]) -> RootChange:
    return RootChange(
        target_path=_text(data["target_path"]),
        root=_text(data["root"]),
        layout=Kind(data["layout"]),
        spare=_text(data["spare"]),
        replaced=_text(data["replaced"]),
        kept=_texts(data["kept"]),
        carried=_texts(data["carried"]),
        swap=_texts(data["swap"]),
    )


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"expected a list, found {type(value).__name__}")
    return tuple(_text(text) for text in value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"expected a text, found {type(value).__name__}")
    return value


def _roots_of_0_1_0(plan: Plan) -> RootChange:
    """Read the fields from the steps: a journal of version 0.1.0 has nothing else."""
    aside = plan.aside
    created = next(step for step in plan.steps if isinstance(step, CreateRoot))
    kept = (step.paths for step in plan.steps if isinstance(step, KeepPaths))
    swap = (step.paths for step in plan.steps if isinstance(step, RenewSwap))
    return RootChange(
        target_path=created.target,
        root=aside.old_path,
        layout=Kind.NAMED if isinstance(plan.commit_step, Exchange) else Kind.DEFAULT,
        spare=aside.spare,
        replaced=aside.name,
        kept=next(kept, ()),
        carried=tuple(step.path for step in plan.steps if isinstance(step, CarrySubvolume)),
        swap=next(swap, ()),
    )
