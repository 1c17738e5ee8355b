# SPDX-License-Identifier: GPL-2.0-or-later
"""The commands that lead from ext4 to btrfs and back: convert check, prepare, run, abort."""

from __future__ import annotations

import dataclasses
import os
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

from ... import report
from ...cli import session
from ...core.boot.conversion_state import Stage
from ...errors import RefusedError, UnsupportedRootError, UsageError, require_root
from ...system.execute import executor
from ...system.linux import devices
from ...system.root import offline
from ..check import gather, points
from ..disk import looking_at, mounted, readonly_mount
from ..machine import machine
from ..machine.machine import Ext4Machine
from ..plan import state
from ..plan.facts import Facts, Point, Verdict, exit_code, worst
from ..plan.plan import SAVED, SHEET
from ..plan.steps import PreparingStep, RebuildImage
from ..prepare import prepare_machine
from ..run import convert, go_back
from ..torn import mend
from .report import points_text

_SHOWN = 12


def check(args: Namespace) -> int:
    """`convert check`: a line a point; exit code 0, 1 with warnings, 3 if it cannot be done."""
    try:
        with _looked_at(args) as root:
            found = points.points(_facts(args, root))
    except UnsupportedRootError as error:  # that it is no ext4 is the answer, as for a mounted one
        cut_off = mend.advice(devices.find(args.device)) if args.device else ""
        found = (Point("filesystem", Verdict.REFUSED, error.message, cut_off or error.hint),)
    except RefusedError as error:
        found = _without_system(args, error)
    verdict = worst(found)
    if args.json:
        rows = [point.to_json() for point in found]
        session.print_json({"verdict": verdict.value, "points": rows})
    else:
        print(points_text(found))
    return exit_code(found)


def _without_system(args: Namespace, reason: RefusedError) -> tuple[Point, ...]:
    """Return the points of a filesystem alone, and why its system cannot be looked at.

    Raises the reason where it is not known which filesystem is meant.
    """
    device = devices.find(args.device) if args.device else machine.device_on(args.root)
    if not device:
        raise reason
    kind = devices.probe(device).get("TYPE", "")
    # One that is mounted is not clean, and need not be.
    in_use = mounted.is_mounted_anywhere(device)
    volume = gather.look(device, kind, is_mounted=in_use, now=datetime.now(timezone.utc))
    why = Point("system", Verdict.REFUSED, reason.message, reason.hint)
    return (*points.of_volume(volume), why)


def prepare(args: Namespace) -> int:
    """`convert prepare`: everything that can be done while the root is ext4 and in use."""
    session.refuse_device(args)
    with machine.opened(args.root) as root, prepare_machine.locked(root):
        prepare_machine.refuse_read_only(root)
        if root.mount.fstype == "ext4":
            prepare_machine.refuse_prepared(root.root)
        known = _facts(args, root)
        now = datetime.now(timezone.utc)
        found = points.points(known)
        # A rescue system brings its own.
        elsewhere = () if args.at_next_boot else ("btrfs-progs",)
        convert.refuse([p for p in found if p.name not in elsewhere])
        proposal = prepare_machine.propose(root, known, at_next_boot=args.at_next_boot, now=now)
        steps = proposal.preparation.steps
        warned = _unanswered(found, steps)
        answer: dict[str, Any] = {
            "warnings": [f"{point.text}. {point.advice}".strip() for point in warned],
            "steps": _steps_json(steps),
            "done": False,
        }
        if proposal.not_chosen:
            answer["warnings"].append(
                f"the next boot cannot be chosen from here: {proposal.not_chosen}. Choose this in"
                f" the menu then: {prepare_machine.TITLE}"
            )
        if not args.json:
            for warning in answer["warnings"]:
                print(f"Warning: {report.clean(warning)}\n")
            print("What is done, all of it while the root is ext4, and taken back by"
                  " 'fs-rollback convert abort':")  # fmt: skip
            _print_steps(steps)
        if args.dry_run:
            return _answer(args, answer, "This was a dry run: nothing was changed.")
        _ask_for_backup(args, known.device)
        if not session.confirm("Prepare the conversion?", yes=args.yes):
            return _answer(args, answer, "Nothing was changed.", code=1)
        with executor.finishing():
            reason = prepare_machine.carry_out(root, proposal, _observer(len(steps)))
            answer.update(done=True, sheet=proposal.sheet, next_boot=reason or None)
            return _answer(args, answer, _prepared(proposal, reason))


