# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert prepare`: what can be done while the root is ext4 and in use."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from ...cli import command
from .actions import have_backup

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Sequence

    from ...core.boot.findings import Finding
    from ...system.execute import executor
    from ..plan.steps import PreparingStep
    from ..prepare.prepare_machine import Observer, Proposal


def arguments(parser: ArgumentParser) -> None:
    """Add what `convert prepare` takes."""
    parser.add_argument(
        "--at-next-boot",
        action="store_true",
        help="convert at the next boot, before the root is mounted, without a rescue system",
    )
    have_backup(parser)
    command.yes(parser)
    command.dry_run(parser)
    command.json(parser)


def run(args: Namespace) -> int:
    """`convert prepare`: everything that can be done while the root is ext4 and in use."""
    from datetime import datetime, timezone

    from ... import report
    from ...cli import session
    from ...system.execute import executor
    from ..check import points
    from ..machine import machine
    from ..prepare import prepare_machine
    from ..run import convert
    from . import dialogue

    session.refuse_device(args)
    with machine.opened(args.root) as root, prepare_machine.locked(root):
        prepare_machine.refuse_read_only(root)
        if root.mount.fstype == "ext4":
            prepare_machine.refuse_prepared(root.root)
        known = dialogue.facts(args, root)
        now = datetime.now(timezone.utc)
        found = points.points(known)
        # A rescue system brings its own.
        elsewhere = () if args.at_next_boot else ("btrfs-progs",)
        convert.refuse([p for p in found if p.area not in elsewhere])
        proposal = prepare_machine.propose(root, known, at_next_boot=args.at_next_boot, now=now)
        steps = proposal.preparation.steps
        warned = _unanswered(found, steps)
        answer: dict[str, Any] = {
            "warnings": [f"{point.text}. {point.advice}".strip() for point in warned],
            "steps": report.steps_json(steps),
            "done": False,
        }
        if proposal.not_chosen:
            answer["warnings"].append(
                f"cannot set the next boot: {proposal.not_chosen}. Choose this in the boot menu"
                f" then: {prepare_machine.TITLE}"
            )
        if not args.json:
            for warning in answer["warnings"]:
                print(f"Warning: {report.clean(warning)}\n")
            print("This is done while the root is ext4; 'fs-rollback convert abort' undoes"
                " it:")  # fmt: skip
            dialogue.print_steps(steps)
        if args.dry_run:
            return session.unchanged(args, answer)
        dialogue.ask_for_backup(args, known.device)
        if not session.confirm("Prepare the conversion?", yes=args.yes):
            return session.unchanged(args, answer)
        with executor.finishing():
            reason = prepare_machine.carry_out(root, proposal, _observer(len(steps)))
            answer.update(done=True, sheet=proposal.sheet, next_boot=reason or None)
            return session.reply(args, answer, _prepared(proposal, reason))


def _unanswered(found: Sequence[Finding], steps: Sequence[PreparingStep]) -> list[Finding]:
    """Return the warnings that no step sees to; the one of the backup is asked for."""
    from ...core.boot.findings import Grade
    from ..plan.steps import RebuildImage

    rebuilt = {f"/{step.path}" for step in steps if isinstance(step, RebuildImage)}
    warned = [point for point in found if point.grade is not Grade.OK]
    return [p for p in warned if p.area != "backup" and p.subject not in rebuilt]


def _prepared(proposal: Proposal, reason: str) -> str:
    from ..plan.plan import SHEET
    from ..prepare import prepare_machine

    lines = [
        proposal.sheet,
        f"This sheet is also in /{SHEET}: print it, or copy it to another machine, now.",
    ]
    if proposal.preparation.converter is None:
        lines.append("Prepared. Now boot a rescue system and follow the sheet, from step 1.")
    elif reason:
        lines.append(f"Cannot set the next boot: {reason}.")
        lines.append(
            f"Prepared. Now reboot, and choose this in the boot menu: {prepare_machine.TITLE}"
        )
    else:
        lines.append("Prepared. Now reboot: that boot converts the root, then continues.")
    return "\n".join(lines)


def _observer(count: int) -> Observer:
    from ...cli import session
    from ...system.execute import executor

    def observe(moment: executor.Moment, number: int, step: PreparingStep) -> None:
        if moment is executor.Moment.BEFORE and sys.stderr.isatty():
            session.note(f"step {number + 1} of {count}: {step.describe()}")

    return observe


_HELP = "prepare an ext4 root for the conversion; asks first"
COMMAND = command.Command(_HELP, arguments, run, on_device=False, on_own_root=False)
