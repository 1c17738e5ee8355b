# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert abort`: the way back from `convert prepare`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ...cli import command

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace


def arguments(parser: ArgumentParser) -> None:
    """Add what `convert abort` takes."""
    command.yes(parser)
    command.dry_run(parser)
    command.json(parser)


def run(args: Namespace) -> int:
    """`convert abort`: the machine as before `convert prepare`."""
    from ... import report
    from ...cli import session
    from ...core.boot.conversion_state import Stage
    from ...errors import RefusedError
    from ...system.execute import executor
    from ..machine import machine
    from ..plan import state
    from ..plan.plan import SAVED
    from ..prepare import prepare_machine
    from ..torn import mend
    from . import dialogue

    session.refuse_device(args)
    with machine.opened(args.root) as root, prepare_machine.locked(root):
        prepare_machine.refuse_read_only(root)
        preparation = state.read(root.root)
        if preparation is None:
            if root.mount.fstype == "ext4" and not args.dry_run:
                prepare_machine.remove_leftovers(root)  # of one that was cut off at its very end
            raise RefusedError("nothing is prepared here", hint="There is nothing to undo.")
        if root.mount.fstype != "ext4" or preparation.stage is Stage.CONVERTED:
            raise RefusedError(
                "the root is already btrfs: this command undoes only the preparation",
                hint=(
                    "To return to ext4, from a rescue system: 'fs-rollback convert run --back"
                    f" --device UUID={preparation.uuid}'. To stay with btrfs: 'fs-rollback convert"
                    " finish'."
                )
                if os.path.lexists(os.path.join(root.root, SAVED))
                else (
                    "The old ext4 was deleted: there is no way back. 'fs-rollback convert finish'"
                    " does the rest."
                ),
            )
        mend.refuse_overwritten(root.device)
        steps = tuple(reversed(preparation.steps))
        answer: dict[str, Any] = {"steps": report.steps_json(steps), "done": False}
        if not args.json:
            print("This undoes what 'fs-rollback convert prepare' did:")
            dialogue.print_steps(steps)
        if args.dry_run or not session.confirm("Undo the preparation?", yes=args.yes):
            return session.unchanged(args, answer)
        with executor.finishing():
            prepare_machine.take_back(root, preparation)
            answer["done"] = True
            return session.reply(args, answer, "Undone: the machine is as before.")


_HELP = "undo what prepare has done, while the root is still ext4"
COMMAND = command.Command(_HELP, arguments, run, on_device=False, on_own_root=False)