def _unanswered(found: Sequence[Point], steps: Sequence[PreparingStep]) -> list[Point]:
    """Return the warnings that no step sees to; the one of the backup is asked for."""
    rebuilt = {f"/{step.path}" for step in steps if isinstance(step, RebuildImage)}
    warned = [point for point in found if point.verdict is not Verdict.OK]
    return [p for p in warned if p.name != "backup" and p.path not in rebuilt]


def _prepared(proposal: prepare_machine.Proposal, reason: str) -> str:
    lines = [
        proposal.sheet,
        f"This sheet is /{SHEET} too: print it, or copy it to another machine, now.",
    ]
    if proposal.preparation.converter is None:
        lines.append("Prepared. Now boot a rescue system and follow the sheet, from 1.")
    elif reason:
        lines.append(f"The next boot cannot be chosen from here: {reason}.")
        lines.append(f"Prepared. Now reboot, and choose this in the menu: {prepare_machine.TITLE}")
    else:
        lines.append("Prepared. Now reboot: that boot converts the root, then goes on.")
    return "\n".join(lines)


def run(args: Namespace) -> int:
    """`convert run`: from a rescue system, or before the root is mounted."""
    if args.device is None:
        raise UsageError("which device is meant?", hint="Say --device DEV, or --device UUID=....")
    require_root()
    offline.take_own_mounts()
    device = devices.find(args.device)
    readonly_mount.refuse_in_use(device)
    if args.back:
        return _run_back(args, device)
    _ask_for_backup(args, device)
    question = f"Convert the root on {device} to btrfs, or go on with it?"
    if not devices.probe(device).get("TYPE"):
        question = (
            f"{device} is neither ext4 nor btrfs. If a conversion was cut off, the ext4 that it"
            " saved is given back, and what else was on it is lost. Go on?"
        )
    if not session.confirm(question, yes=args.yes):
        print("Nothing was changed.")
        return 1
    # Not to be interrupted: what comes meanwhile is forgotten, and the code is true.
    with executor.finishing():
        if convert.run(device, session.note):
            text = f"Converted: {device} is btrfs. When it is booted: 'fs-rollback convert finish'."
        else:
            text = f"{device} was converted before: there is nothing to do."
        with suppress(OSError):
            print(text, flush=True)
    return 0


def _run_back(args: Namespace, device: str) -> int:
    if mend.is_damaged(device):
        session.note(
            f"{device} has neither an ext4 nor a whole btrfs: if neither a conversion nor a way"
            " back was cut off, what was written since the conversion is lost, and cannot be listed"
        )
        if not session.confirm(f"Make {device} the ext4 that it was?", yes=args.yes):
            print("Nothing was changed.")
            return 1
    with executor.finishing():
        if go_back.resume(device, session.note):
            print(f"{device} is ext4 again: the way back had been cut off.")
            return 0
    lost = go_back.look(device)
    print("What was written since the conversion is lost:")
    for path in lost.paths[:_SHOWN]:
        print(f"  {report.clean(path)}")
    if len(lost.paths) > _SHOWN:
        print(f"  ... and {len(lost.paths) - _SHOWN} more")
    if not lost.all_known:
        print("  (and what cannot be told)")
    elif not lost.paths:
        print("  nothing")
    if not session.confirm(f"Make {device} ext4 again?", yes=args.yes):
        print("Nothing was changed.")
        return 1
    with executor.finishing():
        go_back.back(device, session.note)
    print(f"{device} is ext4 again, as it was when it was converted. When it is booted:"
          " 'fs-rollback convert abort' takes back what prepare did.")  # fmt: skip
    if lost.converts_again:
        print("If the boot that converts was chosen and not used yet, the next boot is that one:"
              " choose another entry in the menu.")  # fmt: skip
    return 0


