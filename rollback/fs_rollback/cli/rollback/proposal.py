# SPDX-License-Identifier: GPL-2.0-or-later
"""What `rollback` and `undo` have in common: a plan and its consequences, shown and carried out."""

from __future__ import annotations

import os
from argparse import Namespace
from datetime import datetime
from functools import partial
from typing import Any, Callable, NamedTuple

from ... import report
from ...core.formats.mountinfo import checked_path
from ...core.rollback.steps import RootStep
from ...core.snapshots.names import label
from ...errors import UsageError
from ...system.execute import executor
from ...system.execute.trees import Operations
from ...system.hooks.transaction import requested_by
from ...system.machine.host import Host
from ...system.pending import settle, state
from ...system.rollback import kept_paths as paths_to_keep
from ...system.rollback import perform
from ...system.rollback import propose as proposals
from ...system.store.store import Store
from .. import session
from ..advice import addressed
from ..screen import pager
from ..terminal import now_doing, progress
from . import question
from .facts import Facts, gather
from .target import Wish

_BACK = "The current root is kept whole; 'fs-rollback undo' goes back to it."


def _keep_paths(args: Namespace, host: Host) -> tuple[str, ...]:
    configured = () if args.no_keep else session.configuration(host).keep
    try:
        asked = [checked_path(path) for path in args.keep]
    except ValueError as error:
        raise UsageError(f"--keep takes an absolute path, not {error}") from error
    paths_to_keep.refuse_long(asked)
    for path in asked:
        if not paths_to_keep.expand(host.root_fd, path):
            link = paths_to_keep.dangling_link(host.root_fd, path)
            if link is not None:
                place, target = link
                raise UsageError(
                    f"--keep: {place} is a symbolic link to {target}, which does not exist",
                    hint="Nothing was changed. Give the path of the files themselves.",
                )
            raise UsageError(f"--keep: {path} does not exist", hint="Nothing was changed.")
    return (*configured, *asked)


class GoBack(NamedTuple):
    """Makes a snapshot, or an older root, the root of the next boot: an Intent of ask.py.

    `found` says which rollback waits, if any: this one replaces it.
    """

    wish: Wish
    purpose: str
    keep: tuple[str, ...]
    found: state.Window
    proposal: proposals.Proposal
    facts: Facts

    @property
    def question(self) -> str:
        """What is asked at the end."""
        return f"{self.wish.verb} to {label(self.proposal.target)}?"

    @property
    def answer(self) -> dict[str, Any]:
        """What --json says of it."""
        return {
            "target": self.proposal.target.name,
            "target_id": self.proposal.target.id or None,
            "target_for": self.purpose or None,
            "notes": list(self.wish.notes),
            "steps": report.steps_json(self.proposal.plan.steps),
            "reverts": self.facts.as_json(),
            "warnings": list(self.proposal.warnings),
            "done": False,
        }

    def show(self, args: Namespace) -> None:
        """Print what reverts and what stays; the steps and all files only on request."""
        head = (
            *self.wish.notes,
            question.target_line(self.wish.verb, self.proposal.target, self.purpose),
        )
        if args.plan or args.dry_run:
            print("\n".join(question.steps(self.proposal.plan.steps)), end="\n\n")
        if args.all:
            pager.show("\n".join(question.everything(self.facts)))
        print(question.text(head, self.proposal, self.facts, addressed(_BACK, args)))

    def differences(self, shown: Any) -> list[str]:
        """Return what differs from what was `shown`: the target, the steps, what reverts."""
        if not isinstance(shown, GoBack):
            return ["no rollback is waiting for a reboot any more"]
        found = []
        if self.proposal.target.subvolume != shown.proposal.target.subvolume:
            found.append(f"{label(self.proposal.target)} has changed")
        if self.ends_another != shown.ends_another:
            found.append("a rollback waits" if self.ends_another else "no rollback waits any more")
        steps, before = map(proposals.steps_alone, (self.proposal, shown.proposal))
        if steps != before:
            new = [step.describe() for step in steps if step not in before]
            found.append(f"other steps: {' '.join(new)}" if new else "fewer steps")
        found += self.facts.differences(shown.facts)
        if self.proposal.warnings != shown.proposal.warnings:
            found.append("other warnings")
        return found

    @property
    def ends_another(self) -> bool:
        """Whether this rollback replaces one that waits."""
        return self.found.waiting is not state.Waiting.NOTHING

    def carry_out(self, args: Namespace, host: Host, store: Store) -> int:
        """Do it, and say how it ended."""
        answer, proposal = self.answer, self.proposal
        with executor.finishing():
            if self.ends_another:
                for line in settle.supersede(host, store, self.found, Operations(host)):
                    session.note(line)
                # What was brought over may have changed which subvolumes are nested in the root.
                now = datetime.now().astimezone()
                proposal = proposals.propose(host, store, proposal.target, self.keep, now)
            with now_doing() as tell:
                warnings = perform.carry_out(
                    host,
                    store,
                    proposal,
                    requested_by(dict(os.environ)),
                    partial(_progress, len(proposal.plan.steps), tell),
                    Operations(host, progress),
                )
            for warning in warnings:
                answer["warnings"].append(warning)
                session.note(f"warning: {warning}")
            replaced = proposal.situation.replaced
            answer.update(done=True, replaced=replaced, next_step="reboot")
            return session.reply(
                args,
                answer,
                f"Rolled back: the next boot uses a copy of {label(proposal.target)}.\n"
                f"The old root is kept, whole, as {replaced}.\n"
                "Now: reboot   (or cancel the rollback: fs-rollback undo)",
            )


def go_back(
    args: Namespace, host: Host, store: Store, wish: Wish, found: state.Window, shown: Any
) -> GoBack:
    """Decide on a rollback. `found` says what waits, `shown` what was shown before, if anything.

    Raises Error, see propose().
    """
    keep = _keep_paths(args, host)
    now = datetime.now().astimezone()
    supersedes = found.waiting is not state.Waiting.NOTHING
    proposal = proposals.propose(host, store, wish.target, keep, now, supersedes=supersedes)
    before = shown.facts if isinstance(shown, GoBack) else None
    facts = gather(args, host, proposal, before)
    purpose = report.what(wish.target, report.view(store.load(), now))
    return GoBack(wish, purpose, keep, found, proposal, facts)


def _progress(
    count: int,
    tell: Callable[[str], None],
    moment: executor.Moment,
    index: int,
    step: RootStep,
) -> None:
    if moment is executor.Moment.BEFORE:
        tell(f"step {index + 1} of {count}: {step.describe()}")
