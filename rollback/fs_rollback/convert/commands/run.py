# SPDX-License-Identifier: GPL-2.0-or-later
"""`convert run`: the conversion, and the way back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...cli import command
from .actions import have_backup

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace

_SHOWN = 12


def arguments(parser: ArgumentParser) -> None:
    """Add what `convert run` takes."""
    parser.add_argument(
        "--back", action="store_true", help="return to ext4, as it was before the conversion"
    )
    have_backup(parser)
    command.yes(parser)


def run(args: Namespace) -> int:
    """`convert run`: from a rescue system, or before the root is mounted."""
    from contextlib import suppress

    from ...cli import session
    from ...errors import UsageError, require_root
    from ...system.execute import executor
    from ...system.linux import devices
    from ...system.root import offline
    from ..disk import readonly_mount
    from ..run import convert
    from . import dialogue

    if args.device is None:
        raise UsageError("no device given", hint="Use --device DEV, or --device UUID=....")
    require_root()
    offline.take_own_mounts()
    device = devices.find(args.device)
    readonly_mount.refuse_in_use(device)
    if args.back:
        return _run_back(args, device)
    dialogue.ask_for_backup(args, device)
    question = f"Convert the root on {device} to btrfs, or continue an interrupted conversion?"
    if not devices.probe(device).get("TYPE"):
        question = (
            f"{device} is neither ext4 nor btrfs. If a conversion was interrupted, the ext4 that it"
            " saved is restored, and everything else on the device is lost. Continue?"
        )
    if not session.confirm(question, yes=args.yes):
        print("Nothing was changed.")
        return 1
    # Not to be interrupted: what comes meanwhile is forgotten, and the code is true.
    with executor.finishing():
        if convert.run(device, session.note):
            text = (
                f"Converted: {device} is btrfs. After booting it, run 'fs-rollback convert finish'."
            )
        else:
            text = f"{device} was converted before: there is nothing to do."
        with suppress(OSError):  # whether or not anybody reads it
            print(text, flush=True)
    return 0


def _run_back(args: Namespace, device: str) -> int:
    from ... import report
    from ...cli import session
    from ...system.execute import executor
    from ..run import go_back
    from ..torn import mend

    if mend.is_damaged(device):
        session.note(
            f"{device} has neither an ext4 nor a complete btrfs. Unless a conversion or a return to"
            " ext4 was interrupted, everything written since the conversion is lost, and cannot be"
            " listed"
        )
        if not session.confirm(
            f"Make {device} ext4 again, as it was before the conversion?", yes=args.yes
        ):
            print("Nothing was changed.")
            return 1
    with executor.finishing():
        if go_back.resume(device, session.note):
            print(f"{device} is ext4 again: the interrupted return to ext4 was completed.")
            return 0
    lost = go_back.look(device)
    print("Everything written since the conversion is lost:")
    for path in lost.paths[:_SHOWN]:
        print(f"  {report.clean(path)}")
    if len(lost.paths) > _SHOWN:
        print(f"  ... and {len(lost.paths) - _SHOWN} more")
    if not lost.all_known:
        print("  (and more that cannot be listed)")
    elif not lost.paths:
        print("  nothing")
    if not session.confirm(f"Make {device} ext4 again?", yes=args.yes):
        print("Nothing was changed.")
        return 1
    with executor.finishing():
        go_back.back(device, session.note)
    print(f"{device} is ext4 again, as it was before the conversion. After booting it, 'fs-rollback"
        " convert abort' undoes what prepare did.")  # fmt: skip
    if lost.converts_again:
        print("If the boot entry that converts is still set for the next boot, choose another"
            " entry in the boot menu.")  # fmt: skip
    return 0


_HELP = "convert the prepared root on --device, which must not be mounted"
COMMAND = command.Command(_HELP, arguments, run, on_device=False, on_own_root=False)