def abort(args: Namespace) -> int:
    """`convert abort`: the machine as before `convert prepare`."""
    session.refuse_device(args)
    with machine.opened(args.root) as root, prepare_machine.locked(root):
        prepare_machine.refuse_read_only(root)
        preparation = state.read(root.root)
        if preparation is None:
            if root.mount.fstype == "ext4" and not args.dry_run:
                prepare_machine.remove_leftovers(root)  # of one that was cut off at its very end
            raise RefusedError("nothing is prepared here", hint="There is nothing to take back.")
        if root.mount.fstype != "ext4" or preparation.stage is Stage.CONVERTED:
            raise RefusedError(
                "the root is btrfs already: this takes back only what was prepared",
                hint=f"Back to ext4: from a rescue system, 'fs-rollback convert run --back --device"
                f" UUID={preparation.uuid}'. To stay: 'fs-rollback convert finish'."
                if os.path.lexists(os.path.join(root.root, SAVED))
                else "The old ext4 was deleted: there is no way back. What is left does"
                " 'fs-rollback convert finish'.",
            )
        mend.refuse_overwritten(root.device)
        steps = tuple(reversed(preparation.steps))
        answer: dict[str, Any] = {"steps": _steps_json(steps), "done": False}
        if not args.json:
            print("What 'fs-rollback convert prepare' did, and is taken back:")
            _print_steps(steps)
        if args.dry_run:
            return _answer(args, answer, "This was a dry run: nothing was changed.")
        if not session.confirm("Take the preparation back?", yes=args.yes):
            return _answer(args, answer, "Nothing was changed.", code=1)
        with executor.finishing():
            prepare_machine.take_back(root, preparation)
            answer["done"] = True
            return _answer(args, answer, "Taken back: the machine is as before.")


@contextmanager
def _looked_at(args: Namespace) -> Iterator[Ext4Machine]:
    """Open the system of --root, or that of --device, which is mounted to be looked at."""
    if args.device is None:
        with machine.opened(args.root) as found:
            yield found
        return
    looked_at = looking_at.mounted_to_look(args.device, session.note)
    with looked_at as (root, device), machine.opened(root, device) as found:
        yield found


def _facts(args: Namespace, root: Ext4Machine) -> Facts:
    return gather.gather(root, backup=args.have_backup, now=datetime.now(timezone.utc))


def _ask_for_backup(args: Namespace, device: str) -> None:
    """Have the backup answered for, with a word. Raises UsageError, RefusedError."""
    if args.have_backup:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            "nobody is there to say that there is a backup",
            hint="Use --have-backup where you know it.",
        )
    print(
        f"This rewrites what all data on {device} hangs on. Is there a backup on another disk, and"
        " have you read something back from it? Type 'I have': ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    if sys.stdin.readline().strip().strip("'\"").lower() != "i have":
        raise RefusedError("without a backup nothing is done", hint="Make one first.")


def _steps_json(steps: Sequence[PreparingStep]) -> list[dict[str, Any]]:
    return [
        {
            "step": type(step).__name__,
            "sentence": step.describe(),
            **dataclasses.asdict(step),  # type: ignore[call-overload]
        }
        for step in steps
    ]


def _print_steps(steps: Sequence[PreparingStep]) -> None:
    for number, step in enumerate(steps, start=1):
        print(f" {number:2}. {report.clean(step.describe())}")
    print()


def _observer(count: int) -> prepare_machine.Observer:
    def observe(moment: executor.Moment, number: int, step: PreparingStep) -> None:
        if moment is executor.Moment.BEFORE and sys.stderr.isatty():
            session.note(f"step {number + 1} of {count}: {report.clean(step.describe())}")

    return observe


def _answer(args: Namespace, answer: dict[str, Any], text: str, *, code: int = 0) -> int:
    if args.json:
        session.print_json(answer)
    else:
        print(text)
    return code
